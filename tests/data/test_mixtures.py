"""``dataset.mix``: several sources in one run, in the proportions asked for, and the same rows for any seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from omegaconf import DictConfig
from transformers import AutoTokenizer

from alignzoo import DataFormat, UserError
from alignzoo.config.compose import compose
from alignzoo.data.prepare import Prepared, prepare
from alignzoo.data.tokenise import Tokeniser
from alignzoo.models import start_model

Row = dict[str, Any]
Prepare = Callable[..., Prepared]


def pairs(count: int, name: str) -> list[Row]:
    return [{"prompt": f"{name} {n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(count)]


def conversations(count: int, name: str) -> list[Row]:
    """Return the layout sharegpt-pairs."""
    turn = "from", "value"
    return [
        {
            "conversations": [dict(zip(turn, ("human", f"{name} {n}"), strict=True))],
            "chosen": dict(zip(turn, ("gpt", f"good {n}"), strict=True)),
            "rejected": dict(zip(turn, ("gpt", f"bad {n}"), strict=True)),
        }
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def tokeniser(cache: Path) -> Tokeniser:
    tokenizer = AutoTokenizer.from_pretrained(start_model.start_folder(compose(["model=tiny"]).model))
    return Tokeniser(tokenizer, [tokenizer.eos_token_id])


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write 40 pairs to a.jsonl, 20 to b.jsonl, 10 of another layout to c.json, and 6 single answers to sft.jsonl."""
    monkeypatch.chdir(tmp_path)
    contents = {"a": pairs(40, "a"), "b": pairs(20, "b"), "sft": [{"prompt": "Q", "completion": "A"}] * 6}
    for name, rows in contents.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "c.json").write_text(json.dumps(conversations(10, "c")))
    return tmp_path


@pytest.fixture
def mixed(files: Path, tokeniser: Tokeniser) -> Prepare:
    """Prepare what the overrides say, as a run would; nothing is held out if nothing is said."""

    def prepared(*overrides: str) -> Prepared:
        return prepare(config(*overrides), tokeniser)

    return prepared


def config(*overrides: str) -> DictConfig:
    return compose(["model=tiny", "dataset=local", "dataset.heldout.fraction=0", *overrides])


def counts(data: Prepared) -> dict[str, int]:
    """Return how many rows of each source are trained on."""
    train = data.manifest[data.manifest["decision"] == "train"]
    found: dict[str, int] = train["source"].value_counts().to_dict()
    return found


def rows_of(data: Prepared, decision: str = "train") -> set[tuple[str, int]]:
    frame = data.manifest[data.manifest["decision"] == decision]
    return set(zip(frame["source"], frame["row"], strict=True))


def test_without_weights_every_row_is_taken(mixed: Prepare) -> None:
    data = mixed("dataset.mix=[{path: a.jsonl}, {path: b.jsonl}]")
    assert counts(data) == {"a.jsonl": 40, "b.jsonl": 20}
    assert len(data.train) == 60


@pytest.mark.parametrize(
    ("weights_", "expected"),
    [
        ((2, 1), {"a.jsonl": 40, "b.jsonl": 20}),
        ((1, 1), {"a.jsonl": 20, "b.jsonl": 20}),
        ((1, 2), {"a.jsonl": 10, "b.jsonl": 20}),
        ((4, 1), {"a.jsonl": 40, "b.jsonl": 10}),
        ((0.5, 0.25), {"a.jsonl": 40, "b.jsonl": 20}),
        ((3, 1), {"a.jsonl": 40, "b.jsonl": 13}),
        ((0, 1), {"b.jsonl": 20}),
    ],
)
def test_rows_in_proportion_to_weights_and_as_many_as_there_are(
    mixed: Prepare, weights_: tuple[float, float], expected: dict[str, int]
) -> None:
    a, b = weights_
    data = mixed(f"dataset.mix=[{{path: a.jsonl, weight: {a}}}, {{path: b.jsonl, weight: {b}}}]")
    assert counts(data) == expected
    left = data.manifest[data.manifest["decision"] == "dropped"]
    assert len(left) == 60 - sum(expected.values())
    assert set(left["reason"]) <= {"beyond its weight in dataset.mix"}


def test_three_sources_and_a_weight_each(mixed: Prepare) -> None:
    parts = "{path: a.jsonl, weight: 1}, {path: b.jsonl, weight: 2}, {path: c.json, weight: 1}"
    assert counts(mixed(f"dataset.mix=[{parts}]")) == {"a.jsonl": 10, "b.jsonl": 20, "c.json": 10}


