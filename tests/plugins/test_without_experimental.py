"""A TRL without experimental trainers trains all methods: ORPO's loss is then alignzoo's own, which is the same."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alignzoo.plugin.registry import registry
from alignzoo.train.losses.compare import compare
from alignzoo.train.losses.independence import find_shared

ORPO: Any = importlib.import_module("alignzoo_plugins.preference.orpo")

#: What a program prints that trains with the TRL of its first argument: each method's losses, trainer, and faults.
PROGRAM = """
import json, logging, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import trl
assert Path(trl.__file__).parent.parent == Path(sys.argv[1])
experimental = {path.stem for path in (Path(sys.argv[1]) / "trl" / "experimental").iterdir()}
assert experimental == {"__init__", "utils"}, experimental
logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
from alignzoo.config.declared import find_fault
from alignzoo.plugin.method import import_object
from alignzoo.plugin.registry import registry
from alignzoo.testing.runs import build, isolate_training
from alignzoo.testing.rows import list_layouts, find_further

methods = {name: registry().method(name) for name in registry().methods}
found = {"faults": {name: find_fault(method) for name, method in methods.items()}, "losses": {}, "built": {}}
for method in methods.values():
    import_object(method.config), import_object(method.trainer)
for name in ("dpo", "ipo", "kto", "grpo", "orpo"):
    method, folder = methods[name], Path(sys.argv[2]) / name
    folder.mkdir()
    with isolate_training():
        run = build(method, list_layouts(method.data)[0], folder, ["train.max_steps=2", "++method.learning_rate=1e-3"])
        run.trainer.train()
    found["losses"][name], found["built"][name] = run.losses, type(run.trainer).__name__
print(json.dumps(found))
"""


def test_the_own_loss_of_orpo_is_that_of_trls_trainer() -> None:
    theirs, ours = compare(ORPO.ORPO), compare(ORPO.OwnORPO)
    assert theirs is not None
    assert ours is not None
    assert ours.trl == pytest.approx(theirs.trl, rel=1e-5)
    assert ours.agrees
    assert ours.gradient < 1e-5
    assert find_shared(ORPO.OwnORPO) is None


def test_an_altered_own_loss_of_orpo_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    original = ORPO.OwnORPO.loss.__func__
    altered = classmethod(lambda cls, cfg, pairs: original(cls, cfg, pairs) - 0.01 * pairs.chosen.mean_log_prob)
    monkeypatch.setattr(ORPO.OwnORPO, "loss", altered)
    found = compare(ORPO.OwnORPO)
    assert found is not None
    assert not found.agrees


def test_the_trainer_of_trl_is_taken_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert registry().method("orpo") is ORPO.choose_orpo() is ORPO.ORPO
    monkeypatch.setattr(ORPO.ORPO, "trainer", "trl.experimental.gone:ORPOTrainer")
    assert ORPO.choose_orpo() is ORPO.OwnORPO


@pytest.fixture
def trl_without_experimental(tmp_path: Path) -> Path:
    """A folder with the installed TRL, of whose ``trl.experimental`` is left what its stable modules import."""
    installed = Path(importlib.import_module("trl").__file__ or "").parent
    folder = tmp_path / "site"
    (folder / "trl" / "experimental").mkdir(parents=True)
    parts = [part.name for part in installed.iterdir() if part.name not in ("experimental", "__pycache__")]
    for part in (*parts, "experimental/__init__.py", "experimental/utils.py"):
        (folder / "trl" / part).symlink_to(installed / part)
    return folder


@pytest.mark.slow
def test_methods_train_without_experimental(trl_without_experimental: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(trl_without_experimental), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert {name: fault for name, fault in found["faults"].items() if fault} == {}
    assert all(len(losses) == 2 for losses in found["losses"].values())
    assert found["built"]["orpo"] == "DPOTrainer"
    told = [line for line in done.stderr.splitlines() if "method=orpo trains alignzoo's own loss" in line]
    assert len(told) == 1
    assert "ORPOTrainer is not in TRL" in told[0]
