"""Hydra's log file, which a refused run closes before its folder goes."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from alignzoo.launch.launch import _close_log

pytestmark = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")


@pytest.fixture
def full_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.FileHandler]:
    """A log file on a full disk, with a line that is not written yet."""
    monkeypatch.setattr(logging, "raiseExceptions", False)  # as in a run
    handler = logging.FileHandler("/dev/full")
    logging.getLogger().addHandler(handler)
    handler.emit(logging.makeLogRecord({"msg": "the reference is not cached"}))
    yield handler
    logging.getLogger().removeHandler(handler)


def test_a_log_on_a_full_disk_is_closed_without_an_error(full_log: logging.FileHandler) -> None:
    """The refusal has been printed: an error from here would be a second answer."""
    _close_log()
    assert full_log not in logging.getLogger().handlers
