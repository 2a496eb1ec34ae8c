"""Faults at single writes: the disk is full at one of them, or the process is killed in the middle of one."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest
from cells import WRITING, Report, divide
from disturbing import NEEDS_SHIM, Place, check_entries, choose
from processes import Started
from writes import TAKES_ROOM, Write

pytestmark = [pytest.mark.faults, NEEDS_SHIM]

FIXES = ("Free some", "free some", "set ")  #: of which a message has one


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    is_full = metafunc.function is test_a_full_disk_at_one_write
    divide(metafunc, [name for name in WRITING if name.startswith("full") == is_full])


@pytest.fixture
def whole(cell: str, tmp_path: Path) -> Place:
    return Place(tmp_path / "whole", WRITING[cell])


def check_answer(place: Place, done: Started, folders: tuple[Path, ...]) -> None:
    """Check that a run which a full disk has ended says so in a line or two: in which folder, and what to do."""
    assert done.ends() in (0, 1), done.said
    assert "Traceback" not in done.said, done.said
    if done.ends() == 0:
        return
    found = re.findall(r"^alignzoo: .*\n?.*", done.said, re.MULTILINE)
    told = [text for text in found if any(str(f) in text for f in folders) and any(fix in text for fix in FIXES)]
    assert told, done.said
    assert len(found) == 1 or place.is_group, done.said


def test_a_full_disk_at_one_write(
    cell: str, wanted: int, tmp_path: Path, whole: Place, chance: random.Random, report_faults: Report
) -> None:
    writes = [write for write in whole.count() if write.what in TAKES_ROOM]
    seen, runs = Counter[str](), 0
    while seen.total() < wanted:
        place, runs = Place(tmp_path / f"place-{runs}", whole.words), runs + 1
        write, how = choose(chance, writes), chance.choice(("once", "full"))
        done, met = place.disturb(write, how)
        print(f"{how}: {met}")  # shown where it fails
        check_answer(place, done, list_folders(place, met, how))
        place.finish(whole)
        seen[f"{how} at {write.what}"] += met is not None
    report_faults(f"{cell}, one of {len(writes)} writes", seen, f"in {runs} runs, all the same bit for bit")


def list_folders(place: Place, met: Write | None, how: str) -> tuple[Path, ...]:
    """Return the folders of which a message names one: that of the write; if the disk stays full, any."""
    if met is None or how == "full":
        return place.run, place.cache
    return (place.root / met.path.parts[0],)


def test_a_kill_at_one_write_of_the_cache(
    wanted: int, tmp_path: Path, whole: Place, chance: random.Random, report_faults: Report
) -> None:
    found = [write for write in whole.count() if write.path.parts[0] == "cache" and len(write.path.parts) > 1]
    folders = sorted({write.path.parts[1] for write in found})
    assert folders == ["measured", "models", "reference", "rows"]
    seen, runs = Counter[str](), 0
    while seen.total() < wanted:
        place, runs = Place(tmp_path / f"place-{runs}", whole.words), runs + 1
        folder = chance.choice(folders)
        done, met = place.disturb(choose(chance, [one for one in found if one.path.parts[1] == folder]), "kill")
        assert done.ends() == (-9 if met else 0), done.said
        check_entries(place.cache)
        place.finish(whole)
        seen[folder] += met is not None
    report_faults(f"cache, one of {len(found)} writes", seen, f"in {runs} runs, all the same bit for bit")