def test_no_row_is_taken_twice(mixed: Prepare) -> None:
    data = mixed("dataset.mix=[{path: a.jsonl, weight: 1}, {path: b.jsonl, weight: 5}]")
    assert not data.manifest.duplicated(["source", "row"]).any()
    assert len(set(data.train["prompt"])) == len(data.train) == 24


def test_a_source_named_twice_is_refused_or_taken_once(mixed: Prepare) -> None:
    try:
        data = mixed("dataset.mix=[{path: a.jsonl, weight: 1}, {path: a.jsonl, weight: 1}]")
    except UserError:
        return
    assert len(set(data.train["prompt"])) == len(data.train)


def test_any_seed_takes_the_same_rows(mixed: Prepare) -> None:
    parts = "dataset.mix=[{path: a.jsonl, weight: 1}, {path: b.jsonl, weight: 1}]"
    first, second = mixed(parts, "seed=0"), mixed(parts, "seed=1")
    pd.testing.assert_frame_equal(first.manifest, second.manifest)
    assert first.train["chosen_ids"] == second.train["chosen_ids"]


def test_rows_left_out_are_spread_over_the_source(mixed: Prepare) -> None:
    """They are chosen by a hash of the prompt, not from the file's end."""
    data = mixed("dataset.mix=[{path: a.jsonl, weight: 1}, {path: b.jsonl, weight: 1}]")
    rows = sorted(row for source, row in rows_of(data) if source == "a.jsonl")
    assert rows[0] <= 10
    assert rows[-1] > 30


def test_dataset_rows_bounds_the_mixture(mixed: Prepare) -> None:
    data = mixed("dataset.mix=[{path: a.jsonl, weight: 1}, {path: b.jsonl, weight: 1}]", "dataset.rows=10")
    assert sum(counts(data).values()) == 10
    assert set(counts(data)) == {"a.jsonl", "b.jsonl"}


def test_layouts_of_one_kind_can_be_mixed(mixed: Prepare) -> None:
    data = mixed("dataset.mix=[{path: b.jsonl}, {path: c.json}]", "dataset.chat=true")
    assert data.kind is DataFormat.PREFERENCE
    assert counts(data) == {"b.jsonl": 20, "c.json": 10}
    for row in data.train:
        (asked,), (chosen,) = json.loads(row["prompt"]), json.loads(row["chosen"])
        assert (asked["role"], chosen["role"]) == ("user", "assistant")
        assert chosen["content"] == f"good {asked['content'].split()[1]}"


def test_a_part_has_keys_of_its_own(mixed: Prepare, files: Path) -> None:
    """Columns, chat and first are a part's; the others keep the dataset's."""
    mapped = [{"q": f"d {n}", "yes": "good", "no": "bad"} for n in range(9)]
    (files / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mapped))
    part = "{path: d.jsonl, first: 5, chat: true, columns: {q: prompt, yes: chosen, no: rejected}}"
    data = mixed(f"dataset.mix=[{{path: b.jsonl}}, {part}]")
    assert counts(data) == {"b.jsonl": 20, "d.jsonl": 5}
    roles = {row["source"]: json.loads(text)[0]["role"] for row, text in with_prompts(data)}
    assert roles == {"b.jsonl": "text", "d.jsonl": "user"}


def with_prompts(data: Prepared) -> list[tuple[Row, str]]:
    train = data.manifest[data.manifest["decision"] == "train"].to_dict("records")
    return list(zip(train, data.train["prompt"], strict=True))


def test_different_kinds_are_refused(mixed: Prepare) -> None:
    with pytest.raises(UserError) as raised:
        mixed("dataset.mix=[{path: a.jsonl}, {path: sft.jsonl}]")
    assert str(raised.value) == "dataset.mix: a.jsonl holds preference rows and sft.jsonl holds supervised rows."


@pytest.mark.parametrize(
    ("first", "expected"), [(7, {"a.jsonl": 7, "b.jsonl": 7}), (30, {"a.jsonl": 30, "b.jsonl": 20})]
)
def test_first_bounds_the_rows_read_of_every_part(mixed: Prepare, first: int, expected: dict[str, int]) -> None:
    data = mixed("dataset.mix=[{path: a.jsonl}, {path: b.jsonl}]", f"dataset.first={first}")
    assert counts(data) == expected
    assert data.manifest["row"].max() == max(expected.values())


