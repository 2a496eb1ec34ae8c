"""Real runs of two processes on the CPU: the same numbers as one process, and a clean end whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import QUICK
from inprocess import call
from inprocess import run as run_here
from repository import ROOT
from stopping_plugin import STOPPING, difference, losses

from alignzoo.launch import torchrun as elastic
from alignzoo.system import signals

pytestmark = pytest.mark.slow

SHIM = ROOT / "tests" / "shims" / "cpu_fsdp"
TWO = ("strategy=ddp", "strategy.processes=2")

#: Two rows a process, whether two processes take them at once or one after the other.
SETTING = (*QUICK, "train.per_device_batch_size=2", "train.max_steps=4")


@pytest.fixture
def stopping(tmp_path: Path) -> dict[str, str]:
    """Install the plugin for subprocesses; return the variables that they need."""
    folder = tmp_path / "site"
    info = folder / "stopping-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "stopping.py").write_text(STOPPING)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stopping\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[alignzoo]\nstopping = stopping\n")
    return {"PYTHONPATH": str(folder), "HERE": str(tmp_path / "here")}


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the run folder of a method on one process, trained once."""
    base = tmp_path_factory.mktemp("single")

    def folder(method: str) -> Path:
        if not (base / method).exists():
            words = [f"method={method}", *SETTING, *MORE.get(method, ()), f"hydra.run.dir={base / method}"]
            done = call(*words)
            assert done.code == 0, done.err
        return base / method

    return folder


#: A reward that differs between random answers.
LENGTH = ("reward=length", "reward.length.words=1", "reward.length.slack=10")
SAMPLED = ("grpo", "rloo")  #: their answers come from each process's own generator
MORE = dict.fromkeys(SAMPLED, ("method.num_generations=2", "method.max_completion_length=16", *LENGTH))
STRATEGIES = ("ddp", "fsdp", "zero2", "zero3")
METHODS = ("dpo", "ipo", "kto", "orpo", "sft", "reward", *SAMPLED)
QUICK_ONES = {("dpo", "ddp")}  #: in every suite; the others by `nox -s strategies`
COMBINATIONS = [
    pytest.param(method, strategy, marks=() if (method, strategy) in QUICK_ONES else pytest.mark.strategies)
    for method in METHODS
    for strategy in STRATEGIES
]


@pytest.mark.parametrize(("method", "strategy"), COMBINATIONS)
def test_two_processes_train_what_one_does(
    alignzoo: Any, tmp_path: Path, single: Callable[[str], Path], method: str, strategy: str
) -> None:
    """The same rows in the same batches: losses and weights agree, and what is saved is one plain folder.

    Of methods that sample their answers: only that they train, and save the same kind of folder.
    """
    if strategy.startswith("zero"):
        pytest.importorskip("deepspeed")
    variables = {"PYTHONPATH": str(SHIM)} if strategy == "fsdp" else {}
    words = [f"method={method}", *SETTING, *MORE.get(method, ()), f"strategy={strategy}", "strategy.processes=2"]
    done = alignzoo(*words, "hydra.run.dir=run", **variables)
    assert done.returncode == 0, done.stderr
    run, other = tmp_path / "run", single(method)
    names = {file.name for file in (run / "model").iterdir()}
    assert names == {file.name for file in (other / "model").iterdir()}
    if method in SAMPLED:
        assert len(losses(run)) == len(losses(other))
        assert difference(run, other) < 1e-2
        return
    assert losses(run) == pytest.approx(losses(other), abs=1e-5)
    assert difference(run, other) < 1e-6
    results = [json.loads((folder / "result.json").read_text()) for folder in (run, other)]
    assert results[0]["after"] == pytest.approx(results[1]["after"], abs=1e-4)
    assert results[0]["plan"] == results[1]["plan"]
    assert done.stdout.count("plan: ") == done.stdout.count("run folder: ") == 1, "the main process alone prints"
    assert done.stdout.count(f"{method} 4/4") == 1
    assert {file.name for file in (run / "logs").iterdir()} == {"rank0.log", "rank1.log"}


