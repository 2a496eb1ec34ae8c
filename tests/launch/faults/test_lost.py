"""Runs of several processes that lose one of them, or a machine, and come out as one that lost nothing."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import QUICK
from inprocess import run
from machines import ADDRESSES, Machine, two_machines
from processes import lines

from alignzoo.cli import run_command

pytestmark = pytest.mark.faults

Command = Callable[..., subprocess.CompletedProcess[str]]

STEPS = 8

#: Two rows on each of two processes, and a checkpoint after each step.
WORDS = (
    *QUICK,
    *("method.learning_rate=0.001", "train.warmup_steps=0", "train.per_device_batch_size=2"),
    *(f"train.max_steps={STEPS}", "train.save_strategy=steps", "train.save_steps=1", "resume=auto"),
)
TWO = ("strategy=ddp", "strategy.processes=2")
RENDEZVOUS = ("strategy=multinode", "strategy.processes=1", f"strategy.rendezvous={ADDRESSES[0]}:29518")

#: Updates that take SLOW seconds, and an end for one rank at the fourth that $STOP says, the first time or each time.
PLUGIN = """
import os, pathlib, signal, time
from alignzoo import UserError, hookimpl

@hookimpl
def alignzoo_callbacks(cfg):
    from transformers import TrainerCallback

    class Trouble(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            time.sleep(float(os.environ.get("SLOW", 0)))
            if state.global_step != 3 or os.environ["RANK"] != "1" or "STOP" not in os.environ:
                return
            with open(os.environ["HERE"], "a") as file:
                file.write("here\\n")
            if os.environ["STOP"] == "refuse":
                raise UserError("the rows are stale")
            if os.path.getsize(os.environ["HERE"]) == len("here\\n"):
                os.kill(os.getpid(), signal.SIGKILL)

    return [Trouble()]
"""


@pytest.fixture(autouse=True)
def trouble(fake_package: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Install the plugin for the processes that a test starts; what it did stands in the file that is returned."""
    fake_package("fake_trouble", PLUGIN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("HERE", str(tmp_path / "here"))
    return tmp_path / "here"


def same(folder: Path, other: Path) -> None:
    """Check losses and weights; a sum over two processes may round otherwise."""
    from safetensors.torch import load_file

    losses, weights = [], []
    for each in (folder, other):
        history = map(json.loads, (each / "metrics.jsonl").read_text().splitlines())
        losses.append({line["step"]: line["loss"] for line in history if "loss" in line})
        weights.append(load_file(each / "model" / "model.safetensors"))
    assert len(losses[0]) == STEPS
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    for name, weight in weights[0].items():
        assert (weight - weights[1][name]).abs().max() < 1e-6, name


def resumed(folder: Path) -> list[int]:
    return list(json.loads((folder / "result.json").read_text())["cost"]["resumed"])


def reaches(folder: Path, updates: int) -> None:
    deadline = time.monotonic() + 240
    while lines(folder) < updates:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The folder of a run on one machine that loses nothing."""
    done = run(tmp_path_factory.mktemp("whole") / "run", *WORDS, *TWO)
    assert done.code == 0, done.err
    return done.folder


def test_a_killed_rank_is_started_again(alignzoo: Command, tmp_path: Path, whole: Path) -> None:
    lost = alignzoo(*WORDS, *TWO, "hydra.run.dir=lost", "strategy.restarts=1", STOP="kill")
    assert (lost.returncode, lost.stderr.count("a process of this run was lost")) == (0, 1), lost.stderr
    assert resumed(tmp_path / "lost") == [3]
    same(tmp_path / "lost", whole)


def test_a_users_mistake_is_not_tried_again(alignzoo: Command, tmp_path: Path, trouble: Path) -> None:
    done = alignzoo(*WORDS, *TWO, "hydra.run.dir=run", "strategy.restarts=2", STOP="refuse")
    assert done.returncode == 1
    assert done.stderr.endswith("alignzoo: the rows are stale\n"), done.stderr
    assert trouble.read_text() == "here\n"


def test_a_run_that_is_out_of_time_is_not_started_again(alignzoo: Command, tmp_path: Path) -> None:
    words = (*TWO, "strategy.restarts=2", "train.stop_before=1s")
    done = alignzoo(*WORDS, *words, "hydra.run.dir=run", SLOW="1")
    assert done.returncode == 138, done.stderr
    assert "stopped by train.stop_before at step 1 of 8" in done.stderr
    (saved,) = (tmp_path / "run" / "checkpoints").glob("checkpoint-*")
    assert saved.name == "checkpoint-1"


def kill_the_second(machines: list[Machine]) -> None:
    machines[1].kill_and_start()


def kill_the_first(machines: list[Machine]) -> None:
    """The one where the machines meet, and which writes the run folder."""
    machines[0].kill_and_start()


def cut_off(machines: list[Machine]) -> None:
    """The cable is out for so long that the processes give each other up."""
    machines[1].cable_is("down")
    time.sleep(40)
    machines[1].cable_is("up")


def trained(machines: list[Machine], folder: Path, disturb: Callable[[list[Machine]], None]) -> None:
    """Disturb the run that was started on the machines after its third step, and wait for its end."""
    reaches(folder, 3)
    disturb(machines)
    ends = [machine.started[-1].communicate(timeout=300)[0] for machine in machines]
    assert [machine.started[-1].returncode for machine in machines] == [0, 0], ends
    assert resumed(folder), ends


@pytest.mark.parametrize("disturb", [kill_the_second, kill_the_first, cut_off])
def test_a_machine_that_is_lost_and_comes_back(
    disturb: Callable[[list[Machine]], None], tmp_path: Path, whole: Path
) -> None:
    words = (*WORDS, *RENDEZVOUS, "strategy.restarts=3", "strategy.patience=15s", "hydra.run.dir=lost")
    with two_machines(tmp_path) as machines:
        for machine in machines:
            machine.start(*words, SLOW="1")
        trained(machines, tmp_path / "lost", disturb)
    same(tmp_path / "lost", whole)


def test_a_train_job_whose_pod_is_lost(tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `export kubernetes` writes, with the folders and variables that Kubeflow gives to two pods."""
    words = (*WORDS, "strategy=ddp", "strategy.processes=1", "strategy.nodes=2", "strategy.restarts=3")
    run_command(["export", "kubernetes", "--image", "me/alignzoo:1", "--shared", "runs", "--name", "lost", *words])
    config, job = yaml.safe_load_all(capsys.readouterr().out)
    (tmp_path / "run.yaml").write_text(config["data"]["run.yaml"])
    command = [word.replace("/mnt/alignzoo", str(tmp_path)) for word in job["spec"]["trainer"]["command"][3:]]
    command = [str(tmp_path) if word == "/etc/alignzoo" else word for word in command]
    with two_machines(tmp_path) as machines:
        for number, machine in enumerate(machines):
            variables = {"PET_MASTER_ADDR": ADDRESSES[0], "PET_MASTER_PORT": "29519", "PET_NODE_RANK": str(number)}
            machine.start(*command, SLOW="1", **variables)
        trained(machines, tmp_path / "lost", kill_the_second)
    same(tmp_path / "lost", whole)
