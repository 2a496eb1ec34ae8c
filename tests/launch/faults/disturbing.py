"""Runs a command to a good end, disturbed at one of its writes, and again; all that it writes is below one folder."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from processes import Started
from stopping import same, same_group
from writes import Write, build_shim, count_in, disturb_at, read_writes

from alignzoo.system.cache import SEAL
from alignzoo.system.seal import check_seal

NEEDS_SHIM = pytest.mark.skipif(build_shim() is None, reason="needs cc, to compile tests/shims/writes.c")

#: Of a path, what another run calls otherwise, or does again.
NUMBERS = re.compile("[0-9a-f]{16,}|(?<=checkpoint-)[0-9]+|(?<=/.tmp).*")


class Place:
    """A run, pipeline or sweep with a cache of its own; all that it writes is below one folder."""

    def __init__(self, root: Path, words: Sequence[str]) -> None:
        self.root, self.words = root, words
        self.run, self.cache, self.log = root / "run", root / "cache", root.with_suffix(".log")
        root.mkdir()

    @property
    def is_group(self) -> bool:
        """Whether it is a pipeline or a sweep."""
        return "-m" in self.words or any(word.startswith("+pipeline=") for word in self.words)

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
        return self._read_log()

    def disturb(self, write: Write, how: str) -> tuple[Started, Write | None]:
        """Run it, disturbed at the write of that number; return how it ended, and which one that was, if any."""
        self.log.unlink(missing_ok=True)
        done = self.start(**disturb_at(write.number, how, self.root, self.log))
        return done, next(iter(self._read_log()), None)

    def _read_log(self) -> list[Write]:
        return [Write(one.number, one.what, one.path.relative_to(self.root)) for one in read_writes(self.log)]

    def finish(self, whole: Place) -> None:
        """Start it again, which makes it what the whole one is; no entry of the cache is found damaged."""
        last = self.start()
        assert last.ends() == 0, last.said
        assert "damaged" not in last.said
        (same_group if self.is_group else same)(self.run, whole.run)
        shutil.rmtree(self.root)


def check_entries(cache: Path) -> None:
    """Check that each entry that another process would find is whole."""
    for entry in (*cache.glob("[mr]o*/[!.]*"), *cache.glob("measured/[!.]*"), *cache.glob("reference/*/[!.]*")):
        check_seal(entry, SEAL)


def choose(chance: random.Random, writes: Sequence[Write]) -> Write:
    """Return one of the writes; what is written often, such as checkpoints, comes as seldom as anything else."""
    kinds: dict[tuple[str, str], list[Write]] = {}
    for write in writes:
        kinds.setdefault((write.what, NUMBERS.sub("", str(write.path))), []).append(write)
    return chance.choice(kinds[chance.choice([*kinds])])