@pytest.mark.strategies
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_batches_of_tokens_are_as_many_on_each_process(
    alignzoo: Any, tmp_path: Path, single: Callable[[str], Path], strategy: str
) -> None:
    """Rows of unlike length fill more batches on one process than on the other, which wait for each other in each."""
    variables = {"PYTHONPATH": str(SHIM)} if strategy == "fsdp" else {}
    words = ["method=dpo", *SETTING, "train.per_device_batch_tokens=250", f"strategy={strategy}"]
    done = alignzoo(*words, "strategy.processes=2", "hydra.run.dir=run", **variables)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "run") == pytest.approx(losses(single("dpo")), abs=1e-5)
    assert difference(tmp_path / "run", single("dpo")) < 1e-6


@pytest.mark.strategies
@pytest.mark.parametrize("strategy", ["fsdp", "zero2", "zero3"])
@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_divided_weights_go_on_where_they_stopped(
    alignzoo: Any, tmp_path: Path, single: Callable[[str], Path], stopping: dict[str, str], method: str, strategy: str
) -> None:
    """One process is told to stop, all save; then they go on. With whole weights: tests/launch/faults."""
    if strategy.startswith("zero"):
        pytest.importorskip("deepspeed")
    paths = [stopping["PYTHONPATH"], *([str(SHIM)] if strategy == "fsdp" else [])]
    variables = {**stopping, "PYTHONPATH": os.pathsep.join(paths)}
    words = [f"method={method}", *SETTING, f"strategy={strategy}", "strategy.processes=2", "hydra.run.dir=run"]
    stopped = alignzoo(*words, **variables, STOP="tell:1")
    assert stopped.returncode == signals.EXIT_CODE, stopped.stderr
    assert "alignzoo: stopped by SIGUSR1 at step 2 of 4. To resume:" in stopped.stderr
    done = alignzoo(*words, "resume=auto", **variables)
    assert done.returncode == 0, done.stderr
    run, other = tmp_path / "run", single(method)
    assert json.loads((run / "result.json").read_text())["cost"]["resumed"] == [2]
    assert losses(run) == pytest.approx(losses(other), abs=1e-5)
    assert difference(run, other) < 1e-6


@pytest.mark.long
def test_fsdp_without_gpus_is_refused(alignzoo: Any, tmp_path: Path) -> None:
    """Accelerate would run plain DDP in its stead, and say nothing."""
    done = alignzoo(*SETTING, "strategy=fsdp", "strategy.processes=2", "hydra.run.dir=run")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == "alignzoo: strategy=fsdp needs GPUs: on the cpu take strategy=ddp."


