"""``evaluate.against``: a run's numbers are those against another model than the one it began with."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import QUICK
from inprocess import run

from alignzoo.models.tiny import make_tiny

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
    said = f"alignzoo: evaluate.against=./nothing: no such folder. Looked in {Path.cwd()}.\n"
    assert (done.code, done.err) == (1, said)
    assert not (tmp_path / "run").exists()


def test_a_model_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    """The same weights, and two tokens that have changed places."""
    make_tiny(tmp_path / "other")
    file = tmp_path / "other" / "tokenizer.json"
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    numbers = tokenizer["model"]["vocab"]
    numbers["a"], numbers["b"] = numbers["b"], numbers["a"]
    file.write_text(json.dumps(tokenizer), encoding="utf-8")
    done = run(tmp_path / "run", "method=dpo", *FAST, f"evaluate.against={tmp_path / 'other'}")
    assert done.code == 1
    assert f"evaluate.against={tmp_path / 'other'} has other tokens than model=tiny, as '" in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "run").exists()
