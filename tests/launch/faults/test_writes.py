"""Faults at single writes: the disk is full at one of them, or the process is killed in the middle of one."""

from __future__ import annotations

import random
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from cells import WRITING, Report, divide
from processes import Started
from stopping import same, same_group
from writes import TAKES_ROOM, Write, build_shim, count_in, disturb_at, read_writes

from alignzoo.system.cache import SEAL
from alignzoo.system.seal import check_seal

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(build_shim() is None, reason="needs cc, to compile tests/shims/writes.c"),
]

FIXES = ("Free some", "set ", "point ")  #: of which a message has one


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    is_full = metafunc.function is test_a_full_disk_at_one_write
    divide(metafunc, [name for name in WRITING if name.startswith("full") == is_full])


class Place:
    """A run, pipeline or sweep with a cache of its own; all that it writes is below one folder."""

    def __init__(self, root: Path, words: Sequence[str]) -> None:
        self.root, self.words = root, words
        self.run, self.cache, self.log = root / "run", root / "cache", root.with_suffix(".log")
        root.mkdir()

    def start(self, **variables: str) -> Started:
        """Run it to its end, whatever that is."""
        output = self.root.with_suffix(".out")
        started = Started(self.run, *self.words, output=output, ALIGNZOO_CACHE=str(self.cache), **variables)
        started.ends()
        return started

    def count(self) -> list[Write]:
        """Run it to its good end, and return what it wrote; the folder in which it did is taken off."""
        done = self.start(**count_in(self.root, self.log))
        assert done.ends() == 0, done.said
        return [Write(one.number, one.what, one.path.relative_to(self.root)) for one in read_writes(self.log)]

    def disturb(self, write: Write, how: str) -> tuple[Started, bool]:
        """Run it, disturbed at one write; return how it ended, and whether it came to that write."""
        self.log.unlink(missing_ok=True)
        done = self.start(**disturb_at(write.number, how, self.root, self.log))
        return done, bool(read_writes(self.log))

    def finish(self, whole: Place) -> None:
        """Start it again, which makes it what the whole one is; no entry of the cache is found damaged."""
        last = self.start()
        assert last.ends() == 0, last.said
        assert "damaged" not in last.said
        (same if (whole.run / "run.yaml").exists() else same_group)(self.run, whole.run)
        shutil.rmtree(self.root)


@pytest.fixture
def whole(cell: str, tmp_path: Path) -> Place:
    return Place(tmp_path / "whole", WRITING[cell])


def check_answer(place: Place, done: Started) -> None:
    """Check that a run that a full disk has ended says so in a line or two: which folder, and what to do."""
    assert done.ends() in (0, 1), done.said
    assert "Traceback" not in done.said, done.said
    if done.ends() == 0:
        return
    found = re.findall(r"^alignzoo: .*\n?.*", done.said, re.MULTILINE)
    told = [text for text in found if str(place.root) in text and any(fix in text for fix in FIXES)]
    assert told, done.said
    assert len(found) == 1 or not (place.run / "run.yaml").exists(), done.said


def test_a_full_disk_at_one_write(
    cell: str, wanted: int, tmp_path: Path, whole: Place, chance: random.Random, report_faults: Report
) -> None:
    writes = [write for write in whole.count() if write.what in TAKES_ROOM]
    seen, runs = Counter[str](), 0
    while seen.total() < wanted:
        place, runs = Place(tmp_path / f"place-{runs}", whole.words), runs + 1
        write, how = chance.choice(writes), chance.choice(("once", "full"))
        done, met = place.disturb(write, how)
        try:
            check_answer(place, done)
            place.finish(whole)
        except BaseException:
            print(f"{how}, {write}\n{done.said}")
            raise
        seen[f"{how} at {write.what}"] += met
    report_faults(f"{cell}, one of {len(writes)} writes", seen, f"in {runs} runs, all the same bit for bit")


def check_entries(cache: Path) -> None:
    """Check that each entry that another process would find is whole."""
    for entry in (*cache.glob("[mr]o*/[!.]*"), *cache.glob("measured/[!.]*"), *cache.glob("reference/*/[!.]*")):
        check_seal(entry, SEAL)


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
        write = chance.choice([write for write in found if write.path.parts[1] == folder])
        done, met = place.disturb(write, "kill")
        assert done.ends() == (-9 if met else 0), done.said
        check_entries(place.cache)
        place.finish(whole)
        seen[folder] += met
    report_faults(f"cache, one of {len(found)} writes", seen, f"in {runs} runs, all the same bit for bit")
