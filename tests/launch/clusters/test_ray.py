"""Sweeps and single runs on a real Ray cluster on this machine: nox -s clusters."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import sweeping
from conftest import QUICK
from stopping_plugin import STOPPING, difference, losses
from sweeping import finished, gone, left

pytestmark = pytest.mark.clusters
pytest.importorskip("ray")

SETTING = (*QUICK, "evaluate.shown=0", "train.per_device_batch_size=2", "train.max_steps=4")
TWO = ("strategy=ddp", "strategy.processes=2")
SWEEP = ("-m", "hydra/launcher=ray", "hydra.sweep.dir=sweep")
ON_RAY = ("launcher=ray", *TWO, "hydra.run.dir=run")

Alignzoo = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """Start a cluster of four processors in a folder of its own; return the variables by which it is found."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    session = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # short: its sockets' paths must be
    words = ["start", "--head", "--block", "--num-cpus=4", f"--port={address.split(':')[1]}", f"--temp-dir={session}"]
    words += ["--node-ip-address=127.0.0.1", "--include-dashboard=false", "--disable-usage-stats"]
    ray = [str(Path(sys.executable).parent / "ray"), *words]
    out = Path(session, "out")
    variables = {"RAY_ADDRESS": address, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with out.open("w") as stream:
        environment = {**os.environ, **variables, "RAY_AUTH_MODE": "token"}
        process = psutil.Popen(ray, cwd=session, env=environment, stdout=stream, stderr=stream)
    try:
        sweeping.wait_until(lambda: answers(variables), process, out)
        yield variables
    finally:
        own = [process, *process.children(recursive=True)]
        process.terminate()
        _, alive = psutil.wait_procs(own, 120)
        shutil.rmtree(session)
    assert not [each for each in alive if each.is_running()], alive


def answers(variables: dict[str, str]) -> bool:
    command = [sys.executable, "-c", "from alignzoo.launch.ray_cluster import connect; connect(None, 1)"]
    done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, **variables})
    return done.returncode == 0


@pytest.fixture
def doing(tmp_path: Path, cluster: dict[str, str]) -> dict[str, str]:
    return {**sweeping.doing(tmp_path), **cluster}


@pytest.fixture
def stopping(tmp_path: Path) -> dict[str, str]:
    return sweeping.install(tmp_path, "stopping", STOPPING)


def test_a_sweep_of_two_processes_each_makes_one_leaderboard(
    alignzoo: Alignzoo, cluster: dict[str, str], tmp_path: Path
) -> None:
    """The cluster was started in another folder, and the sweep's is a relative one."""
    words = ("method=dpo,ipo", "method.beta=0.05,0.1,0.5")
    done = alignzoo(*SWEEP, *words, *SETTING, *TWO, "train.max_steps=2", **cluster)
    assert done.returncode == 0, done.stderr
    assert finished(tmp_path / "sweep") == "012345"
    assert len((tmp_path / "sweep" / "leaderboard.csv").read_text().splitlines()) == 7
    assert all((folder / "logs" / "rank1.log").exists() for folder in (tmp_path / "sweep").glob("[0-5]-*"))
    assert gone(tmp_path, 20), left(tmp_path)
    status = alignzoo("sweep", "status", "sweep")
    assert (status.returncode, status.stdout.splitlines()[-1]) == (0, "6 done")


def test_a_sweep_job_that_fails_or_dies_stops_no_other(
    alignzoo: Alignzoo, doing: dict[str, str], tmp_path: Path
) -> None:
    """One raises; of another, the process that Ray started for it is killed. `sweep resume` finishes both."""
    do = '{"0.05": "raise", "0.1": "kill the parent"}'
    words = ("method.beta=0.05,0.1,0.2,0.5", *SETTING, *TWO, "train.save_strategy=steps", "train.save_steps=1")
    done = alignzoo(*SWEEP, *words, **doing, ALIGNZOO_DO=do)
    assert done.returncode == 1
    assert "a sweep job ended without a result: " in done.stderr
    assert "Traceback" not in done.stderr
    assert finished(tmp_path / "sweep") == "23"
    status = alignzoo("sweep", "status", "sweep")
    assert status.stdout.splitlines()[-1] == "2 done, 1 failed, 1 stopped"
    resumed = alignzoo("sweep", "resume", "sweep", **{**doing, "ALIGNZOO_DO": "{}"})
    assert resumed.returncode == 0, resumed.stderr
    assert finished(tmp_path / "sweep") == "0123"
    assert gone(tmp_path, 20), left(tmp_path)


