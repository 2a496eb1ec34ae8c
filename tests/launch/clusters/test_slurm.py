"""Sweeps and runs through a real Slurm of two nodes on this machine: nox -s clusters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import slurm
import sweeping
import yaml
from conftest import QUICK

pytestmark = pytest.mark.clusters

SETTING = (*QUICK, "evaluate.shown=0", "train.per_device_batch_size=2", "train.max_steps=6")
TWO = ("strategy=ddp", "strategy.processes=2")
TWO_NODES = ("strategy=multinode", "strategy.processes=1", "hydra.run.dir=run", "resume=auto")
LAUNCHER = ("-m", "hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=60", "hydra.launcher.max_num_timeout=3")

#: A plugin that has Slurm do to its own job, after the third step of its first start, what $DISTURB says
#: for its beta: words of `scancel`.
DISTURBING = """
import json, os, subprocess, time
from alignzoo import hookimpl

@hookimpl
def alignzoo_callbacks(cfg):
    from transformers import TrainerCallback

    class Disturb(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            words = json.loads(os.environ.get("DISTURB", "{}")).get(str(cfg.method.beta))
            first = "SLURM_RESTART_COUNT" not in os.environ and os.environ.get("RANK", "0") == "0"
            if words is not None and first and state.global_step == 3:
                subprocess.run(["scancel", *words, os.environ["SLURM_JOB_ID"]])
                time.sleep(3)

    return [Disturb()]
"""

Alignzoo = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two nodes with a processor each, so that two jobs run at a time."""
    if slurm.missing():
        pytest.skip(slurm.missing())
    with slurm.slurm(tmp_path_factory.mktemp("slurm"), nodes=2, cpus=1):
        yield


@pytest.fixture
def disturbing(tmp_path: Path) -> dict[str, str]:
    """Install the plugin for the jobs; return the variables that they need."""
    info = tmp_path / "site" / "disturbing-1.0.dist-info"
    info.mkdir(parents=True)
    (info.parent / "disturbing.py").write_text(DISTURBING)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: disturbing\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[alignzoo]\ndisturbing = disturbing\n")
    return {"PYTHONPATH": str(info.parent)}


def results(sweep: Path) -> dict[str, dict[str, Any]]:
    """Return the jobs' results by their folders' numbers."""
    return {path.parent.name.split("-")[0]: json.loads(path.read_text()) for path in sweep.glob("*/result.json")}


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def left() -> list[list[str]]:
    """Return the command lines of processes that belong to a job."""
    found = psutil.process_iter(["environ", "cmdline"])
    cluster = {"SLURM_CONF": os.environ["SLURM_CONF"]}.items()
    jobs = [each for each in found if cluster <= (each.info["environ"] or {}).items()]
    return [each.info["cmdline"] for each in jobs if "SLURM_JOB_ID" in each.info["environ"]]


def test_a_sweep_of_two_processes_each_makes_one_leaderboard(alignzoo: Alignzoo, tmp_path: Path) -> None:
    words = ("method=dpo,ipo", "method.beta=0.05,0.1,0.5", "hydra.sweep.dir=sweep")
    done = alignzoo(*LAUNCHER, *words, *SETTING, *TWO, timeout=900)
    assert done.returncode == 0, done.stderr
    assert sorted(results(tmp_path / "sweep")) == list("012345")
    assert len((tmp_path / "sweep" / "leaderboard.csv").read_text().splitlines()) == 7
    assert len(list(tmp_path.rglob("leaderboard.csv"))) == 1
    assert all((folder / "logs" / "rank1.log").exists() for folder in (tmp_path / "sweep").glob("[0-5]-*"))
    assert left() == []


def test_a_sweep_job_that_is_warned_is_requeued_and_resumes(
    alignzoo: Alignzoo, disturbing: dict[str, str], tmp_path: Path
) -> None:
    """By submitit's signal, by alignzoo's, and not at all."""
    disturb = json.dumps({"0.1": ["--signal=USR2"], "0.5": ["--signal=USR1"]})
    words = ("method.beta=0.05,0.1,0.5", "hydra.sweep.dir=sweep")
    done = alignzoo(*LAUNCHER, *words, *SETTING, *TWO, DISTURB=disturb, **disturbing, timeout=900)
    assert done.returncode == 0, done.stderr
    assert [found["cost"]["resumed"] for _, found in sorted(results(tmp_path / "sweep").items())] == [[], [3], [3]]
    for number, beta in (("1", "0.1"), ("2", "0.5")):
        (member,) = (tmp_path / "sweep").glob(f"{number}-*")
        assert alignzoo(f"method.beta={beta}", *SETTING, f"hydra.run.dir=single{number}").returncode == 0
        assert losses(member) == pytest.approx(losses(tmp_path / f"single{number}"), abs=1e-5)
    assert left() == []


def test_sweep_jobs_that_are_killed_leave_a_sweep_that_resume_finishes(
    alignzoo: Alignzoo, disturbing: dict[str, str], tmp_path: Path
) -> None:
    """One is killed, one cancelled, one goes on to its end."""
    disturb = json.dumps({"0.1": ["--signal=KILL", "--full"], "0.5": []})
    words = ("method.beta=0.05,0.1,0.5", "hydra.sweep.dir=sweep", "train.save_strategy=steps", "train.save_steps=1")
    done = alignzoo(*LAUNCHER, *words, *SETTING, *TWO, DISTURB=disturb, **disturbing, timeout=900)
    assert done.returncode == 1
    assert done.stderr.count("ended without a result") == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert list(results(tmp_path / "sweep")) == ["0"]
    status = alignzoo("sweep", "status", "sweep")
    assert "1 done, 2 stopped" in status.stdout, status.stdout
    done = alignzoo("sweep", "resume", "sweep", timeout=900)
    assert done.returncode == 0, done.stderr
    resumed = [found["cost"]["resumed"] for _, found in sorted(results(tmp_path / "sweep").items())]
    assert resumed[0] == []
    assert all(len(member) == 1 for member in resumed[1:]), resumed
    assert left() == []


def test_two_nodes_train_one_run(alignzoo: Alignzoo, disturbing: dict[str, str], tmp_path: Path) -> None:
    """The nodes are those of the job; warned in the middle, it requeues itself and resumes."""
    words = ("method.beta=0.1", *SETTING)
    script = ["#!/bin/bash", "#SBATCH --nodes=2 --ntasks-per-node=1 --open-mode=append --output=job.out"]
    script += [f"srun {sys.executable} -m alignzoo {' '.join((*words, *TWO_NODES))}"]
    script += ['if [ $? -eq 138 ]; then scontrol requeue "$SLURM_JOB_ID"; fi']
    (tmp_path / "job.sh").write_text("\n".join(script))
    variables = {**os.environ, **disturbing, "DISTURB": json.dumps({"0.1": ["--signal=USR1"]})}
    subprocess.run(["sbatch", "--wait", "job.sh"], cwd=tmp_path, env=variables, timeout=900, check=True)
    output = (tmp_path / "job.out").read_text()
    assert "stopped by SIGUSR1 at step 3 of 6" in output, output
    assert json.loads((tmp_path / "run" / "result.json").read_text())["cost"]["resumed"] == [3], output
    assert yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())["strategy"]["nodes"] == 2
    assert (tmp_path / "run" / "logs" / "rank1.log").exists()
    assert alignzoo(*words, "hydra.run.dir=single").returncode == 0
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "single"), abs=1e-5)
    assert left() == []


def test_a_study_ends_with_the_same_table(alignzoo: Alignzoo, tmp_path: Path) -> None:
    sweeping.compare_studies(alignzoo, tmp_path, *LAUNCHER[1:])
