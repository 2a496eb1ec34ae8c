"""Generated rows in the place of the dataset's: what is held out stays, and is never trained on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from alignzoo import DataFormat, UserError
from alignzoo.data.generated import REPLACED
from alignzoo.data.manifest import fingerprints, reasons
from alignzoo.data.prepare import Prepared, prepare
from alignzoo.data.tokenise import Tokeniser
from alignzoo.models.load import load_tokenizer

Prepare = Callable[..., Prepared]
Row = dict[str, Any]


@pytest.fixture
def prepared(
    start: Path, compose_config: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Prepare:
    """Prepare 60 pairs, a fifth of which are held out and a fifth for validation, with further overrides."""
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path / "cache"))
    shares = ("dataset.heldout.fraction=0.2", "dataset.validation.fraction=0.2")
    own = [
        {"question": f"Question {number}?", "good": f"Yes, {number}.", "rejected": f"No, {number}."}
        for number in range(60)
    ]
    path = write(tmp_path / "own.jsonl", own)
    columns = "dataset.columns={question: prompt, good: chosen}"

    def run(*overrides: str) -> Prepared:
        cfg = compose_config(
            "model=tiny", "dataset=local", "dataset.chat=true", f"dataset.path={path}", columns, *shares, *overrides
        )
        return prepare(cfg, Tokeniser(load_tokenizer(start, cfg.model), []))

    return run


def write(file: Path, rows: Iterable[Row]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def generated(folder: Path, rows: Iterable[Row]) -> str:
    """Write a generation's folder by hand, and return the word that trains on it."""
    folder.mkdir()
    write(folder / "train.jsonl", rows)
    (folder / "generated.json").write_text(json.dumps({key: {} for key in ("counts", "scores", "sampling", "start")}))
    return f"dataset.generated={folder}"


def say(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def pair(prompt: str) -> Row:
    return {
        "prompt": say("user", prompt),
        "chosen": say("assistant", "A good one."),
        "rejected": say("assistant", "A bad one."),
    }


def asked(rows: Any) -> list[str]:
    return [json.loads(prompt)[-1]["content"] for prompt in rows["prompt"]]


def test_generated_rows_are_trained_on_and_the_datasets_held_out(prepared: Prepare, tmp_path: Path) -> None:
    plain = prepared()
    word = generated(tmp_path / "made", [pair(prompt) for prompt in asked(plain.train)[:10]])
    data = prepared(word)
    assert asked(data.train) == asked(plain.train)[:10]
    assert json.loads(data.train["chosen"][0]) == say("assistant", "A good one.")
    assert plain.validation is not None
    assert data.validation is not None
    assert (asked(data.heldout), asked(data.validation)) == (asked(plain.heldout), asked(plain.validation))
    before, after = fingerprints(plain.manifest), fingerprints(data.manifest)
    assert (before["heldout"], before["validation"]) == (after["heldout"], after["validation"])
    assert before["train"] != after["train"]
    sources = data.manifest.loc[data.manifest["decision"] == "train", "source"]
    assert set(sources) == {"made/train.jsonl"}
    assert reasons(data.manifest) == {REPLACED: len(plain.train)}


def test_a_generated_row_whose_prompt_is_held_out_is_left_out(prepared: Prepare, tmp_path: Path) -> None:
    """Also where it is written a little differently."""
    plain = prepared()
    assert plain.validation is not None
    held, valid, fine = asked(plain.heldout)[:2], asked(plain.validation)[0], asked(plain.train)[0]
    word = generated(tmp_path / "made", map(pair, [held[0], held[1].upper(), valid, fine]))
    data = prepared(word)
    assert asked(data.train) == [fine]
    found = reasons(data.manifest)
    found.pop(REPLACED)
    assert found == {
        "its prompt is held out": 1,
        "a near-equal prompt is held out": 1,
        "its prompt is for validation": 1,
    }


def test_good_answers_are_measured_on_held_out_pairs(prepared: Prepare, tmp_path: Path) -> None:
    rows = [
        {"prompt": say("user", asked_for), "completion": say("assistant", "Fine.")}
        for asked_for in asked(prepared().train)
    ]
    data = prepared(generated(tmp_path / "made", rows))
    assert (data.kind, data.measured_kind) == (DataFormat.SUPERVISED, DataFormat.PREFERENCE)
    assert data.heldout["chosen_ids"][0]


def test_dataset_rows_bounds_the_generated_ones(prepared: Prepare, tmp_path: Path) -> None:
    word = generated(tmp_path / "made", map(pair, asked(prepared().train)))
    assert len(prepared(word, "dataset.rows=3").train) == 3


def test_rows_that_are_all_held_out_are_refused(prepared: Prepare, tmp_path: Path) -> None:
    word = generated(tmp_path / "made", map(pair, asked(prepared().heldout)))
    with pytest.raises(
        UserError, match=r"made/train\.jsonl: no row of \d+ is left to train on \(its prompt is held out\)"
    ):
        prepared(word)


def test_a_folder_that_is_no_generations_is_refused_in_one_line(prepared: Prepare, tmp_path: Path) -> None:
    told = r"dataset\.generated=\S+ is not the folder of a finished \+generate= run\."
    with pytest.raises(UserError, match=rf"{told} It has no generated\.json\.$"):
        prepared(f"dataset.generated={tmp_path}")
    generated(tmp_path / "made", [])
    with pytest.raises(UserError, match=rf"{told} Did you mean made\?$"):
        prepared(f"dataset.generated={tmp_path}/mode")
    (tmp_path / "made" / "generated.json").write_text("{}")
    with pytest.raises(UserError, match=r"generated\.json cannot be read: it has no counts\.$"):
        prepared(f"dataset.generated={tmp_path}/made")
