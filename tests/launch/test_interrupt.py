"""Ctrl-C says in one line what is kept and how to go on, and leaves nothing empty behind."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import QUICK
from inprocess import Outcome, run
from rich.console import Console
from stopping import PLUGIN

from alignzoo.system.signals import EXIT_CODE
from alignzoo.train import progress

WORDS = (*QUICK, "train.max_steps=4", "evaluate.shown=0")
SAVING = ("train.save_strategy=steps", "train.save_steps=1")


@pytest.fixture
def interrupted(fake_package: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Run with the words, and send this process Ctrl-C's signal as its third step begins."""
    fake_package("fake_stop", PLUGIN)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(folder: Path, *words: str, stops: str = "3") -> Outcome:
        monkeypatch.setenv("STOPS", stops)
        monkeypatch.setenv("SIGNAL", "SIGINT")
        try:
            return run(folder, *words, *WORDS)
        finally:
            signal.signal(signal.SIGINT, handler)

    return start


def said(done: Outcome) -> str:
    assert done.code == 130
    assert "Traceback" not in done.err
    (line,) = done.err.splitlines()
    return line.removeprefix("alignzoo: stopped by Ctrl-C: ")


def test_the_newest_checkpoint_and_the_command_to_resume(interrupted: Callable[..., Outcome], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    line = said(interrupted(folder, *SAVING))
    again = f"python -m alignzoo {shlex.join([*SAVING, *WORDS])} hydra.run.dir={folder} resume=auto"
    assert line == f"checkpoint 2 is kept. To resume: {again}"
    assert [path.name for path in (folder / "checkpoints").glob("checkpoint-*")] == ["checkpoint-2"]
    done = interrupted(folder, *SAVING, "resume=auto", stops="")
    assert done.code == 0, done.err
    assert done.result()["cost"]["resumed"] == [2]


def test_without_a_checkpoint_no_empty_folder_is_left(interrupted: Callable[..., Outcome], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    line = said(interrupted(folder))
    assert line.startswith(f"the metrics up to step 2 are kept in {folder}, and no checkpoint")
    assert line.endswith("The same command begins anew.")
    assert (folder / "metrics.jsonl").exists()
    assert not (folder / "checkpoints").exists()
    assert interrupted(folder, stops="").code == 0


def test_before_the_first_step_nothing_is_kept(interrupted: Callable[..., Outcome], tmp_path: Path) -> None:
    line = said(interrupted(tmp_path / "run", stops="1"))
    assert line == "nothing was trained yet, and nothing is kept. The same command begins anew."
    assert not (tmp_path / "run").exists()


def test_a_trained_model_is_kept_while_it_is_measured(
    interrupted: Callable[..., Outcome], tmp_path: Path, fake_package: Callable[..., None]
) -> None:
    code = """
import os, signal
from alignzoo import Judge, hookimpl

class Ends(Judge):
    "It ends the process that asks."
    name = "ends"
    def __call__(self, prompts, a, b):
        os.kill(os.getpid(), signal.SIGINT)
        return [0.5] * len(prompts)

@hookimpl
def alignzoo_judges():
    return [Ends]
"""
    fake_package("fake_ends", code)
    folder = tmp_path / "run"
    line = said(interrupted(folder, "judge.name=ends", "method.learning_rate=1e-2", stops=""))
    assert line == f"the trained model is kept: python -m alignzoo evaluate {folder}"
    assert (folder / "model" / "config.json").is_file()


def test_a_sweep_names_the_command_that_finishes_it(interrupted: Callable[..., Outcome], tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    done = interrupted(folder, "-m", "seed=0,1")
    words = shlex.join(["-m", "seed=0,1", *WORDS])
    again = f"python -m alignzoo {words} hydra.sweep.dir={folder} resume=auto"
    assert said(done) == f"what is finished is kept. To resume: {again}"


@pytest.mark.parametrize("end", ["Ctrl-C", "error"])
def test_a_terminal_gets_its_cursor_back(
    interrupted: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """The bar hides it while it moves."""
    shown: list[progress.Progress] = []
    bar = progress.Progress

    def noted(*columns: object, console: Console, **more: object) -> object:
        shown.append(bar(*columns, console=Console(force_terminal=True, file=sys.stderr), **more))  # type: ignore[arg-type]
        return shown[-1]

    monkeypatch.setattr(progress, "Progress", noted)
    monkeypatch.setattr(progress, "make_console", lambda: Console(force_terminal=True))
    done = interrupted(tmp_path / "run", *(("method.learning_rate=1e30",) if end == "error" else ()))
    assert done.code == (130 if end == "Ctrl-C" else 1)
    assert shown
    assert not any(each.live.is_started for each in shown)


def test_sigterm_is_answered_as_before(
    interrupted: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    monkeypatch.setenv("SIGNAL", "SIGTERM")
    monkeypatch.setenv("STOPS", "2")
    done = run(folder, *WORDS)
    assert done.code == EXIT_CODE
    assert done.err.startswith("alignzoo: stopped by SIGTERM at step 2 of 4. To resume:\n    python -m alignzoo ")
