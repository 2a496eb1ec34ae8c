"""One run folder, one run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from alignzoo.lock import FILE, InUse, locked

HOLD = "import sys, time; from pathlib import Path; from alignzoo.lock import locked\n"
HOLD += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def test_a_second_one_is_told_who_is_there(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(InUse, match=rf"is in use by process {os.getpid()} on .*: wait for it"):
        locked(tmp_path).__enter__()
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


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
