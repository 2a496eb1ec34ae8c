"""How prompts are divided three ways: to train on, to select on, to report on; near-equal ones on one side."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from alignzoo import UserError
from alignzoo.config.check import check
from alignzoo.data.manifest import fingerprints
from alignzoo.data.near_equal import cluster_texts
from alignzoo.data.prepare import Prepared, prepare
from alignzoo.data.tokenise import Tokeniser
from alignzoo.models.load import load_tokenizer

Prepare = Callable[..., Prepared]
Row = dict[str, Any]
LOCAL = ("model=tiny", "dataset=local", "dataset.chat=true")


@pytest.fixture
def prepared(
    start: Path, compose_config: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Prepare:
    """Prepare the dataset of composed overrides with the tiny model's tokenizer."""
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path / "cache"))

    def run(*overrides: str) -> Prepared:
        cfg = compose_config(*LOCAL, *overrides)
        return prepare(cfg, Tokeniser(load_tokenizer(start, cfg.model), []))

    return run


def write(file: Path, rows: Iterable[Row]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def pair(name: str, prompt: str) -> Row:
    return {"id": name, "prompt": prompt, "chosen": "Yes.", "rejected": f"No, {name}."}


@pytest.fixture
def reworded(tmp_path: Path) -> str:
    """300 prompts, each three times: as it is, in capitals without its mark, and with other blanks."""
    asked = [f"Question {number}?" for number in range(300)]
    rows = [pair(f"{n}-{kind}", text) for n, q in enumerate(asked) for kind, text in enumerate(reword(q))]
    random.Random(0).shuffle(rows)
    return f"dataset.path={write(tmp_path / 'rows.jsonl', rows)}"


def reword(prompt: str) -> tuple[str, str, str]:
    return prompt, prompt.upper().rstrip("?"), f" {prompt.replace(' ', '  ')}"


SHARES = ("dataset.heldout.fraction=0.2", "dataset.validation.fraction=0.2", "dataset.validation.rows=1000")


def asked(rows: Any) -> set[str]:
    """The prompts, as numbers: all three ways to write one are the same."""
    return {name.split("-")[0] for name in rows["id"]}


def test_three_sides_share_no_prompt_however_it_is_written(prepared: Prepare, reworded: str) -> None:
    data = prepared(reworded, *SHARES, "dataset.heldout.rows=1000")
    assert data.validation is not None
    sides = [asked(rows) for rows in (data.train, data.heldout, data.validation)]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 300
    assert [len(rows) for rows in (data.train, data.heldout, data.validation)] == [3 * len(side) for side in sides]
    assert all(0.12 * 300 < len(side) < 0.28 * 300 for side in sides[1:])
    counts = data.manifest["decision"].value_counts().to_dict()
    assert counts == {"train": len(data.train), "heldout": len(data.heldout), "validation": len(data.validation)}


def test_validation_rows_leave_the_held_out_ones_as_they_were(prepared: Prepare, reworded: str) -> None:
    without = prepared(reworded, "dataset.heldout.fraction=0.2")
    data = prepared(reworded, *SHARES)
    assert list(data.heldout["id"]) == list(without.heldout["id"])
    assert set(data.train["id"]) < set(without.train["id"])
    assert not without.validation
    before, after = fingerprints(without.manifest), fingerprints(data.manifest)
    assert before.keys() == {"train", "heldout"}
    assert after["heldout"] == before["heldout"]
    assert after["validation"] not in after["train"]


def test_a_limit_changes_no_training(prepared: Prepare, reworded: str) -> None:
    few = prepared(reworded, *SHARES[:2], "dataset.validation.rows=10")
    assert few.validation is not None
    assert len(few.validation) == 10
    assert list(few.train["id"]) == list(prepared(reworded, *SHARES).train["id"])
    beyond = few.manifest[few.manifest["reason"] == "beyond dataset.validation.rows"]
    assert len(beyond) > 10


LETTER = "Write a short letter to my landlord in which I ask him to repair the heating before winter"


def test_files_that_overlap_give_each_prompt_to_one_side(prepared: Prepare, tmp_path: Path) -> None:
    """Held-out rows come before validation rows, and both before training rows; what is left out says why."""
    train = ["Who?", "What is salt?", "What is sugar?", "Please " + LETTER, "Where?"]
    validation = ["What is sugar?", "what is  SALT", "Why?"]
    heldout = ["What is salt?", LETTER]
    names = {"train": train, "validation": validation, "heldout": heldout}
    files = {name: write(tmp_path / f"{name}.jsonl", [pair(q, q) for q in rows]) for name, rows in names.items()}
    data = prepared(
        f"dataset.path={files['train']}", *(f"dataset.{n}.path={files[n]}" for n in ("validation", "heldout"))
    )
    assert data.validation is not None
    assert list(data.heldout["id"]) == heldout
    assert list(data.validation["id"]) == ["What is sugar?", "Why?"]
    assert list(data.train["id"]) == ["Who?", "Where?"]
    dropped = data.manifest[data.manifest["decision"] == "dropped"]
    assert list(zip(dropped["split"], dropped["id"], dropped["reason"], strict=True)) == [
        ("train", "What is salt?", "its prompt is held out"),
        ("train", "What is sugar?", "its prompt is for validation"),
        ("train", "Please " + LETTER, "a near-equal prompt is held out"),
        ("validation", "what is  SALT", "a near-equal prompt is held out"),
    ]


def test_a_share_beside_a_held_out_file(prepared: Prepare, tmp_path: Path, reworded: str) -> None:
    held = write(tmp_path / "held.jsonl", [pair(f"{n}-9", f"question {n}") for n in range(100)])
    data = prepared(reworded, f"dataset.heldout.path={held}", *SHARES)
    assert data.validation is not None
    assert len(data.heldout) == 100
    assert not asked(data.heldout) & (asked(data.train) | asked(data.validation))
    assert 0.1 * 200 < len(asked(data.validation)) < 0.3 * 200


def test_texts_without_prompts_are_divided_by_their_text(prepared: Prepare, tmp_path: Path) -> None:
    rows = [{"id": f"{n}-{k}", "text": text} for n in range(200) for k, text in enumerate(reword(f"Text {n}?"))]
    data = prepared(f"dataset.path={write(tmp_path / 'rows.jsonl', rows)}", "dataset.chat=false", *SHARES)
    assert data.validation
    assert not asked(data.train) & asked(data.validation)
    assert not asked(data.heldout) & asked(data.validation)


def test_a_system_prompt_makes_no_two_prompts_near_equal(prepared: Prepare, tmp_path: Path) -> None:
    system = {"role": "system", "content": LETTER}
    rows = [pair(f"{n}-0", "") | {"prompt": [system, {"role": "user", "content": f"Question {n}?"}]} for n in range(99)]
    for row in rows:
        row |= {name: [{"role": "assistant", "content": row[name]}] for name in ("chosen", "rejected")}
    data = prepared(f"dataset.path={write(tmp_path / 'rows.jsonl', rows)}", "dataset.chat=false", *SHARES)
    assert data.validation
    assert 0 < len(data.heldout) < 50


def test_embedded_rows_are_near_equal_to_none(prepared: Prepare) -> None:
    """What the default run trains on and measures is what it was before near-equal prompts were left out."""
    folder = Path(__file__).parents[2] / "alignzoo/data/concise"
    lines = [json.loads(line) for name in ("train", "heldout") for line in (folder / f"{name}.jsonl").open()]
    assert len(set(cluster_texts([line["prompt"][-1]["content"] for line in lines]))) == len(lines)


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["dataset.validation.fraction=1"], r"dataset.validation.fraction=1 must be below 1"),
        (["dataset.validation.fraction=-0.1"], r"dataset.validation.fraction=-0.1 must be at least 0"),
        (["dataset.validation.rows=ten"], r"dataset.validation.rows=ten is text; it takes int"),
        (["dataset.validation.fraction=0.6", "dataset.heldout.fraction=0.4"], "leave no prompt to train on"),
    ],
)
def test_shares_that_cannot_be(compose_config: Callable[..., DictConfig], overrides: list[str], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        check(compose_config("model=tiny", *overrides))
