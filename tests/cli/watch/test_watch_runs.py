"""`watch` on folders that real runs write: while they do, and afterwards."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICK
from inprocess import call, run
from watched import begin, pick

from alignzoo import UserError
from alignzoo.cli.watch.reading import Watch
from alignzoo.train import following

WORDS = (*QUICK, "evaluate.shown=0", "train.max_steps=4", "evaluate.on_the_way=1")


@contextlib.contextmanager
def follow(folder: Path) -> Iterator[list[dict[str, Any]]]:
    """Read the folder again and again, as the page does."""
    seen: list[dict[str, Any]] = []
    ended, watch = threading.Event(), Watch(folder)

    def look() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError, UserError):  # a file went while it was read
                seen.append(watch.read())
            time.sleep(0.1)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        ended.set()
        looking.join()


def test_a_sweep_while_it_runs_and_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "EVERY", 0.0)
    folder = tmp_path / "sweep"
    with follow(folder) as seen:
        done = run(folder, "-m", *WORDS, "method=dpo,sft", "train.max_length=400,2")
    assert done.code == 1, "nothing fits into two tokens"
    states = [" ".join(pick(found["runs"], "state")) for found in seen]
    order = list(dict.fromkeys(states))
    assert "pending pending pending pending" in order
    assert "done failed running pending" in order
    running = [run for found in seen for run in found["runs"] if run["state"] == "running"]
    assert {"preparing", "training"} <= {run["phase"] for run in running}
    assert {1, 2, 3} & {run["step"] for run in running if run["phase"] == "training"}
    assert any(found["left"] for found in seen)
    watch = Watch(folder)
    found = watch.read()
    assert found["counts"] == [["done", 2], ["failed", 2]]
    assert found["is_over"]
    assert pick(found["runs"], "method") == ["dpo", "dpo", "sft", "sft"]
    assert found["runs"][1]["detail"]
    assert list(watch.read_curves()) == ["loss", "accuracy", "margin", "token accuracy", "entropy"]
    details = watch.read_run(found["runs"][0]["key"])
    assert details is not None
    whens = {version["when"] for one in details["answers"] for version in one["versions"]}
    assert "start model" in whens
    lines = (folder / "0-dpo-tiny-concise" / "answers.jsonl").read_text().splitlines()
    for one, line in zip(details["answers"], map(json.loads, lines), strict=True):
        assert one["prompt"] == line["prompt"]
        assert one["versions"][0]["text"] == line["before"]["text"]
        assert one["versions"][-1]["text"] == line["after"]["text"]


def test_a_pipeline_of_real_runs(tmp_path: Path) -> None:
    done = run(tmp_path / "pipeline", "+pipeline=sft_dpo", *WORDS, "train.max_steps=1")
    assert done.code == 0, done.err
    found = Watch(done.folder).read()
    assert (found["kind"], found["counts"], pick(found["runs"], "name")) == ("pipeline", [["done", 2]], ["sft", "dpo"])
    assert pick(found["runs"], "method") == ["sft", "dpo"]


@pytest.mark.slow
@pytest.mark.long
def test_a_study_while_it_runs_and_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    words = (*WORDS, "train.max_steps=1", "study.trials=1", "study.seeds=2", "study.underpowered=run")
    with follow(folder) as seen:
        done = call("study", "method=dpo,simpo", *words, "study.number=accuracy_sum", f"hydra.sweep.dir={folder}")
    assert done.code == 0, done.err
    counts = [json.dumps(found["counts"]) for found in seen if found["kind"] == "study"]
    assert '[["pending", 6]]' in counts
    assert '[["done", 2], ["running", 1], ["pending", 3]]' in counts
    found = Watch(folder).read()
    assert found["counts"] == [["done", 6]]
    assert pick(found["runs"], "part") == ["tune"] * 2 + ["test"] * 4
    status = call("study", "status", str(folder)).out
    assert all(line in status for line in found["answer"])
    assert "may each be the best" in found["answer"][0]


def test_the_command_serves_until_ctrl_c(tmp_path: Path) -> None:
    begin(tmp_path / "run")
    command = [sys.executable, "-u", "-m", "alignzoo", "watch", "run", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = next(word for word in process.stdout.readline().split() if word.startswith("http"))
            with urllib.request.urlopen(f"{address}/state", timeout=30) as answer:
                assert json.load(answer)["counts"] == [["stopped", 1]]
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
        assert (process.returncode, out, err) == (130, "", "")


def test_it_imports_nothing_heavy(
    alignzoo_light: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    begin(tmp_path / "run")
    done = alignzoo_light("watch", "run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kind"] == "run"
