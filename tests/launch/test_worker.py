"""A worker whose launching process was killed before it could ask to go with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process is not told of its parent's end")
def test_a_worker_without_its_parent_ends_before_it_does_anything(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(f"parent: {os.getppid()}\nfolder: {tmp_path}\n")  # which is not the parent of what is started here
    done = subprocess.run(
        [sys.executable, "-m", "alignzoo.launch.worker", str(job)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert list(tmp_path.iterdir()) == [job]
