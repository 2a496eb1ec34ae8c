"""One run folder, one run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from alignzoo.system.lock import FILE, InUse, locked

HOLD = "import sys, time; from pathlib import Path; from alignzoo.system.lock import locked\n"
HOLD += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def test_a_second_one_is_told_who_is_there(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(InUse, match=rf"is in use by process {os.getpid()} on .*: wait for it"):
        locked(tmp_path).__enter__()
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_owner_that_finishes_while_it_is_asked_for_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with locked(tmp_path):

        def refused(*words: object) -> None:
            (tmp_path / FILE).unlink()
            raise BlockingIOError

        monkeypatch.setattr("fcntl.flock", refused)
        with pytest.raises(InUse, match=rf"is in use by process {os.getpid()} on"):
            locked(tmp_path).__enter__()


def test_many_that_come_and_go_hold_it_one_at_a_time_and_all_get_it(tmp_path: Path) -> None:
    """Threads stand for processes: a lock belongs to the file as each has opened it."""
    inside: list[int] = []

    def come_and_go(number: int) -> int:
        entered = 0
        while entered < 100:
            with suppress(InUse), locked(tmp_path):
                inside.append(number)
                assert inside == [number]
                inside.pop()
                entered += 1
        return entered

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(come_and_go, range(8))) == 800


def test_it_dies_with_its_process(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InUse, match=f"process {holder.pid} on"):
        locked(tmp_path).__enter__()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / FILE).exists()
    with locked(tmp_path):
        pass


def test_a_folder_on_a_file_system_without_locks_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*words: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked(tmp_path):
        assert "cannot be locked (Operation not supported)" in caplog.text
