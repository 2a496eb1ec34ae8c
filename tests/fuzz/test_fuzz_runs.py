"""Checkpoints and run folders of any bytes: a broken one is named, and the older one or the other runs are used."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest
from fuzzing import FUZZ, Files, attempt, change_value, damaged, write_over
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from alignzoo.cli.manifest import read_manifest
from alignzoo.data.manifest import IDENTITY
from alignzoo.evaluate import comparison
from alignzoo.evaluate.metrics import summarise
from alignzoo.evaluate.targets import load_run_config
from alignzoo.report.leaderboard.board import read_leaderboard
from alignzoo.report.leaderboard.table import make_frame
from alignzoo.runs import checkpoint, resume, sweep_status
from alignzoo.runs.record import Record
from alignzoo.system.seal import check_seal
from alignzoo.train.checkpointing import TimeBeforeResume

CFG = OmegaConf.create({"resume": "auto", "seed": 0, "method": {"beta": 0.1}, "train": {"save_steps": 2}})
FACTS: dict[str, Any] = {
    "config": {"seed": 0, "method.beta": 0.1, "train.save_steps": 2, "resume": "auto"},
    "data": {"train": "a1", "heldout": "b2"},
    "start": {"config.json": 10},
    "device": {"device": "cpu", "precision": "fp32", "processes": 1},
    "versions": {name: importlib.metadata.version(name) for name in resume.PACKAGES},
    "spent": {"resumed": [1], "train_seconds": 3.5},
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Files]:
    """The folder of a run with two checkpoints, and what the newest of them holds."""
    folder = tmp_path_factory.mktemp("run")
    for step in (2, 4):
        saved = checkpoint.folder_of(folder / "checkpoints", step)
        saved.mkdir(parents=True)
        (saved / "model.safetensors").write_bytes(bytes(range(256)))
        (saved / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        checkpoint.seal(saved, step, FACTS)
    return folder, Files.read(saved)


@FUZZ
@given(data=st.data())
def test_a_checkpoint_of_any_bytes(checkpoints: tuple[Path, Files], data: st.DataObject) -> None:
    folder, whole = checkpoints
    newest = checkpoint.folder_of(folder / "checkpoints", 4)
    for name, content in whole.items():
        write_over(newest / name, content)
    forged = data.draw(st.booleans())
    if forged:  # and sealed again
        facts = data.draw(change_value(check_seal(newest, checkpoint.SEAL)))
        checkpoint.seal(newest, 4, facts if isinstance(facts, dict) else {"config": facts})
    else:
        damage = data.draw(damaged(Files({name: content for name, content in whole.items() if "safe" not in name})))
        write_over(newest / damage.name, damage.content)
    found, skipped = checkpoint.find_newest(folder / "checkpoints")
    assert found is not None
    if found.step == 2:
        assert [line.startswith("checkpoint-4 is skipped: ") for line in skipped] == [True]
        assert len(skipped[0].splitlines()) == 1
    else:
        assert forged or found.facts == {"step": 4, **FACTS}
    found = attempt(lambda: resume.find(CFG, folder))
    attempt(lambda: resume.check(found, FACTS))
    TimeBeforeResume(found).summarise()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Files]:
    """The folder of a sweep of two finished runs, and what it holds for the second of them."""
    folder = tmp_path_factory.mktemp("sweep")
    for number, method in enumerate(("dpo", "ipo")):
        make_run(folder / f"{number}-{method}-m-d", method)
    words = {"task": ["method=dpo,ipo"], "hydra": []}
    account = {"hydra": {"sweeper": {"_target_": sweep_status.BASIC}, "overrides": words}}
    (folder / sweep_status.PLAN).write_text(OmegaConf.to_yaml(OmegaConf.create(account)))
    return folder, Files({name: content for name, content in Files.read(folder).items() if not name.startswith("0-")})


def make_run(folder: Path, method: str) -> None:
    import pandas as pd

    folder.mkdir()
    sides = [
        {"text": "Rain falls.", "tokens": 3, "ended": True, "chosen": -9.0 - n, "rejected": -9.5} for n in range(6)
    ]
    answers = [
        {"id": f"p{n}", "prompt": "Why?", "chosen_tokens": 9, "rejected_tokens": 9, "before": sides[0], "after": side}
        for n, side in enumerate(sides)
    ]
    answers = [{**row, **{s: {"kl": 0.5, "kl_tokens": 3, **row[s]} for s in ("before", "after")}} for row in answers]
    cost = {"steps": 4, "total_seconds": 9.0, "train_seconds": 3.0}
    data = {"train": "t", "heldout": "h"}
    result = {"method": method, "objective": "margin", "data": data, **summarise(answers), "cost": cost}
    config = {"seed": 0, "method": {"name": method, "beta": 0.1}, "train": {"max_steps": 4}}
    (folder / "result.json").write_text(json.dumps({**result, "start": {"folder": "/models/tiny"}}))
    (folder / "answers.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in answers))
    (folder / "metrics.jsonl").write_text("".join(f'{{"step": {n}, "loss": {1 / (n + 1)}}}\n' for n in range(4)))
    (folder / "run.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
    (folder / "command.txt").write_text(f"python -m alignzoo method={method} seed=0\n")
    manifest = [{**dict.fromkeys((*IDENTITY, "decision", "reason", "tokens"), "a"), "row": n} for n in range(5)]
    pd.DataFrame(manifest).to_parquet(folder / "data.parquet", index=False)


@FUZZ
@given(data=st.data())
def test_a_run_folder_of_any_bytes(runs: tuple[Path, Files], data: st.DataObject) -> None:
    folder, whole = runs
    damage = data.draw(damaged(whole))
    write_over(folder / damage.name, damage.content)
    try:
        other, run = sorted(folder.glob("*-m-d"))
        read_all(folder, other, run)
    finally:
        write_over(folder / damage.name, damage.before)


def read_all(folder: Path, other: Path, run: Path) -> None:
    board = read_leaderboard([folder])
    assert len(board.rows) + len(board.failed) == 2, "the other run keeps its place"
    make_frame(board)
    attempt(lambda: sweep_status.read_jobs(folder))
    compared = attempt(lambda: comparison.read_runs([other, run]))
    assert compared is not None, "one of them can be compared"
    attempt(lambda: comparison.compare(compared[0], failed=compared[1]))
    attempt(lambda: resume.is_finished(CFG, run))
    attempt(lambda: read_manifest(run))
    attempt(lambda: load_run_config(run, ["evaluate.rows=3"]))
    Record.of(run).read_history()


@pytest.fixture(autouse=True)
def quiet(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")