def test_sweep_jobs_and_processes_on_ray_at_once_are_refused(alignzoo: Alignzoo) -> None:
    done = alignzoo(*SWEEP, *SETTING, *TWO, "launcher=ray")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("alignzoo: hydra/launcher=ray places a sweep's jobs")


@pytest.mark.parametrize("own", [True, False], ids=["its own cluster", "a running cluster"])
def test_ray_train_trains_what_ddp_does(alignzoo: Alignzoo, cluster: dict[str, str], tmp_path: Path, own: bool) -> None:
    done = alignzoo(*SETTING, *ON_RAY, **({} if own else cluster))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run folder: ") == 1
    other = alignzoo(*SETTING, *TWO, "hydra.run.dir=ddp")
    assert other.returncode == 0, other.stderr
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "ddp"), abs=1e-6)
    assert difference(tmp_path / "run", tmp_path / "ddp") < 1e-6
    assert {path.name for path in (tmp_path / "run").iterdir()} == {path.name for path in (tmp_path / "ddp").iterdir()}
    assert gone(tmp_path, 20), left(tmp_path)


@pytest.mark.parametrize(("way", "told"), [("raise", "RuntimeError: the moon is full"), ("kill", "its process died")])
def test_a_failing_process_ends_all(
    alignzoo: Alignzoo, stopping: dict[str, str], tmp_path: Path, way: str, told: str
) -> None:
    done = alignzoo(*SETTING, *ON_RAY, **stopping, STOP=f"{way}:1")
    assert done.returncode == 1
    log = f"Its log: {tmp_path}/run/logs/rank1.log"
    assert f"alignzoo: rank 1 failed: {told}\n{log}" in done.stderr
    assert told in (tmp_path / "run" / "error.txt").read_text()
    assert not (tmp_path / "run" / "result.json").exists()
    assert gone(tmp_path, 20), left(tmp_path)


def test_a_mistake_in_the_data_reads_as_from_one_process(alignzoo: Alignzoo, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": null}\n' * 8)
    words = ("model=tiny", "dataset=local", "dataset.path=rows.jsonl", "train.global_batch_size=2")
    plain = alignzoo(*words, "hydra.run.dir=one")
    done = alignzoo(*words, *ON_RAY)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == plain.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 138), (signal.SIGKILL, -9)])
def test_a_signal_ends_everything(stopping: dict[str, str], tmp_path: Path, number: signal.Signals, code: int) -> None:
    """Both processes stand still at their second step."""
    environment = {**os.environ, **stopping, "STOP": "wait:", "HERE": str(tmp_path / "here")}
    command = [sys.executable, "-m", "alignzoo", *SETTING, *ON_RAY]
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=out, stderr=out)
    try:
        here = tmp_path / "here"
        sweeping.wait_until(lambda: here.exists() and here.read_text().count("waiting") == 2, process, tmp_path / "out")
        process.send_signal(number)
        assert process.wait(60) == code, (tmp_path / "out").read_text()
        assert gone(tmp_path, 30), left(tmp_path)
        assert "Traceback" not in (tmp_path / "out").read_text()
    finally:
        process.kill()


def test_where_there_is_no_cluster_it_says_so(alignzoo: Alignzoo) -> None:
    done = alignzoo(*SETTING, *ON_RAY, "launcher.address=127.0.0.1:1")
    assert done.returncode == 1
    assert "alignzoo: there is no Ray cluster at 127.0.0.1:1" in done.stderr


def test_a_study_ends_with_the_same_table(alignzoo: Alignzoo, cluster: dict[str, str], tmp_path: Path) -> None:
    sweeping.compare_studies(alignzoo, tmp_path, "hydra/launcher=ray", **cluster)
