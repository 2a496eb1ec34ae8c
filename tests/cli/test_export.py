"""`alignzoo export`: what stands in a job, that it is the composed run, and what is refused."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from inprocess import run
from repository import ROOT

from alignzoo import UserError
from alignzoo.cli import run_command
from alignzoo.cli.export.job import SHARED
from alignzoo.config.compose import compose
from alignzoo.config.plain import to_plain

KUBERNETES = ("kubernetes", "--image", "me/alignzoo:1", "--shared", "runs")
SKYPILOT = ("skypilot", "--shared", "runs")
LARGE = ("strategy=fsdp", "strategy.nodes=2", "train.global_batch_size=16", "--secret", "HF_TOKEN")


def exported(capsys: pytest.CaptureFixture[str], *words: str) -> list[Any]:
    assert run_command(["export", *words]) == 0
    return list(yaml.safe_load_all(capsys.readouterr().out))


def test_a_train_job_has_the_strategys_nodes_and_processes(capsys: pytest.CaptureFixture[str]) -> None:
    config, job = exported(capsys, *KUBERNETES, *LARGE, "--gpus", "4", "--memory", "64Gi")
    trainer, pod = job["spec"]["trainer"], pods(job)
    assert job["metadata"]["name"] == config["metadata"]["name"] == "dpo-bundled-concise"
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 4)
    assert trainer["resourcesPerNode"]["limits"] == {"memory": "64Gi", "nvidia.com/gpu": "4"}
    assert trainer["env"][-1]["valueFrom"]["secretKeyRef"] == {"name": "alignzoo", "key": "HF_TOKEN"}
    mounted = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert {trainer["command"][4], SHARED} < mounted
    assert pod["terminationGracePeriodSeconds"] > 30, "strategy.grace"


def pods(job: dict[str, Any]) -> dict[str, Any]:
    (patch,) = job["spec"]["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    return dict(replicated["template"]["spec"]["template"]["spec"])


def test_the_config_inside_is_the_composed_one(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("method=ipo", "method.beta=0.3", "model=tiny")
    config, _ = exported(capsys, *KUBERNETES, *words)
    inside = yaml.safe_load(config["data"]["run.yaml"])
    del inside["hydra"]
    assert inside == to_plain(compose([*words, "resume=auto", "strategy.processes=1"]))


def test_the_command_inside_composes_it_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With the folders that a pod would have; tests/launch/faults runs it."""
    config, job = exported(capsys, *KUBERNETES, "model=tiny", "method.beta=0.3")
    (tmp_path / "run.yaml").write_text(config["data"]["run.yaml"])
    python, *module, _, folder, _, name, _ = job["spec"]["trainer"]["command"]
    assert (python, module, folder, name) == ("python", ["-m", "alignzoo"], "/etc/alignzoo", "run")
    shown = run(tmp_path / "run", "--config-dir", str(tmp_path), "--config-name", name, "--cfg", "job")
    inside = yaml.safe_load(config["data"]["run.yaml"])
    del inside["hydra"]
    assert yaml.safe_load(shown.out) == inside


