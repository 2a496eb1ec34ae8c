"""One run folder, one run."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from alignzoo.system.lock import FILE, InUse, hold_lock, is_locked, remove_left_lock

HOLD = "import sys, time; from pathlib import Path; from alignzoo.system.lock import hold_lock\n"
HOLD += "with hold_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def test_a_second_one_is_told_who_is_there(tmp_path: Path) -> None:
    with hold_lock(tmp_path), pytest.raises(InUse, match=rf"is in use by process {os.getpid()} on .*: wait for it"):
        hold_lock(tmp_path).__enter__()
    with hold_lock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_owner_that_finishes_while_it_is_asked_for_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hold_lock(tmp_path):

        def refused(*words: object) -> None:
            (tmp_path / FILE).unlink(missing_ok=True)
            raise BlockingIOError

        monkeypatch.setattr("fcntl.flock", refused)
        with pytest.raises(InUse, match=rf"is in use by process {os.getpid()} on"):
            hold_lock(tmp_path).__enter__()


def test_many_that_come_and_go_hold_it_one_at_a_time_and_all_get_it(tmp_path: Path) -> None:
    """Threads stand for processes: a lock belongs to the file as each has opened it."""
    inside: list[int] = []

    def come_and_go(number: int) -> int:
        entered = 0
        while entered < 100:
            with suppress(InUse), hold_lock(tmp_path):
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
        hold_lock(tmp_path).__enter__()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / FILE).exists()
    remove_left_lock(tmp_path)
    assert not (tmp_path / FILE).exists()


def test_a_lock_that_is_held_is_not_one_that_was_left(tmp_path: Path) -> None:
    with hold_lock(tmp_path):
        remove_left_lock(tmp_path)
        assert is_locked(tmp_path)
    remove_left_lock(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_on_a_file_system_without_locks_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*words: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    with hold_lock(tmp_path):
        assert "cannot be locked (Operation not supported)" in caplog.text


@pytest.mark.parametrize("next_one", [False, True], ids=["gone", "another's"])
def test_a_lock_of_a_file_that_was_removed_meanwhile_locks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, next_one: bool
) -> None:
    """The owner finishes after this one has opened its file and before it locks it."""
    real = fcntl.flock

    def late(*words: Any) -> None:
        (tmp_path / FILE).unlink()
        if next_one:
            (tmp_path / FILE).touch()
        real(*words)

    monkeypatch.setattr("fcntl.flock", late)
    with pytest.raises(InUse, match="was in use until this moment: start again"):
        hold_lock(tmp_path).__enter__()


def test_whether_it_is_locked_is_seen_without_writing(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "nowhere")
    assert not is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / FILE).write_text("process 1 on a machine that was killed")
    (tmp_path / FILE).chmod(0o400)
    before = (tmp_path / FILE).stat()
    assert not is_locked(tmp_path)
    assert (tmp_path / FILE).stat() == before
    (tmp_path / FILE).unlink()
    with hold_lock(tmp_path):
        owner = (tmp_path / FILE).read_text()
        assert is_locked(tmp_path)
        assert is_locked(tmp_path)
        assert (tmp_path / FILE).read_text() == owner
    assert not is_locked(tmp_path)


def test_who_starts_while_somebody_looks_is_not_refused(tmp_path: Path) -> None:
    with (tmp_path / FILE).open("w") as stream, ThreadPoolExecutor(1) as pool:
        fcntl.flock(stream, fcntl.LOCK_SH)  # the instant of `is_locked`, made longer
        lock = hold_lock(tmp_path)
        started = pool.submit(lock.__enter__)
        with pytest.raises(TimeoutError):
            started.result(0.1)
        fcntl.flock(stream, fcntl.LOCK_UN)
        started.result(10)
        assert is_locked(tmp_path)


def test_two_that_start_while_somebody_looks_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with (tmp_path / FILE).open("w") as stream, ThreadPoolExecutor(2) as pool:
        fcntl.flock(stream, fcntl.LOCK_SH)
        locks = [hold_lock(tmp_path) for _ in range(2)]
        started = [pool.submit(lock.__enter__) for lock in locks]
        time.sleep(0.1)
        fcntl.flock(stream, fcntl.LOCK_UN)
        refused = [one for one in started if one.exception(10) is not None]
        assert [type(one.exception()) for one in refused] == [InUse]
