"""Environment variables are what they were before, whatever a piece of work did to them."""

from __future__ import annotations

import os

import pytest

from alignzoo.system.environment import restore_environment

NAME = "ALIGNZOO_TEST_VARIABLE"


@pytest.mark.parametrize("before", [None, "old"])
@pytest.mark.parametrize("given", [None, "new"])
def test_set_changed_and_removed_variables_are_put_back(
    monkeypatch: pytest.MonkeyPatch, before: str | None, given: str | None
) -> None:
    monkeypatch.setenv(NAME, "")
    monkeypatch.delenv(NAME) if before is None else monkeypatch.setenv(NAME, before)
    everything = dict(os.environ)
    with restore_environment(**{NAME: given}):
        assert os.environ.get(NAME) == given
    assert dict(os.environ) == everything
    with restore_environment():
        assert os.environ.get(NAME) == before
        os.environ[NAME] = "changed by a library"
        os.environ[f"{NAME}_ADDED"] = "by a library"
        del os.environ["PATH"]
    assert dict(os.environ) == everything
    with pytest.raises(KeyboardInterrupt), restore_environment(**{NAME: given}):
        raise KeyboardInterrupt
    assert dict(os.environ) == everything
