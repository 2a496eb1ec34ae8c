"""A cache entry of any bytes is used as it was written, or named and made anew."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from fuzzing import FUZZ, Files, damaged, write_over
from hypothesis import given
from hypothesis import strategies as st

from alignzoo.system import cache
from alignzoo.system.checked_lines import CheckedLines

VERDICTS = "verdicts.jsonl"
PAIRS = {f"pair-{number}": (0.0, 0.5, 1.0)[number % 3] for number in range(9)}


def open_verdicts(folder: Path) -> CheckedLines:
    return CheckedLines(folder / VERDICTS, "pair", "verdict", "that pair is judged again")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def whole(folder: Path) -> Files:
    """What an entry holds, and a file of verdicts."""
    with cache.write_entry(folder / "entry") as made:
        (made / "rows.json").write_text('[{"text": "rain", "tokens": 3}]')
        (made / "weights").write_bytes(bytes(range(256)) * 20)
    open_verdicts(folder).append(PAIRS)
    return Files.read(folder)


@FUZZ
@given(data=st.data())
def test_a_cache_entry_of_any_bytes(folder: Path, whole: Files, data: st.DataObject) -> None:
    damage = data.draw(damaged(whole))
    for name, content in {**whole, damage.name: damage.content}.items():
        write_over(folder / name, content)
    assert open_verdicts(folder).read().items() <= PAIRS.items()
    check_entry(folder / "entry", whole)


def check_entry(entry: Path, whole: Files) -> None:
    with pytest.MonkeyPatch.context() as patch:
        warnings: list[str] = []
        patch.setattr(cache.log, "warning", lambda text, *values: warnings.append(text % values))
        found = cache.open_entry(entry)
    if found is None:
        assert [str(entry) in line for line in warnings] == [True]
        assert not entry.exists()
    else:
        assert warnings == []
        for name in ("rows.json", "weights"):
            assert (found / name).read_bytes() == whole[f"entry/{name}"]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("alignzoo.system.checked_lines"), "disabled", True)
