"""What plugins may rely on does not change by accident."""

from __future__ import annotations

import difflib
import importlib.metadata
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from public_api import GOLDEN, interface

import alignzoo
from alignzoo.config.trl_fields import warn_untested_trl
from alignzoo.plugin.loading import find_unmet_requirement


def test_the_public_interface_is_the_one_that_was_agreed_on() -> None:
    written = GOLDEN.read_text(encoding="utf-8")
    changes = "\n".join(
        difflib.unified_diff(written.splitlines(), interface().splitlines(), "agreed", "now", lineterm="")
    )
    assert not changes, (
        f"the public interface changed:\n{changes}\nIf that is meant, run `python tests/public_api.py --write` "
        "and write the change into CHANGELOG.md."
    )


def test_all_that_is_exported_is_in_it() -> None:
    text = interface()
    for name in alignzoo.__all__:
        assert f"class {name}(" in text or f"\n{name} = " in text or f"def {name}(" in text, name


@pytest.fixture
def fresh() -> Iterator[None]:
    warn_untested_trl.cache_clear()
    yield
    warn_untested_trl.cache_clear()


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("version", "said"), [("1.16.0", 0), ("1.16.9", 0), ("1.15.2", 1), ("1.17.0", 1), ("2.0.0", 1)]
)
def test_a_trl_outside_the_range_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, version: str, said: int
) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version if name == "trl" else real(name))
    with caplog.at_level(logging.WARNING, logger="alignzoo"):
        warn_untested_trl()
        warn_untested_trl()
    assert len(caplog.messages) == said
    if said:
        assert caplog.messages[0].startswith(f"TRL {version} is installed, and alignzoo is tested with ")
        assert "pip install 'trl<1.17,>=1.16'" in caplog.messages[0]


class Requiring(importlib.metadata.Distribution):
    """A distribution with these lines in its metadata, which lie in a file of this name."""

    def __init__(self, *lines: str, file: str = "METADATA") -> None:
        self.lines, self.file = lines, file

    def read_text(self, filename: str) -> str | None:
        return "".join(f"Requires-Dist: {line}\n" for line in self.lines) if filename == self.file else None

    def locate_file(self, path: object) -> Path:
        raise FileNotFoundError


@pytest.mark.parametrize(
    ("line", "unmet"),
    [
        ("alignzoo>=0.1,<0.2", None),
        ("alignzoo", None),
        ("alignzoo>=9", "alignzoo>=9"),
        ("alignzoo (<0.1)", "alignzoo<0.1"),
        ("alignzoo[optuna]>=9", "alignzoo>=9"),
        ("alignzoo-slic>=9", None),
        ('alignzoo>=9; extra == "x"', None),
        ("alignzoo==nonsense", None),
    ],
)
@pytest.mark.parametrize("file", ["METADATA", "PKG-INFO"])
def test_a_plugins_requirement_on_alignzoo_is_read(line: str, unmet: str | None, file: str) -> None:
    assert find_unmet_requirement(Requiring("torch>=2", line, file=file), "alignzoo", "0.1.0") == unmet