@pytest.mark.long
def test_a_mistake_in_the_data_reads_as_from_one_process(
    alignzoo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": null}\n' * 8)
    words = ("model=tiny", "dataset=local", "dataset.path=rows.jsonl", "train.global_batch_size=2")
    monkeypatch.chdir(tmp_path)
    plain = run_here(Path("one"), *words)
    done = alignzoo(*words, *TWO, "hydra.run.dir=two")
    assert (done.returncode, plain.code) == (1, 1)
    assert done.stderr == plain.err
    assert not (tmp_path / "two").exists()


def test_a_failing_rank_ends_all(alignzoo: Any, tmp_path: Path, stopping: dict[str, str]) -> None:
    done = alignzoo(*SETTING, *TWO, "hydra.run.dir=run", **stopping, STOP="kill:1")
    assert done.returncode == 1
    check_failure(done.stderr, tmp_path / "run", "SIGKILL")
    assert done.stderr.strip().splitlines()[-1].startswith("Its log: ")
    assert "the moon is full" not in (tmp_path / "run" / "logs" / "rank1.log").read_text()
    assert not workers(tmp_path)


def check_failure(err: str, folder: Path, told: str) -> None:
    """Two lines: which rank, why, and where its log is."""
    lines = err.strip().splitlines()
    (said,) = [number for number, line in enumerate(lines) if line.startswith("alignzoo: rank 1 failed: ")]
    assert told in lines[said]
    assert lines[said + 1] == f"Its log: {folder}/logs/rank1.log"
    assert "Traceback" not in err
    assert told in (folder / "error.txt").read_text()
    assert not (folder / "result.json").exists()


@pytest.mark.long
def test_a_sweep_goes_on_after_a_failed_member(alignzoo: Any, tmp_path: Path, stopping: dict[str, str]) -> None:
    """The callback fails at the second step, which the second job never reaches."""
    words = [*SETTING, *TWO, "hydra.sweep.dir=sweep", "train.max_steps=4,1"]
    done = alignzoo("-m", *[word for word in words if word != "train.max_steps=4"], **stopping, STOP="raise:1")
    assert done.returncode == 1
    failed, finished = sorted((tmp_path / "sweep").glob("[01]*"))
    assert (finished / "result.json").exists()
    assert not (finished / "error.txt").exists()
    check_failure(done.stderr, failed, "RuntimeError: the moon is full")
    assert "the moon is full" in (failed / "logs" / "rank1.log").read_text()
    assert not workers(tmp_path)


def workers(folder: Path) -> list[psutil.Process]:
    """Return the processes that still work below ``folder``."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        if process.info["cwd"] == str(folder) and any(word.startswith("alignzoo") for word in words):
            found.append(process)
    return found


def gone(folder: Path, within: float) -> bool:
    end = time.time() + within
    while workers(folder) and time.time() < end:
        time.sleep(0.1)
    return not workers(folder)


@pytest.fixture
def waiting(tmp_path: Path, stopping: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Start two processes that stand still at their second step."""
    environment = {**os.environ, **stopping, "STOP": "wait:"}
    command = [sys.executable, "-m", "alignzoo", *SETTING, *TWO, "strategy.grace=2", "hydra.run.dir=run"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True, **pipes)
    try:
        here, end = Path(stopping["HERE"]), time.time() + 120
        while not (here.exists() and here.read_text().count("waiting") == 2):
            assert process.poll() is None, process.communicate()[0]
            assert time.time() < end
            time.sleep(0.1)
        yield process
    finally:
        for left in workers(tmp_path):
            left.kill()
        process.communicate(timeout=10)


@pytest.mark.long
def test_no_orphans_when_the_parent_is_killed(waiting: subprocess.Popen[str], tmp_path: Path) -> None:
    assert len(workers(tmp_path)) == 3
    waiting.kill()
    assert gone(tmp_path, 10)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 138),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.long),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.long),
    ],
)
def test_a_signal_ends_everything(
    waiting: subprocess.Popen[str], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    waiting.send_signal(number)
    out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == code, out
    assert gone(tmp_path, 5)
    assert "Traceback" not in out


def test_the_launcher_hears_what_a_run_listens_to(compose_config: Callable[..., Any]) -> None:
    """Its own default leaves out SIGUSR1 and SIGUSR2, by which Slurm warns."""
    heard = elastic._make_launch_config(compose_config(*TWO), 2, "scratch").signals_to_handle.split(",")
    assert {number.name for number in signals.SIGNALS} <= set(heard)


@pytest.mark.long
def test_torchrun_may_start_it(tmp_path: Path, single: Callable[[str], Path]) -> None:
    """Each of its processes composes the config a moment apart, and both end in one run folder."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "alignzoo"]
    folder = "hydra.run.dir=runs/${now:%f}"
    done = subprocess.run([*torchrun, *SETTING, folder], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert losses(run) == pytest.approx(losses(single("dpo")), abs=1e-5)
    assert done.stdout.count("run folder: ") == 1
