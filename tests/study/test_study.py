"""Whole studies on random weights: planted truths, kills, protocols that change, and what is written down."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import QUICK
from inprocess import Outcome, call
from processes import Started, lines

pytestmark = pytest.mark.slow

FAST = (*QUICK, "evaluate.shown=0", "train.max_steps=2", "study.trials=2", "study.seeds=2", "study.underpowered=run")
FAST = (*FAST, "study.number=preference_accuracy")


def table(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "study.csv").set_index("method")


def results(folder: Path) -> dict[str, float]:
    """When each run ended."""
    return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in folder.glob("*/*/result.json")}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Outcome:
    folder = tmp_path_factory.mktemp("study") / "study"
    done = call("study", "method=dpo,simpo", *FAST, f"hydra.sweep.dir={folder}", folder=folder)
    assert done.code == 0, done.err
    return done


def test_each_phase_is_a_sweep_of_ordinary_runs(study: Outcome) -> None:
    assert len(results(study.folder)) == 8
    assert len({*study.folder.glob("tune/*/result.json")}) == 4
    status = call("sweep", "status", str(study.folder / "tune"))
    assert status.code == 0
    assert "trial=simpo-2" in status.out


def test_every_run_carries_the_protocol(study: Outcome) -> None:
    protocol = yaml.safe_load((study.folder / "protocol.yaml").read_text())
    for file in study.folder.glob("*/*/result.json"):
        told = json.loads(file.read_text())["study"]
        assert told["protocol"] == protocol["hash"]
        assert told["phase"] == file.parent.parent.name


def test_winners_are_trained_again_with_seeds_that_tuned_nothing(study: Outcome) -> None:
    tuned, tested = (
        {yaml.safe_load(file.read_text())["seed"] for file in study.folder.glob(f"{phase}/*/run.yaml")}
        for phase in ("tune", "test")
    )
    assert (tuned, tested) == ({0}, {1, 2})
    winners = yaml.safe_load((study.folder / "winners.yaml").read_text())
    for file in study.folder.glob("test/*/run.yaml"):
        method = yaml.safe_load(file.read_text())["method"]
        for key, value in winners[method["name"]]["values"].items():
            assert method[key] == value


def test_a_study_that_has_ended_says_the_same_and_runs_nothing(study: Outcome) -> None:
    before, told = results(study.folder), table(study.folder)
    again = call("study", "method=dpo,simpo", *FAST, f"hydra.sweep.dir={study.folder}")
    assert again.code == 0, again.err
    assert results(study.folder) == before
    pd.testing.assert_frame_equal(table(study.folder), told)
    status = call("study", "status", str(study.folder))
    assert status.code == 0
    assert "tune: 4 done" in status.out


def test_another_protocol_is_refused_in_one_line(study: Outcome) -> None:
    other = call("study", "method=dpo,simpo", *FAST, "study.trials=3", f"hydra.sweep.dir={study.folder}")
    assert other.code == 1
    assert "holds a study with another protocol (trials was 2, is 3)" in other.err
    assert other.err.strip().count("\n") == 0


def test_the_page_answers_and_has_the_command(study: Outcome) -> None:
    page = (study.folder / "study.html").read_text()
    assert "No single best in preference accuracy" in page
    assert "method=dpo,simpo study.trials=2 study.seeds=2" in page
    assert "http-equiv" not in page  # it refreshes only while it runs
    assert "Rafailov et al., 2023, equation 7" in page


@pytest.mark.long
def test_a_study_killed_and_resumed_ends_with_the_same_table(study: Outcome, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    words = ["study", "method=dpo,simpo", *FAST, f"hydra.sweep.dir={folder}"]
    for phase, updates in (("tune", 3), ("test", 3)):
        started = Started(folder, *words, output=tmp_path / f"{phase}.out")
        _wait_for(started, folder / phase, updates)
        started.kill(signal.SIGKILL)
        started.ends()
        words = ["study", "resume", str(folder)]
    ended = results(folder)
    assert 4 <= len(ended) < 8
    assert call(*words).code == 0
    assert {name: when for name, when in results(folder).items() if name in ended} == ended  # nothing is paid twice
    pd.testing.assert_frame_equal(table(folder), table(study.folder))


def _wait_for(started: Started, folder: Path, updates: int) -> None:
    deadline = time.monotonic() + 240
    while started.process.is_alive() and lines(folder) < updates:
        assert time.monotonic() < deadline, started.said
        time.sleep(0.01)
    assert lines(folder) >= updates, started.said


PLUGIN = '''
"""DPO under another name, and DPO that learns the opposite of what the pairs say."""

from typing import Any

from alignzoo import hookimpl


def _make():
    from {module} import DPO

    class Twin(DPO):
        """The same method under another name (nobody, 2026)."""

        name = "twin"

    class Swapped(DPO):
        """DPO on pairs whose answers are swapped (nobody, 2026)."""

        name = "swapped"

        def trainer_arguments(self, parts) -> dict[str, Any]:
            swap = {{"chosen_ids": "rejected_ids", "rejected_ids": "chosen_ids"}}
            return {{**super().trainer_arguments(parts), "train_dataset": parts.train.rename_columns(swap)}}

    return [Twin, Swapped]


@hookimpl
def alignzoo_methods():
    return _make()


@hookimpl
def alignzoo_config_packages():
    return ["planted.conf"]
'''


@pytest.mark.long
def test_planted_truths_are_found(fake_package: Callable[..., None], tmp_path: Path) -> None:
    """A method under another name ends as equal, and one that learns from swapped answers loses."""
    from alignzoo.plugin.registry import registry

    module = registry().method("dpo").__module__
    option = "# Planted.\ndefaults:\n  - dpo\n\n# Its name.\nname: {}\n"
    configs = {f"method/{name}.yaml": option.format(name) for name in ("twin", "swapped")}
    fake_package("planted", PLUGIN.format(module=module), {"method/__init__.py": "", **configs})
    folder = tmp_path / "study"
    words = ("model=tiny", "dataset.rows=48", "evaluate.rows=48", "evaluate.max_new_tokens=2", "evaluate.shown=0")
    own = ("study.trials=1", "study.seeds=2", "study.underpowered=run", "study.rates=[200,201]")
    own = (*own, "study.equal_within=10", "train.max_steps=12", "study.number=preference_accuracy")
    done = call("study", "method=dpo,twin,swapped", *words, *own, f"hydra.sweep.dir={folder}")
    assert done.code == 0, done.err
    found = table(folder)
    assert found["verdict"].to_dict() == {"dpo": "baseline", "twin": "equal", "swapped": "worse"}
    assert found["may_be_best"].to_dict() == {"dpo": True, "twin": True, "swapped": False}
