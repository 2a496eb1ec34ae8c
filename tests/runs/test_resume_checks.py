"""Which checkpoint a run resumes from, and which are refused: decided from files and values, without a training."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from alignzoo.runs import checkpoint, resume
from alignzoo.system import lock

VERSIONS = {name: importlib.metadata.version(name) for name in resume.PACKAGES}
FACTS = {
    "data": {"train": "a1", "heldout": "b2"},
    "start": {"config.json": 10, "model.safetensors": 20},
    "teacher": {},
    "device": {"device": "cpu", "precision": "fp32", "processes": 1},
    "spent": {"resumed": [], "train_seconds": 0.0},
}


def config(**values: Any) -> DictConfig:
    cfg = OmegaConf.create({"resume": "auto", "seed": 0, "method": {"beta": 0.1}, "train": {"save_steps": 2}})
    for key, value in values.items():
        OmegaConf.update(cfg, key.replace("__", "."), value, force_add=True)
    return cfg


def save(root: Path, step: int, cfg: DictConfig | None = None, **facts: Any) -> Path:
    """Write a checkpoint that is whole, of a run with the configuration ``cfg``."""
    folder = root / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "weights").write_text(str(step))
    found = {"config": resume.flatten_config(cfg or config()), **FACTS, "versions": VERSIONS, **facts}
    checkpoint.seal(folder, step, found)
    return folder


@pytest.mark.parametrize(
    ("then", "now", "found"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}, []),
        ({"b": 2, "a": 1}, {"a": 3, "b": 4}, [("a", 1, 3), ("b", 2, 4)]),
        ({"a": 1}, {}, [("a", 1, None)]),
        ({}, {"a": 1}, [("a", None, 1)]),
        ({"evaluate": 1, "evaluate.rows": 2, "judge.name": "x"}, {"tracker.name": "y"}, []),
        ({"strategy.nodes": 1, "strategy.restarts": 0}, {"strategy.nodes": 2, "strategy.restarts": 3}, []),
        ({"strategy.device": "cpu"}, {"strategy.device": "cuda"}, [("strategy.device", "cpu", "cuda")]),
        ({"evaluated": 1, "train.save": 1}, {}, [("evaluated", 1, None), ("train.save", 1, None)]),
    ],
)
def test_keys_that_change_the_training_differ(
    then: dict[str, Any], now: dict[str, Any], found: list[tuple[str, Any, Any]]
) -> None:
    assert resume.find_differences(then, now) == found


def test_a_configuration_is_compared_as_json_gives_it_back() -> None:
    cfg = config(method__path=Path("a"), method__betas=(0.9, 0.95), method__none=None, method__empty={})
    flat = resume.flatten_config(cfg)
    assert flat == json.loads(json.dumps(flat))
    assert flat["method.betas"] == [0.9, 0.95]
    assert (flat["method.none"], flat["method.path"], flat["method.empty"]) == (None, "a", {})


def test_without_resume_checkpoints_of_another_run_are_refused(tmp_path: Path) -> None:
    assert resume.find(config(resume="no"), tmp_path) is None
    save(tmp_path / "checkpoints", 2)
    with pytest.raises(resume.Refused, match=r"holds a run with checkpoints: add resume=auto"):
        resume.find(config(resume="no"), tmp_path)


def test_without_a_checkpoint_the_run_starts_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert resume.find(config(), tmp_path) is None
    assert f"resume: no checkpoint in {tmp_path}" in capsys.readouterr().out
    (save(tmp_path / "checkpoints", 2) / "weights").unlink()
    assert resume.find(config(), tmp_path) is None
    out = capsys.readouterr().out
    assert "resume: checkpoint-2 is skipped: weights is missing" in out
    assert f"resume: no whole checkpoint in {tmp_path}" in out


def test_the_newest_whole_checkpoint_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "checkpoints"
    save(root, 9)
    (save(root, 1_000) / "weights").write_text("harmed")
    save(
        root / checkpoint.UNFINISHED, 10, spent={"resumed": [4], "train_seconds": 1.0}
    )  # killed before it got its name
    found = resume.find(config(train__save_steps=5, evaluate={"rows": 3}), tmp_path)
    assert found is not None
    assert (found.step, found.folder) == (10, root / "checkpoint-10")
    assert found.facts["spent"] == {"resumed": [4], "train_seconds": 1.0}
    out = capsys.readouterr().out
    assert "checkpoint-1000 is skipped" in out
    assert str(found.folder) in out


def test_a_checkpoint_of_another_configuration_is_refused_with_what_differs(tmp_path: Path) -> None:
    save(tmp_path / "checkpoints", 2)
    with pytest.raises(resume.Refused, match=r"was made with method\.beta=0\.1 \(now 0\.5\)\.\n"):
        resume.find(config(method__beta=0.5), tmp_path)
    many = {f"method__k{number}": number for number in range(7)}
    with pytest.raises(resume.Refused, match=r"method\.k4=None \(now 4\), and 2 more\.\n"):
        resume.find(config(**many), tmp_path)


def test_what_another_run_says_of_itself_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    save(tmp_path / "checkpoints", 2, config(method__beta="\x1b[2J\n"))
    with pytest.raises(resume.Refused, match=r"was made with 'method\.beta=\\x1b\[2J\\n \(now 0\.1\)'\.\n"):
        resume.find(config(), tmp_path)


@pytest.mark.parametrize("group", ["train", "method"])
def test_checkpoints_without_the_optimizer_are_refused(group: str, tmp_path: Path) -> None:
    with pytest.raises(resume.Refused, match="save_only_model=true leaves out of checkpoints"):
        resume.find(config(**{f"{group}__save_only_model": True}), tmp_path)


def test_other_versions_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "checkpoints", 2)
    assert resume.find(config(), tmp_path) is not None
    assert caplog.text == ""
    save(tmp_path / "checkpoints", 3, versions=VERSIONS | {"torch": "1.0"})
    assert resume.find(config(), tmp_path) is not None
    assert f"torch 1.0 -> {VERSIONS['torch']}" in caplog.text
    assert "trl" not in caplog.text


@pytest.mark.parametrize(
    ("kind", "key", "what"),
    [
        ("data", "heldout", "rows"),
        ("start", "config.json", "start model"),
        ("device", "processes", "device, precision or number of processes"),
    ],
)
def test_another_dataset_model_or_device_is_refused(kind: str, key: str, what: str, tmp_path: Path) -> None:
    resume.check(None, FACTS)
    found = checkpoint.Checkpoint(tmp_path / "checkpoint-2", 2, FACTS)
    resume.check(found, FACTS)
    now = FACTS | {kind: {**FACTS[kind], key: "other"}}
    with pytest.raises(resume.Refused, match=rf"was made with another {what} \({kind}\.{key}\)"):
        resume.check(found, now)


def test_a_finished_run_is_told_only_to_who_resumes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not resume.is_finished(config(), tmp_path)
    (tmp_path / "result.json").write_text('{"before": {}, "after": {}, "cost": {"steps": 4}}')
    assert not resume.is_finished(config(resume="no"), tmp_path)
    assert resume.is_finished(config(), tmp_path)
    assert "holds the finished run (4 " in capsys.readouterr().out
    (tmp_path / "run.yaml").write_text("hydra: {}\n" + OmegaConf.to_yaml(config(resume="no")))
    (tmp_path / lock.FILE).touch()  # by a process that was killed behind its last write
    assert resume.is_finished(config(), tmp_path)
    assert not (tmp_path / lock.FILE).exists()
    with pytest.raises(resume.Refused, match=r"seed=0 \(now 1\)"):
        resume.is_finished(config(seed=1), tmp_path)


@pytest.mark.parametrize(("name", "content"), [("result.json", b"{}"), ("run.yaml", b"a: [1"), ("run.yaml", b"\xff")])
def test_a_finished_run_that_cannot_be_read_is_left_alone(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "result.json").write_text('{"before": {}, "after": {}}')
    (tmp_path / name).write_bytes(content)
    with pytest.raises(resume.Refused, match=f"{name} cannot be read") as refused:
        resume.is_finished(config(), tmp_path)
    assert len(str(refused.value).splitlines()) == 2
