"""``evaluate.against``: a run's numbers are those against another model than the one it began with."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import QUICK
from inprocess import run

FAST = (*QUICK, "train.max_steps=2", "train.warmup_steps=0", "method.learning_rate=1e-3")


def test_a_run_can_be_measured_against_another(tmp_path: Path, cache: Path) -> None:
    first = run(tmp_path / "first", "method=sft", *FAST)
    assert first.code == 0, first.err
    second = run(tmp_path / "second", "method=dpo", *FAST, f"evaluate.against={first.folder}")
    assert second.code == 0, second.err
    result = second.result()
    assert result["against"]["folder"] == str(first.folder / "model")
    assert result["start"] == first.result()["start"]
    texts = [
        [json.loads(line) for line in (r.folder / "answers.jsonl").read_text().splitlines()] for r in (first, second)
    ]
    for old, new in zip(*texts, strict=True):
        assert new["before"]["text"] == old["after"]["text"]
        assert abs(new["before"]["chosen"] - old["after"]["chosen"]) < 1e-3
    assert result["after"]["kl"] > 0


def test_a_model_that_is_not_there_is_named_with_its_key(tmp_path: Path) -> None:
    done = run(tmp_path / "run", "method=dpo", *FAST, "evaluate.against=./nothing")
    assert (done.code, done.err) == (1, "alignzoo: evaluate.against=./nothing: no such folder.\n")
    assert not (tmp_path / "run").exists()
