"""The words that CONTRIBUTING lists are those that people read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from repository import ROOT

FOLDERS = {"alignzoo": (".py", ".jinja"), "plugins": (".py",), "conf": (".yaml",), "docs": (".md", ".py")}


def refused() -> list[str]:
    """Return the phrases of the right column."""
    section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## Words\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[2] for line in section.splitlines() if line.count("|") == 3]
    return [phrase for row in rows for phrase in re.findall(r"`([^`]+)`", row)]


def pages() -> Iterator[Path]:
    yield ROOT / "README.md"
    for folder, endings in FOLDERS.items():
        files = (file for file in (ROOT / folder).rglob("*") if "build" not in file.parts)  # what a wheel left behind
        yield from (file for file in files if file.suffix in endings)


@pytest.mark.parametrize("phrase", refused())
def test_a_phrase_that_has_to_be_read_twice_stands_nowhere(phrase: str) -> None:
    words = re.compile(rf"\b{re.escape(phrase)}\b".replace(r"\ ", r"\s+"), re.IGNORECASE)
    found = [str(page.relative_to(ROOT)) for page in pages() if words.search(page.read_text(encoding="utf-8"))]
    assert found == []


def test_the_list_is_read() -> None:
    assert {"nats a token", "nothing reads"} <= set(refused())
