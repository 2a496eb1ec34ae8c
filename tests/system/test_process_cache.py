"""The jobs of a sweep in one process share rows and weights, and come out as runs by themselves do."""

from __future__ import annotations

import gc
import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUICK
from inprocess import run

from alignzoo.models import load
from alignzoo.system.process_cache import process_cache
from alignzoo.train import rows
from alignzoo.train.reference import scoring

pytestmark = pytest.mark.slow

#: Whether prompts are shared is chosen by time, and kept in a cache of which some of these runs have none.
PINNED = ("speed.shared_prefix=on", "reward=length", "reward.length.slack=200")
WORDS = (*QUICK, "train.warmup_steps=0", "method.learning_rate=0.001", *PINNED)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[int]:
    """Count the calls of ``owner.name``."""
    calls: list[int] = []
    function = getattr(owner, name)

    def count(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, count)
    return calls


def outcome(folder: Path) -> dict[str, Any]:
    """Return the hash of the trained weights, and all numbers of the result that no clock made."""
    result = json.loads((folder / "result.json").read_text())
    (weights,) = (folder / "model").glob("*model.safetensors")
    hashed = hashlib.sha256(weights.read_bytes()).hexdigest()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [(line.get("loss"), line.get("grad_norm")) for line in lines]
    return {"weights": hashed, "losses": losses, **{name: result[name] for name in ("before", "after", "data", "rows")}}


@pytest.mark.parametrize(
    ("swept", "last"),
    [
        (("method=dpo", "peft=none,lora"), ("method=dpo", "peft=lora")),
        pytest.param(("method=kto", "seed=0,3"), ("method=kto", "seed=3"), marks=pytest.mark.long),
    ],
    ids=["an adapter", "another seed"],
)
def test_sweep_jobs_are_bit_for_bit_what_separate_processes_give(
    tmp_path: Path,
    alignzoo: Callable[..., subprocess.CompletedProcess[str]],
    swept: tuple[str, ...],
    last: tuple[str, ...],
) -> None:
    """The last job runs after what another left behind."""
    done = run(tmp_path / "sweep", "-m", *swept, *WORDS)
    assert done.code == 0, done.err
    alone = alignzoo(*last, *WORDS, f"hydra.run.dir={tmp_path / 'alone'}", ALIGNZOO_CACHE=tmp_path / "empty")
    assert alone.returncode == 0, alone.stderr
    (folder,) = (tmp_path / "sweep").glob("1-*")
    assert outcome(folder) == outcome(tmp_path / "alone")


def test_rows_weights_and_reference_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {
        name: counted(monkeypatch, *of)
        for name, of in {
            "weights": (load, "_read_weights"),
            "rows": (rows, "prepare"),
            "reference": (scoring.Scorer, "_score_batch"),
        }.items()
    }
    first = run(tmp_path / "first", "-m", "method=dpo", "method.beta=0.05,0.1,0.2,0.5,1.0", *WORDS)
    assert first.code == 0, first.err
    assert {name: len(found) for name, found in calls.items()} == {"weights": 1, "rows": 1, "reference": 32}
    second = run(tmp_path / "second", "-m", "method=ipo", "method.beta=0.1,0.2", *WORDS)
    assert second.code == 0, second.err
    assert {name: len(found) for name, found in calls.items()} == {"weights": 2, "rows": 2, "reference": 32}


def test_other_data_and_another_model_are_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, prepared = counted(monkeypatch, load, "_read_weights"), counted(monkeypatch, rows, "prepare")
    words = ("method=sft", "evaluate.enabled=false", *(word for word in QUICK if "rows" not in word))
    swept = run(tmp_path / "sweep", "-m", "model.weights_seed=0,1", "dataset.rows=8,16", *words)
    assert swept.code == 0, swept.err
    found = [
        json.loads((folder / "result.json").read_text()) for folder in sorted((tmp_path / "sweep").glob("[0-9]-*"))
    ]
    assert [result["rows"]["train"] for result in found] == [8, 16, 8, 16]
    assert len({result["start"]["identity"] for result in found}) == 2
    assert (len(loaded), len(prepared)) == (2, 4)


def test_a_run_by_itself_keeps_nothing(tmp_path: Path) -> None:
    assert run(tmp_path / "run", "method=dpo", *WORDS).code == 0
    assert process_cache()._things == {}


def test_a_model_that_leaves_no_room_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "FREE_MEMORY_FACTOR", 10**12)
    loaded = counted(monkeypatch, load, "_read_weights")
    swept = run(tmp_path / "sweep", "-m", "method=orpo", "method.beta=0.1,0.2", *WORDS)
    assert swept.code == 0, swept.err
    assert len(loaded) == 4, "policy and start model of each member"


def held() -> int:
    """Return the bytes of all tensors that the process holds."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if isinstance(thing, torch.Tensor)]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


@pytest.mark.long
def test_memory_does_not_grow_from_member_to_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    prepare_next = process_cache().begin_job

    def noted(in_sweep: bool) -> None:
        if in_sweep:
            sizes.append(held())
        prepare_next(in_sweep)

    monkeypatch.setattr(process_cache(), "begin_job", noted)
    swept = run(tmp_path / "sweep", "-m", "method=dpo", "method.beta=0.1,0.2,0.3,0.4", "peft=none", *WORDS)
    assert swept.code == 0, swept.err
    assert len(sizes) == 4
    assert sizes[1] == sizes[2] == sizes[3], sizes
