"""A run folder that is removed while its run is running: one line and exit code 1, and no half folder comes back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import QUICK
from inprocess import run

from alignzoo.runs.watch import FolderWatch
from alignzoo.system.errors import UserError
from alignzoo.system.lock import FILE, InUse, hold_lock

WORDS = (
    *QUICK,
    "method=dpo",
    "train.max_steps=4",
    "evaluate.shown=0",
    "train.save_strategy=steps",
    "train.save_steps=1",
)

#: Removes the folder of the run whose seed is 1, or what one sees of it, at an event of its training.
REMOVING = """
import os, shutil
from pathlib import Path
from alignzoo import hookimpl


@hookimpl
def alignzoo_callbacks(cfg):
    from transformers import TrainerCallback

    class Remove(TrainerCallback):
        def act(self, args, state, control, **kwargs):
            if cfg.seed != 1 or state.global_step < 2:
                return
            run = Path(args.output_dir).parent
            for path in [run] if "WHOLE" in os.environ else list(run.glob("[!.]*")):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    setattr(Remove, os.environ["EVENT"], Remove.act)
    return [Remove()]
"""

Install = Callable[..., None]


@pytest.mark.parametrize(
    ("event", "whole"), [("on_step_end", True), ("on_save", True), ("on_train_end", True), ("on_step_end", False)]
)
def test_a_run_ends_in_one_line_and_leaves_no_half_folder(
    tmp_path: Path, fake_package: Install, monkeypatch: pytest.MonkeyPatch, event: str, whole: bool
) -> None:
    fake_package("fake_removing", REMOVING)
    monkeypatch.setenv("EVENT", event)
    if whole:
        monkeypatch.setenv("WHOLE", "1")
    done = run(tmp_path / "run", *WORDS, "seed=1")
    assert done.code == 1
    said = f"alignzoo: {tmp_path / 'run'} was removed during the run, and what it held is lost: start it again.\n"
    assert done.err.endswith(said)
    assert "Traceback" not in done.err
    assert not (tmp_path / "run" / "result.json").exists()
    assert not (tmp_path / "run" / "model").exists()
    left = {path.name for path in (tmp_path / "run").glob("*")}
    assert left <= (set() if whole else {"error.txt", "command.txt", "metrics.jsonl", "checkpoints"})


def test_a_sweep_lists_the_job_as_failed_and_goes_on(
    tmp_path: Path, fake_package: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_package("fake_removing", REMOVING)
    monkeypatch.setenv("EVENT", "on_step_end"), monkeypatch.setenv("WHOLE", "1")
    done = run(tmp_path / "sweep", "-m", *WORDS, "seed=1,2")
    assert done.code == 1
    first = tmp_path / "sweep" / "0-dpo-tiny-concise"
    assert {path.name for path in first.iterdir()} <= {"error.txt", "command.txt", "alignzoo.log"}
    assert f"failed: dpo seed=1: {first} was removed during the run" in done.out
    assert (tmp_path / "sweep" / "1-dpo-tiny-concise" / "result.json").exists()


def test_a_folder_in_which_another_run_has_begun_is_left_to_it(tmp_path: Path) -> None:
    watch = FolderWatch(tmp_path / "run")
    watch.folder.mkdir()
    watch.check()
    with hold_lock(watch.folder):
        (watch.folder / "run.yaml").touch()
        watch.has_begun = True
        watch.check()
        (watch.folder / FILE).write_text("process 1 on another\n")
        with pytest.raises(InUse, match="another run has begun in it"), watch.explain():
            raise OSError("no such file")
    watch.check()


def test_a_folder_that_is_gone_before_its_run_begins_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.lock cannot be written \(No such file or directory\)"):
        hold_lock(tmp_path / "nothing").__enter__()


def test_an_error_while_the_folder_is_there_stays_what_it_is(tmp_path: Path) -> None:
    watch = FolderWatch(tmp_path / "run")
    watch.folder.mkdir()
    (watch.folder / "run.yaml").touch()
    watch.has_begun = True
    with pytest.raises(KeyError), watch.explain():
        raise KeyError("a")
    shutil.rmtree(watch.folder)
    with pytest.raises(UserError, match="was removed"), watch.explain():
        pass
