"""The store of log-probabilities: what is added is found, by any process, whatever happens to a file."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import DAMAGES

from alignzoo.train.reference.store import KEY, LogProbs


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path))
    return tmp_path


def keys(*numbers: int) -> np.ndarray[Any, Any]:
    return np.array([number.to_bytes(16, "little") for number in numbers], KEY)


def values(*numbers: float) -> np.ndarray[Any, Any]:
    return np.array(numbers, np.float32)


def test_what_was_added_is_found_by_model_and_sequence() -> None:
    LogProbs("a").add(keys(3, 1, 2), values(-3.5, -1.5, -2.5))
    LogProbs("a").add(keys(9), values(-9.5))
    found = LogProbs("a").look_up(keys(1, 9, 7, 3))
    assert np.array_equal(found, values(-1.5, -9.5, np.nan, -3.5), equal_nan=True)
    assert np.isnan(LogProbs("b").look_up(keys(1))).all()


def test_what_is_not_finite_is_not_kept() -> None:
    store = LogProbs("a")
    store.add(keys(1, 2, 3), values(np.nan, -np.inf, -3.0))
    assert np.array_equal(np.isfinite(LogProbs("a").look_up(keys(1, 2, 3))), [False, False, True])


def test_a_process_that_does_not_save_still_knows(own_cache: Path) -> None:
    store = LogProbs("a")
    store.add(keys(1), values(-1.0), save=False)
    assert store.look_up(keys(1)) == [-1.0]
    assert list(own_cache.rglob("*.npz")) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_named_removed_and_computed_again(
    damage: str, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    LogProbs("a").add(keys(1), values(-1.0))
    (file,) = own_cache.rglob("*.npz")
    DAMAGES[damage](file)
    store = LogProbs("a")
    assert np.isnan(store.look_up(keys(1))).all()
    assert [str(file.parent) in line for line in caplog.messages] == [True]
    assert not file.parent.exists()
    store.add(keys(1), values(-1.0))
    assert LogProbs("a").look_up(keys(1)) == [-1.0]


def test_a_full_disk_or_a_cleared_cache_costs_no_run(own_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = LogProbs("a")
    store.folder.parent.rmdir()
    store.folder.parent.write_text("no folder")
    store.add(keys(1), values(-1.0))
    assert store.look_up(keys(1)) == [-1.0]
    assert "1 log-probabilities were not cached" in caplog.text


def test_reading_makes_an_entry_young() -> None:
    store = LogProbs("a")
    store.add(keys(1), values(-1.0))
    (entry,) = store.folder.iterdir()
    os.utime(entry, (0, 0))
    LogProbs("a").look_up(keys(2))
    assert entry.stat().st_mtime == 0, "nothing of it was used"
    LogProbs("a").look_up(keys(1))
    assert time.time() - entry.stat().st_mtime < 60


WRITER = """
import sys
import numpy as np
from alignzoo.train.reference.store import KEY, LogProbs
for first in range(0, 200, 10):
    numbers = [(7 * int(sys.argv[1]) + first + n) % 300 for n in range(10)]
    keys = np.array([n.to_bytes(16, "little") for n in numbers], KEY)
    LogProbs("a").add(keys, np.array(numbers, np.float32))
"""


def test_several_processes_write_at_once(own_cache: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(number)]) for number in range(4)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0, 0]
    wanted = {(7 * writer + n) % 300 for writer in range(4) for n in range(200)}
    found = LogProbs("a").look_up(keys(*wanted))
    assert found.tolist() == [float(number) for number in wanted]
    assert [file.name for file in own_cache.rglob(".*")] == [], "nothing half written is left"