def test_a_task_writes_its_config_and_becomes_the_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The script itself runs, with a python that says what it was asked for."""
    (task,) = exported(capsys, *SKYPILOT, *LARGE, "--gpus", "H100:8", "--name", "first")
    assert (task["num_nodes"], task["resources"]["accelerators"]) == (2, "H100:8")
    assert task["resources"]["job_recovery"] == {"recover_on_exit_codes": [138]}
    assert task["volumes"] == {SHARED: "runs"}
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nfor word; do echo "$word"; done\n')
    python.chmod(0o755)
    environment = {"HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", task["run"]], capture_output=True, text=True, check=True, env=environment)
    expected = [*("-m", "alignzoo", "--config-dir"), f"{tmp_path}/alignzoo-job", "--config-name", "run"]
    assert done.stdout.splitlines() == [*expected, f"hydra.run.dir={SHARED}/first"]
    inside = yaml.safe_load((tmp_path / "alignzoo-job" / "run.yaml").read_text())
    assert inside["strategy"]["processes"] == 8


def test_one_machine_takes_a_bucket_and_several_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    (task,) = exported(capsys, "skypilot", "--shared", "s3://runs", "model=tiny")
    assert task["file_mounts"] == {SHARED: {"source": "s3://runs", "mode": "MOUNT_CACHED"}}
    with pytest.raises(UserError, match=r"--shared s3://runs: 2 machines read one checkpoint"):
        run_command(["export", "skypilot", "--shared", "s3://runs", *LARGE, "--gpus", "H100:8"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["strategy=ddp"], r"strategy=ddp starts one process for each GPU: add --gpus N"),
        (["strategy=ddp", "strategy.processes=4", "--gpus", "2"], r"strategy.processes=4 needs as many GPUs"),
        (["strategy=ddp", "--gpus", "3"], r"train.global_batch_size=4 must be a multiple"),
        (["method.beta=-1"], r"method.beta=-1"),
        (["+pipeline=sft_dpo"], r"export takes one run"),
        (["--name", "My_Run"], r"--name My_Run: take up to 40 small letters"),
    ],
)
def test_mistakes(words: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        run_command(["export", *KUBERNETES, *words])


ZOO = '''
"""Zoo (Somebody, 2030)."""
from alignzoo import DataFormat, Method, hookimpl
class Zoo(Method):
    "Zoo (Somebody, 2030)."
    name, data = "zoo", DataFormat.PREFERENCE
    config, trainer = "trl:DPOConfig", "trl:DPOTrainer"
@hookimpl
def alignzoo_methods(): return [Zoo]
@hookimpl
def alignzoo_config_packages(): return ["fake_zoo.conf"]
'''


def test_a_task_installs_the_methods_package(
    fake_package: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    yaml_text = (ROOT / "conf" / "method" / "dpo.yaml").read_text()
    fake_package("fake_zoo", ZOO, {"method/zoo.yaml": yaml_text.replace("name: dpo", "name: zoo")})
    (task,) = exported(capsys, *SKYPILOT, "method=zoo", "strategy=zero2", "strategy.processes=2")
    version = importlib.metadata.version("alignzoo")
    assert task["setup"] == f"pip install 'alignzoo[deepspeed]=={version}' fake_zoo==1.0\n"


def test_what_only_this_machine_has_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    run_command(["export", *KUBERNETES, "dataset=local", f"dataset.path={tmp_path}/rows.jsonl"])
    err = capsys.readouterr().err
    assert f"export: {tmp_path}/rows.jsonl is a path of this machine: the job needs it at the same place." in err


def test_exporting_needs_no_torch(tmp_path: Path) -> None:
    run_it = f"from alignzoo.cli import run_command; run_command({['export', *KUBERNETES]!r})"
    code = f"{run_it}; import sys; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "kind: TrainJob" in done.stdout


@pytest.mark.schemas
def test_kubeflows_own_models_know_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    models = pytest.importorskip("kubeflow_trainer_api.models")
    config, job = exported(capsys, *KUBERNETES, *LARGE, "--gpus", "4", "--cpus", "16", "--memory", "64Gi")
    for document, model in ((config, models.IoK8sApiCoreV1ConfigMap), (job, models.TrainerV1alpha1TrainJob)):
        assert whole(json.loads(model.from_dict(document).to_json())) == document, (
            "a field that it does not know is lost"
        )


def whole(tree: Any) -> Any:
    """Leave out what is null."""
    if isinstance(tree, dict):
        return {key: whole(value) for key, value in tree.items() if value is not None}
    return [whole(value) for value in tree] if isinstance(tree, list) else tree


SKY = """
import sys, sky, yaml
task = sky.Task.from_yaml_config(yaml.safe_load(open(sys.argv[1])), secrets_overrides=[("HF_TOKEN", "x")])
(resources,) = task.resources
print(task.num_nodes, resources.accelerators, resources.job_recovery["recover_on_exit_codes"])
"""


@pytest.mark.schemas
@pytest.mark.parametrize("words", [("--gpus", "H100:8", *LARGE), ("--image", "me/alignzoo:1", "model=tiny")])
def test_skypilot_itself_reads_the_task(
    words: tuple[str, ...], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """In an environment and a home of its own: its pins exclude ours, and it keeps a state there."""
    run_command(["export", *SKYPILOT, *words])
    (tmp_path / "task.yaml").write_text(capfd.readouterr().out)
    command = [os.environ["SKYPILOT_PYTHON"], "-c", SKY, str(tmp_path / "task.yaml")]
    environment = {**os.environ, "HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    gpus = "{'H100': 8}" if "H100:8" in words else "None"
    assert done.stdout.split("\n")[-2] == f"{2 if LARGE[0] in words else 1} {gpus} [138]"


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """As ``alignzoo export ... | head``, which ends before all is written."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "alignzoo", "export", *SKYPILOT]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == 128 + signal.SIGPIPE
    assert "Traceback" not in done.stderr
    assert "BrokenPipeError" not in done.stderr