def test_first_bounds_a_single_source_before_anything_else(mixed: Prepare) -> None:
    data = mixed("dataset.path=a.jsonl", "dataset.first=8", "dataset.rows=5")
    assert len(data.manifest) == 8
    assert counts(data) == {"a.jsonl": 5}
    assert data.manifest["row"].max() == 8


def test_weights_are_applied_to_the_rows_that_are_read(mixed: Prepare) -> None:
    data = mixed("dataset.mix=[{path: a.jsonl, first: 6, weight: 1}, {path: b.jsonl, weight: 1}]")
    assert counts(data) == {"a.jsonl": 6, "b.jsonl": 6}


def test_held_out_prompts_are_held_out_of_every_part(mixed: Prepare, files: Path) -> None:
    """A prompt that several parts share is held out in all, or in none."""
    shared = [{"prompt": f"a {n}", "chosen": f"other {n}", "rejected": f"worse {n}"} for n in range(40)]
    (files / "e.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shared))
    data = mixed("dataset.mix=[{path: a.jsonl}, {path: e.jsonl}]", "dataset.heldout.fraction=0.3")
    held, trained = set(data.heldout["prompt"]), set(data.train["prompt"])
    assert held
    assert trained
    assert not held & trained
    assert len(data.heldout) == 2 * len(held)
    assert {source for source, _ in rows_of(data, "heldout")} == {"a.jsonl", "e.jsonl"}


def test_held_out_rows_do_not_depend_on_weights(mixed: Prepare) -> None:
    def held(a: int, b: int) -> set[tuple[str, int]]:
        parts = f"dataset.mix=[{{path: a.jsonl, weight: {a}}}, {{path: b.jsonl, weight: {b}}}]"
        return rows_of(mixed(parts, "dataset.heldout.fraction=0.3"), "heldout")

    assert held(1, 1) == held(1, 9) != set()


def test_weights_count_rows_that_are_trained_on(mixed: Prepare) -> None:
    """Held-out rows are not part of the proportion."""
    parts = "dataset.mix=[{path: a.jsonl, weight: 1}, {path: b.jsonl, weight: 1}]"
    found = counts(mixed(parts, "dataset.heldout.fraction=0.3"))
    assert found["a.jsonl"] == found["b.jsonl"] < 20


def test_a_prompt_of_the_held_out_file_is_left_out_of_every_part(mixed: Prepare, files: Path) -> None:
    asked = [*pairs(3, "a"), *pairs(2, "b")]
    (files / "held.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    data = mixed("dataset.mix=[{path: a.jsonl}, {path: b.jsonl}]", "dataset.heldout.path=held.jsonl")
    assert counts(data) == {"a.jsonl": 37, "b.jsonl": 18}
    assert rows_of(data, "heldout") == {("held.jsonl", row) for row in range(1, 6)}
    dropped = data.manifest[data.manifest["decision"] == "dropped"]
    assert set(dropped["reason"]) == {"its prompt is held out"}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ("[{weight: 1}, {path: b.jsonl}]", "dataset.mix: path is needed: a file, a folder, or a hub id."),
        ("[{path: nothing.jsonl}, {path: b.jsonl}]", "dataset.mix: path=nothing.jsonl: no such file."),
        ("[{path: a.jsonl, weigth: 1}, {path: b.jsonl, weight: 1}]", "weigth"),
        ("[{path: a.jsonl, weight: 0}, {path: b.jsonl, weight: 0}]", "weight"),
        ("[{path: a.jsonl, weight: -1}, {path: b.jsonl, weight: 1}]", "weight"),
        ("[{path: a.jsonl, weight: much}, {path: b.jsonl, weight: 1}]", "weight"),
        ("[a.jsonl, b.jsonl]", "dataset.mix"),
        ("[{path: a.jsonl}, {path: b.jsonl, weight: 1}]", "weight"),
    ],
)
def test_mistakes(mixed: Prepare, parts: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        mixed(f"dataset.mix={parts}")
    assert message in str(raised.value)


def test_a_part_of_which_nothing_is_usable_is_named(mixed: Prepare, files: Path) -> None:
    (files / "null.jsonl").write_text(json.dumps({"prompt": None, "chosen": "A", "rejected": "B"}) + "\n")
    parts = "[{path: a.jsonl, weight: 1}, {path: null.jsonl, weight: 1}]"
    with pytest.raises(UserError, match=r"null\.jsonl"):
        mixed(f"dataset.mix={parts}", "dataset.bad_rows=drop")
