"""Weights & Biases and TensorBoard really write what a run logs, below its folder; two runs never mix."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICK
from inprocess import run
from omegaconf import DictConfig
from repository import ROOT

from alignzoo.runs.trackers import is_logged_in, start_tracker

LITTLE = (*(word for word in QUICK if "dataset.rows" not in word), "dataset.rows=8", "train.warmup_steps=0")

SECRET = "marker-77e0-of-a-secret"


class Logged:
    """What a ``.wandb`` file holds: LevelDB's log format, whose records are wandb's own messages."""

    def __init__(self, file: Path) -> None:
        self.losses: list[float] = []
        self.summary: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.exit_code: int | None = None
        for record in records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.run = record.run
                self.config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
            if kind == "history":
                line = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
                self.losses += [float(line["train/loss"])] if "train/loss" in line else []
            if kind == "summary":
                self.summary |= {item.key: json.loads(item.value_json) for item in record.summary.update if item.key}
            if kind == "exit":
                self.exit_code = record.exit.exit_code


def records(file: Path) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2

    content, place, part = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        left_in_block = 32768 - place % 32768
        if left_in_block < 7:
            place += left_in_block
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        part += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            part = b""
            yield record


def logged(folder: Path) -> Logged:
    """Return the one run below ``folder``. Its last lines are written a moment after it was finished."""
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    for _ in range(100):
        found = Logged(file)
        if found.exit_code is not None:
            break
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tracked")


@pytest.fixture(scope="module")
def sweep(folder: Path, cache: Path, pytestconfig: pytest.Config) -> subprocess.CompletedProcess[str]:
    """A sweep of one job that fails and one that does not, by a user who never logged in."""
    if pytestconfig.getoption("--pure") is not None:
        pytest.skip("starts a program that computes")
    (folder / "home").mkdir()
    words = ("method=dpo", "method.learning_rate=1e30,0.001", "tracker=wandb", "tracker.tags=[red,blue]", *LITTLE)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    variables |= {"HOME": str(folder / "home"), "NETRC": str(folder / "home" / ".netrc"), "HF_TOKEN": SECRET}
    line = [sys.executable, "-m", "alignzoo", "-m", *words, "hydra.sweep.dir=my-sweep"]
    return subprocess.run(
        line,
        capture_output=True,
        text=True,
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )


@pytest.fixture(scope="module")
def members(folder: Path, sweep: subprocess.CompletedProcess[str]) -> list[Path]:
    """The run folders of the job that fails and of the one that does not."""
    return sorted((folder / "my-sweep").glob("[0-9]*"))


def test_who_is_not_logged_in_is_told_and_not_asked(sweep: subprocess.CompletedProcess[str]) -> None:
    assert sweep.returncode == 1, "one member failed"
    assert "Not logged in to Weights & Biases: writing offline" in sweep.stdout
    assert "Traceback" not in sweep.stderr
    assert "Enter your choice" not in sweep.stdout + sweep.stderr
    assert "wandb: " not in sweep.stdout + sweep.stderr, "wandb itself is silent"


def test_each_member_of_a_sweep_is_a_run_of_its_own(members: list[Path]) -> None:
    failed, well = (logged(member) for member in members)
    assert failed.run.run_id != well.run.run_id
    assert (failed.run.display_name, well.run.display_name) == ("0-dpo-tiny-concise", "1-dpo-tiny-concise")
    assert failed.run.run_group == well.run.run_group == "my-sweep"
    assert well.run.project == "alignzoo"
    assert list(well.run.tags) == ["red", "blue"]


def test_a_run_has_the_losses_of_its_own_steps(members: list[Path]) -> None:
    for member in members:
        lines = [json.loads(line) for line in (member / "metrics.jsonl").read_text().splitlines()]
        wanted = [line["loss"] for line in lines if "loss" in line]
        assert len(wanted) == 2
        assert logged(member).losses == pytest.approx(wanted)


def test_a_run_has_the_config_and_the_final_numbers(members: list[Path]) -> None:
    well = logged(members[1])
    result = json.loads((members[1] / "result.json").read_text())
    assert well.config["method"]["learning_rate"] == 0.001
    assert well.config["model"]["name"] == "tiny"
    for key, value in {**result["after"], "steps": 2}.items():
        assert well.summary[key] == pytest.approx(value)


def test_a_run_that_fails_is_finished_as_failed(members: list[Path]) -> None:
    assert logged(members[0]).exit_code == 1
    assert logged(members[1]).exit_code == 0
    assert "the weights are lost" in (members[0] / "error.txt").read_text()


def test_wandb_writes_below_the_run_folder_and_no_secret(members: list[Path]) -> None:
    assert not (members[0].parent.parent / "wandb").exists()
    files = [path for path in members[0].parent.rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody is logged in, and no variable says anything."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path


@pytest.mark.usefixtures("away")
@pytest.mark.parametrize("end", [KeyboardInterrupt, RuntimeError])
def test_a_run_is_finished_whatever_ends_it(
    tmp_path: Path, compose_config: Callable[..., DictConfig], capsys: pytest.CaptureFixture[str], end: type
) -> None:
    import wandb

    def breaks() -> None:
        with start_tracker(compose_config("tracker=wandb", "model=tiny"), tmp_path / "run", None) as tracker:
            assert wandb.run is tracker.run
            tracker.summary({"margin": 1.5})
            raise end

    with pytest.raises(end):
        breaks()
    assert wandb.run is None
    ended = logged(tmp_path / "run")
    assert (ended.exit_code, ended.run.run_group, ended.summary["margin"]) == (1, "", 1.5)
    assert capsys.readouterr().out.count("Not logged in") == 1


@pytest.mark.usefixtures("away")
@pytest.mark.parametrize("how", ["variable", "config"])
def test_wandb_can_be_switched_off(
    tmp_path: Path,
    compose_config: Callable[..., DictConfig],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    how: str,
) -> None:
    words = ["tracker.mode=offline"]
    if how == "variable":
        monkeypatch.setenv("WANDB_MODE", "disabled")
    else:
        words = ["tracker.mode=disabled"]
    with start_tracker(compose_config("tracker=wandb", "model=tiny", *words), tmp_path / "run", None):
        pass
    assert not list(tmp_path.rglob("*.wandb"))
    assert "Not logged in" not in capsys.readouterr().out


def test_who_is_logged_in(away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_logged_in()
    (away / "netrc").write_text("machine example.org\n  login user\n  password x\n")
    assert not is_logged_in(), "elsewhere"
    (away / "netrc").write_text("machine api.wandb.ai\n  login user\n  password x\n")
    assert is_logged_in()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org/")
    assert not is_logged_in(), "to the public server, which is not the one in use"
    (away / "netrc").write_text("machine wandb.example.org\n  login user\n  password x\n")
    assert is_logged_in()
    (away / "netrc").write_text("machine machine machine\n")
    assert not is_logged_in(), "the file cannot be read"
    monkeypatch.setenv("WANDB_API_KEY", "key")
    assert is_logged_in()


def test_the_leaderboard_is_a_table_of_the_same_group(folder: Path, members: list[Path]) -> None:
    found = logged(folder / "my-sweep")
    assert found.run.run_group == "my-sweep"
    (table,) = (folder / "my-sweep" / "wandb").rglob("leaderboard*.table.json")
    content = json.loads(table.read_text())
    assert len(content["data"]) == len(members)
    place = content["columns"].index("status")
    assert sorted(row[place] for row in content["data"]) == ["failed", "finished"]


def test_tensorboard_writes_below_the_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "another-runs")
    words = ("method=dpo", "seed=1,2", "tracker=tensorboard", "method.learning_rate=0.001")
    done = run(tmp_path / "sweep", "-m", *words, *LITTLE)
    assert done.code == 0, done.err
    for member in ("0-dpo-tiny-concise", "1-dpo-tiny-concise"):
        folder = done.folder / member
        (file,) = folder.rglob("events.out.tfevents.*")
        assert file.parent == folder / "tensorboard"
        events = EventAccumulator(str(file)).Reload()
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        found = [(event.step, event.value) for event in events.Scalars("train/loss")]
        assert found == [(line["step"], pytest.approx(line["loss"])) for line in lines if "loss" in line]
    assert not (tmp_path / "another-runs").exists()
    assert not (tmp_path / "runs").exists()
    assert "TENSORBOARD_LOGGING_DIR" not in done.changed


def test_without_a_tracker_nothing_of_one_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(tmp_path / "run", "method=sft", *LITTLE)
    assert done.code == 0, done.err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert not {"wandb", "tensorboard", "mlruns"} & {path.name for path in done.folder.iterdir()}


@pytest.mark.parametrize("tracker", ["trackio", "mlflow", "tensorboard"])
def test_a_tracker_that_is_not_installed_is_named_with_its_extra(tmp_path: Path, tracker: str) -> None:
    """The real ones may be installed here: what is looked for is a module that nobody has."""
    done = run(tmp_path / "run", "method=dpo", f"tracker={tracker}", "tracker.requires=no_such_module_77e0", *LITTLE)
    assert done.code == 1
    assert done.err == f"alignzoo: tracker={tracker} is not installed: pip install 'alignzoo[{tracker}]'.\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("tracker", ["trackio", "mlflow", "tensorboard"])
def test_trackers_that_need_a_package_say_which(tracker: str, compose_config: Callable[..., DictConfig]) -> None:
    import tomllib

    cfg = compose_config(f"tracker={tracker}").tracker
    assert (cfg.name, cfg.report_to, cfg.requires) == (tracker, tracker, tracker)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert any(requirement.startswith(tracker) for requirement in project["optional-dependencies"][tracker])
