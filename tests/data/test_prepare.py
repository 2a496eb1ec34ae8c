"""Which rows are trained on and which held out: the same for every method, said row by row, and read once."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from damage import DAMAGES
from omegaconf import DictConfig
from repository import REAL_DATA as DATA

from alignzoo import DataFormat, UserError
from alignzoo.config.check import check
from alignzoo.data.convert import convert
from alignzoo.data.findings import inspect
from alignzoo.data.prepare import Prepared, prepare
from alignzoo.data.tokenise import Tokeniser
from alignzoo.models.load import load_policy, load_tokenizer
from alignzoo.system.libraries import silence_libraries
from alignzoo.train.trainer import build_trainer
from alignzoo.train.trl_config import make_trl_config

METHODS = ("dpo", "ipo", "orpo", "kto", "sft")

Prepare = Callable[..., Prepared]
Row = dict[str, Any]


@pytest.fixture
def rows_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rows"


@pytest.fixture
def prepared(start: Path, compose_config: Callable[..., DictConfig], rows_cache: Path) -> Prepare:
    """Prepare the dataset of composed overrides with the tiny model's tokenizer."""

    def run(*overrides: str, template: str | None = None) -> Prepared:
        cfg = compose_config("model=tiny", *overrides)
        tokenizer = load_tokenizer(start, cfg.model)
        tokenizer.chat_template = template or tokenizer.chat_template
        return prepare(cfg, Tokeniser(tokenizer, []))

    return run


def write(file: Path, rows: Iterable[Row]) -> str:
    """Write JSON lines; return the overrides' dataset.path."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"dataset.path={file}"


def pair(number: int, prompt: str | None = None) -> Row:
    return {
        "id": f"id-{number}",
        "prompt": prompt or f"Question {number}?",
        "chosen": "Yes.",
        "rejected": f"No {number}.",
    }


LOCAL = ("dataset=local", "dataset.chat=true")


def ids(rows: Any) -> list[str]:
    return list(rows["id"])


# --- What is held out ----------------------------------------------------------------------------------------------


@pytest.fixture
def repeated(tmp_path: Path) -> list[Row]:
    """400 pairs on 200 prompts."""
    return [pair(n, f"Question {n % 200}?") for n in range(400)]


def test_no_prompt_is_on_both_sides(prepared: Prepare, tmp_path: Path, repeated: list[Row]) -> None:
    data = prepared(*LOCAL, write(tmp_path / "rows.jsonl", repeated), "dataset.heldout.fraction=0.2")
    assert len(data.train) + len(data.heldout) == 400
    assert not set(data.train["prompt"]) & set(data.heldout["prompt"])
    assert 0.1 * 400 < len(data.heldout) < 0.3 * 400


def test_the_same_rows_are_held_out_whatever_the_seed_order_and_method(
    prepared: Prepare, tmp_path: Path, repeated: list[Row]
) -> None:
    path = write(tmp_path / "rows.jsonl", repeated)
    random.Random(0).shuffle(repeated)
    shuffled = write(tmp_path / "shuffled.jsonl", repeated)
    held = [
        sorted(ids(prepared(*LOCAL, *overrides).heldout))
        for overrides in ((path,), (path, "seed=7"), (shuffled,), (path, "method=kto"), (path, "dataset.rows=20"))
    ]
    assert held == [held[0]] * len(held)
    assert held[0]


def test_a_limit_holds_out_the_same_rows_whatever_the_order(
    prepared: Prepare, tmp_path: Path, repeated: list[Row]
) -> None:
    limit = ("dataset.heldout.fraction=0.2", "dataset.heldout.rows=10")
    first = prepared(*LOCAL, write(tmp_path / "rows.jsonl", repeated), *limit)
    random.Random(0).shuffle(repeated)
    second = prepared(*LOCAL, write(tmp_path / "shuffled.jsonl", repeated), *limit)
    assert sorted(ids(first.heldout)) == sorted(ids(second.heldout))


def test_rows_beyond_the_limit_are_not_trained_on(prepared: Prepare, tmp_path: Path, repeated: list[Row]) -> None:
    """Held-out prompts that are not measured stay apart, so that a limit changes no training."""
    path = write(tmp_path / "rows.jsonl", repeated)
    every = prepared(*LOCAL, path, "dataset.heldout.fraction=0.2")
    few = prepared(*LOCAL, path, "dataset.heldout.fraction=0.2", "dataset.heldout.rows=10")
    assert ids(few.train) == ids(every.train)
    assert len(few.heldout) == 10
    assert set(ids(few.heldout)) < set(ids(every.heldout))
    assert prepared(*LOCAL, path, "dataset.heldout.rows=0").heldout.num_rows == 0


def test_held_out_rows_of_their_own_file(prepared: Prepare, tmp_path: Path) -> None:
    """A training row with a held-out prompt is left out; the held-out rows are all there."""
    path = write(tmp_path / "rows.jsonl", (pair(n) for n in range(10)))
    write(tmp_path / "held.jsonl", [pair(3), pair(100, "Question 5?"), pair(101)])
    data = prepared(*LOCAL, path, f"dataset.heldout.path={tmp_path / 'held.jsonl'}")
    assert ids(data.heldout) == ["id-3", "id-100", "id-101"]
    assert ids(data.train) == [f"id-{n}" for n in range(10) if n not in (3, 5)]
    assert reasons(data)["id-5"] == ("dropped", "its prompt is held out")


def test_held_out_rows_of_another_kind_are_refused(prepared: Prepare, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [pair(1)])
    write(tmp_path / "held.jsonl", [{"prompt": "Q"}])
    with pytest.raises(UserError, match=r"the training rows are preference rows, those of held\.jsonl prompts rows"):
        prepared(*LOCAL, path, f"dataset.heldout.path={tmp_path / 'held.jsonl'}")


PROMPTLESS: dict[str, Callable[[int], Row]] = {
    "text": lambda n: {"text": f"Text number {n}."},
    "answers": lambda n: {"prompt": "", "completion": f"Text number {n}."},
    "blank": lambda n: {"prompt": " ", "completion": f"Text number {n}."},
    "marked": lambda n: {"prompt": "", "completion": f"Text number {n}.", "label": n % 3 > 0},
    "scored": lambda n: {"prompt": "", "completion": f"Text number {n}.", "score": n},
}


@pytest.mark.parametrize("kind", PROMPTLESS)
def test_texts_without_prompts_are_held_out_by_their_own_hash(prepared: Prepare, tmp_path: Path, kind: str) -> None:
    rows = [PROMPTLESS[kind](n) | {"id": f"id-{n}"} for n in range(200)]
    share = ("dataset=local", "dataset.heldout.fraction=0.2")
    data = prepared(*share, write(tmp_path / "rows.jsonl", rows))
    assert 20 < len(data.heldout) < 60
    assert len(data.train) + len(data.heldout) == 200
    again = [*rows[50:], rows[int(ids(data.heldout)[0][3:])] | {"id": "again"}, *rows[:50]]
    shuffled = prepared(*share, write(tmp_path / "shuffled.jsonl", again), "dataset.heldout.rows=1000", "seed=9")
    assert set(ids(shuffled.heldout)) == {*ids(data.heldout), "again"}, "the same text is held out again"
    apart = prepared(
        *("dataset=local", write(tmp_path / "rows.jsonl", rows)),
        write(tmp_path / "held.jsonl", [rows[7] | {"id": "apart"}]).replace("dataset.", "dataset.heldout."),
    )
    assert ids(apart.train) == [f"id-{n}" for n in range(200) if n != 7]
    assert reasons(apart)["id-7"] == ("dropped", "its text is held out")


@pytest.mark.parametrize("fraction", ["0.05", "0.999999"])
def test_rows_of_one_prompt_are_named_as_that(prepared: Prepare, tmp_path: Path, fraction: str) -> None:
    """More or less of dataset.heldout.fraction would hold out all rows or none."""
    path = write(tmp_path / "rows.jsonl", [pair(n, "Write.") for n in range(40)])
    share = f"dataset.heldout.fraction={fraction}"
    advice = "ne prompt cannot be both trained on and held out: name rows to hold out, dataset.heldout.path=FILE"
    if fraction == "0.05":
        assert [f for f in inspect(prepared(*LOCAL, path, share)) if f.text.endswith(advice)]
    else:
        with pytest.raises(UserError, match=advice):
            prepared(*LOCAL, path, share)


def test_a_row_that_cannot_be_read_changes_no_choice(prepared: Prepare, tmp_path: Path) -> None:
    """A null among the hashes would make floats of them, which lose the digits that choose."""
    rows = [pair(n) for n in range(8)]
    keys = prepared(*LOCAL, write(tmp_path / "rows.jsonl", rows), "dataset.heldout.fraction=0").train["heldout_key"]
    path = write(tmp_path / "more.jsonl", [*rows, pair(8) | {"chosen": None}])
    for edge in sorted(key % 1_000_000 for key in keys)[:-1]:
        share = f"dataset.heldout.fraction={(edge + 1) / 1_000_000:f}"
        held = prepared(*LOCAL, path, share, "dataset.bad_rows=drop").heldout
        assert ids(held) == [f"id-{n}" for n, key in enumerate(keys) if key % 1_000_000 <= edge]


# --- What is trained on ----------------------------------------------------------------------------------------------


def test_dataset_rows_are_chosen_by_the_seed(prepared: Prepare, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", (pair(n) for n in range(100)))
    chosen = [ids(prepared(*LOCAL, path, "dataset.rows=30", f"seed={seed}").train) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1]
    assert chosen[0] != chosen[2]
    every = ids(prepared(*LOCAL, path).train)
    for rows in chosen:
        assert len(rows) == 30
        assert rows == [row for row in every if row in rows]  # in the source's order, each once


def test_a_limit_above_the_rows_there_are_takes_all(prepared: Prepare, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", (pair(n) for n in range(10)))
    assert len(prepared(*LOCAL, path, "dataset.rows=100", "dataset.heldout.fraction=0").train) == 10


def test_the_longest_sequence_decides(prepared: Prepare, tmp_path: Path) -> None:
    """At train.max_length a row is kept, above it is left out, whichever of its answers is the long one."""
    long = "Yes, " * 30
    rows = [pair(0), pair(1) | {"chosen": long}, pair(2) | {"rejected": long}]
    path = write(tmp_path / "rows.jsonl", rows)
    base = (*LOCAL, path, "dataset.heldout.fraction=0")
    lengths = dict(zip(["id-0", "id-1", "id-2"], prepared(*base).manifest["length"], strict=True))
    assert lengths["id-0"] < min(lengths["id-1"], lengths["id-2"])
    row = prepared(*base).train[1]
    assert lengths["id-1"] == len(row["prompt_ids"]) + len(row["chosen_ids"])
    for limit in sorted(lengths.values()):
        data = prepared(*base, f"train.max_length={limit}")
        assert ids(data.train) == [row for row, length in lengths.items() if length <= limit]
    dropped = reasons(prepared(*base, f"train.max_length={lengths['id-1'] - 1}"))["id-1"]
    assert dropped == ("dropped", f"longer than train.max_length={lengths['id-1'] - 1} ({lengths['id-1']} tokens)")


def test_every_method_has_the_same_rows(prepared: Prepare, tmp_path: Path) -> None:
    """Length filter, split, limit and seed: the manifests are equal, whatever the method makes of the rows."""
    rows = (pair(n) | {"chosen": "Yes, " * (n % 40 + 1)} for n in range(200))
    base = (*LOCAL, write(tmp_path / "rows.jsonl", rows), "train.max_length=100", "dataset.rows=50")
    manifests = [prepared(*base, "dataset.bad_rows=drop", f"method={method}").manifest for method in METHODS]
    assert all(manifest.equals(manifests[0]) for manifest in manifests)
    assert set(manifests[0]["decision"]) == {"train", "heldout", "dropped"}


# --- The manifest ----------------------------------------------------------------------------------------------------


def reasons(data: Prepared) -> dict[str, tuple[str, str]]:
    """Return (decision, reason) by row id."""
    table = data.manifest
    return dict(zip(table["id"], zip(table["decision"], table["reason"], strict=True), strict=True))


def test_manifest(prepared: Prepare, tmp_path: Path) -> None:
    """One line a row read, with what was decided and why."""
    rows = [pair(n) for n in range(60)] + [pair(60) | {"chosen": "Word " * 200}, pair(61) | {"chosen": None}]
    rows += [pair(62) | {"rejected": "Yes."}, {"prompt": "Unnamed?", "chosen": "A", "rejected": "B"}]
    path = write(tmp_path / "rows.jsonl", rows)
    data = prepared(
        *(*LOCAL, path, "dataset.bad_rows=drop", "train.max_length=100", "dataset.rows=20"),
        *("dataset.heldout.fraction=0.3", "dataset.heldout.rows=5"),
    )
    table = data.manifest
    assert list(table["row"]) == list(range(1, 65))
    assert list(table["id"]) == [*(f"id-{n}" for n in range(63)), "row-64"]
    assert set(table["source"]) == {"rows.jsonl"}
    assert set(table["split"]) == {"train"}
    for decision, kept in {"train": data.train, "heldout": data.heldout}.items():
        assert list(table.loc[table["decision"] == decision, "id"]) == ids(kept)
    assert (len(data.train), len(data.heldout)) == (20, 5)
    found = reasons(data)
    assert found["id-61"] == ("dropped", "chosen is null")
    assert found["id-62"] == ("dropped", "chosen equals rejected")
    assert found["id-60"][0] == "dropped"
    assert found["id-60"][1].startswith("longer than train.max_length=100 (")
    others = {reason for decision, reason in found.values() if decision == "dropped"} - {
        *(found[name][1] for name in ("id-60", "id-61", "id-62")),
    }
    assert others == {"beyond dataset.rows or dataset.heldout.rows"}
    assert {reason for decision, reason in found.values() if decision != "dropped"} == {""}


def test_manifest_of_two_sources(prepared: Prepare, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [pair(n) for n in range(4)])
    write(tmp_path / "held.jsonl", [pair(1), pair(9), pair(8)])
    table = prepared(*LOCAL, path, f"dataset.heldout.path={tmp_path / 'held.jsonl'}", "dataset.heldout.rows=2").manifest
    expected = [("rows.jsonl", n + 1, "train", "train" if n != 1 else "dropped") for n in range(4)]
    expected += [("held.jsonl", n + 1, "heldout", "heldout" if n < 2 else "dropped") for n in range(3)]
    columns = (table[name] for name in ("source", "row", "split", "decision"))
    assert list(zip(*columns, strict=True)) == expected


def test_manifest_hashes_token_ids(prepared: Prepare, tmp_path: Path) -> None:
    """Equal ids have equal hashes, and another prompt, answer or order of answers another one."""
    rows = [pair(0), pair(0) | {"id": "same"}, pair(0) | {"chosen": "Yes!"}, pair(0) | {"rejected": "No!"}]
    rows += [{**pair(0), "chosen": "No 0.", "rejected": "Yes."}, pair(1) | {"rejected": "No 0."}]
    path = write(tmp_path / "rows.jsonl", rows)
    hashes = list(prepared(*LOCAL, path, "dataset.heldout.fraction=0").manifest["tokens"])
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 5


def test_a_row_of_several_pairs_has_a_line_for_each(prepared: Prepare, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [pair(0) | {"rejected": ["No.", "Never."]}, pair(1)])
    table = prepared(*LOCAL, path, "dataset.heldout.fraction=0").manifest
    assert list(zip(table["row"], table["id"], strict=True)) == [(1, "id-0.1"), (1, "id-0.2"), (2, "id-1")]


# --- Rows that cannot be used ----------------------------------------------------------------------------------------


def test_bad_rows_stop_with_their_numbers(prepared: Prepare, tmp_path: Path) -> None:
    rows = [pair(n) | ({"chosen": ""} if n in (1, 4, 5) else {}) for n in range(8)]
    with pytest.raises(UserError) as raised:
        prepared(*LOCAL, write(tmp_path / "rows.jsonl", rows))
    assert str(raised.value) == (
        "rows.jsonl row 2 cannot be trained on: chosen is empty. So are 2 more: 5, 6.\n"
        "Mend the data, or set dataset.bad_rows=drop to leave such rows out."
    )


def test_bad_rows_are_dropped_where_asked(prepared: Prepare, tmp_path: Path) -> None:
    rows = [pair(n) | ({"chosen": ""} if n == 1 else {}) for n in range(4)]
    path = write(tmp_path / "rows.jsonl", rows)
    data = prepared(*LOCAL, path, "dataset.bad_rows=drop", "dataset.heldout.fraction=0")
    assert ids(data.train) == ["id-0", "id-2", "id-3"]


PROMPTING = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{{ '<assistant>So: ' if add_generation_prompt }}"
)


def test_a_template_that_rewrites_the_prompt_is_a_bad_row(prepared: Prepare, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [pair(0)])
    with pytest.raises(UserError, match="the chat template writes the prompt differently when an answer follows"):
        prepared(*LOCAL, path, template=PROMPTING)


STRICT = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('No system role') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}{% endfor %}{{ '<assistant>' if add_generation_prompt }}"
)


def test_a_conversation_that_the_template_refuses_is_a_bad_row(prepared: Prepare, tmp_path: Path) -> None:
    rows = [pair(n) for n in range(3)]
    rows[1]["prompt"] = [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]
    path = write(tmp_path / "rows.jsonl", rows)
    with pytest.raises(UserError, match="row 2"):
        prepared(*LOCAL, path, template=STRICT)
    dropping = ("dataset.bad_rows=drop", "dataset.heldout.fraction=0")
    assert len(prepared(*LOCAL, path, *dropping, template=STRICT).train) == 2


def test_a_row_without_label_is_a_bad_row(prepared: Prepare, tmp_path: Path) -> None:
    rows: list[Row] = [{"prompt": f"Q{n}?", "completion": "A", "label": n % 2 == 0} for n in range(4)]
    del rows[2]["label"]
    with pytest.raises(UserError, match="row 3"):
        prepared(*LOCAL, write(tmp_path / "rows.jsonl", rows))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("dataset.heldout.fraction=1",), r"rows\.jsonl: all 5 rows are held out\. Lower dataset\.heldout\.fraction\."),
        (
            ("dataset.heldout.fraction=0", "train.max_length=10"),
            r"rows\.jsonl: no row of 5 is left to train on \(longer than train\.max_length=10\)\. "
            r"Its rows have \d+ to \d+ tokens; raise train\.max_length\.",
        ),
    ],
)
def test_nothing_left(prepared: Prepare, tmp_path: Path, overrides: tuple[str, ...], message: str) -> None:
    path = write(tmp_path / "rows.jsonl", [pair(n) for n in range(5)])
    with pytest.raises(UserError, match=message):
        prepared(*LOCAL, path, *overrides)


def test_no_rows(prepared: Prepare, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rows\.jsonl holds no rows\."):
        prepared(*LOCAL, write(tmp_path / "rows.jsonl", []))


@pytest.mark.parametrize("way", ["stop", "drop"])
def test_the_first_row_may_be_bad(prepared: Prepare, tmp_path: Path, way: str) -> None:
    path = write(tmp_path / "rows.jsonl", [pair(0) | {"chosen": ""}, pair(1), pair(2)])
    run = (*LOCAL, path, f"dataset.bad_rows={way}", "dataset.heldout.fraction=0")
    if way == "drop":
        assert ids(prepared(*run).train) == ["id-1", "id-2"]
    else:
        with pytest.raises(UserError, match="row 1 cannot be trained on: chosen is empty"):
            prepared(*run)


def test_columns_are_mapped_as_the_messages_say(prepared: Prepare, tmp_path: Path) -> None:
    """conf/config.yaml and every message about columns write it without a plus."""
    path = write(tmp_path / "rows.jsonl", [{"question": f"Question {n}?"} for n in range(5)])
    assert len(prepared(*LOCAL, path, "dataset.columns={question: prompt}", "dataset.heldout.fraction=0").train) == 5


# --- The cache -------------------------------------------------------------------------------------------------------


def files(cache: Path) -> dict[str, int]:
    """Return the cache's files; each has a new inode when it is written anew."""
    return {file.name: file.stat().st_ino for file in cache.iterdir()}


def test_rows_are_tokenised_once(prepared: Prepare, tmp_path: Path, rows_cache: Path) -> None:
    """Whatever does not change ids reuses the file: method, seed, split, limits; and so does a copy elsewhere."""
    path = write(tmp_path / "rows.jsonl", [pair(n) for n in range(20)])
    first = prepared(*LOCAL, path)
    written = files(rows_cache)
    assert len(written) == 1
    again = ("method=kto", "seed=5", "dataset.heldout.fraction=0.5", "train.max_length=200", "dataset.rows=3")
    prepared(*LOCAL, write(tmp_path / "copy.jsonl", [pair(n) for n in range(20)]), *again)
    second = prepared(*LOCAL, path)
    assert files(rows_cache) == written
    assert second.train.to_list() == first.train.to_list()


@pytest.mark.parametrize(
    "change", ["content", "dataset.chat=false", "dataset.columns={question: prompt}", "model.chat_template=FILE"]
)
def test_whatever_changes_ids_is_tokenised_anew(
    prepared: Prepare, tmp_path: Path, rows_cache: Path, change: str
) -> None:
    rows = [{"question": "Once?", **pair(n)} for n in range(20)]
    path = write(tmp_path / "rows.jsonl", rows)
    first = prepared(*LOCAL, path, "dataset.heldout.fraction=0")
    (tmp_path / "mine.jinja").write_text(STRICT)
    overrides = [] if change == "content" else [change.replace("FILE", str(tmp_path / "mine.jinja"))]
    if change == "content":
        write(tmp_path / "rows.jsonl", [row | {"chosen": "Certainly."} for row in rows])
    if "columns" in change:
        rows = [{key: row[key] for key in ("id", "chosen", "rejected", "prompt", "question")} for row in rows]
        path = write(tmp_path / "rows.jsonl", rows)
    base = ("dataset=local",) if "chat=false" in change else LOCAL
    second = prepared(*base, path, "dataset.heldout.fraction=0", *overrides)
    assert len(files(rows_cache)) == 2
    assert [row["prompt_ids"] + row["chosen_ids"] for row in first.train] != [
        row["prompt_ids"] + row["chosen_ids"] for row in second.train
    ]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_rows_are_named_and_tokenised_anew(
    prepared: Prepare, tmp_path: Path, rows_cache: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "rows.jsonl", [pair(n) for n in range(20)])
    first = prepared(*LOCAL, path).train.to_list()
    (file,) = rows_cache.glob("*/rows.arrow")
    DAMAGES[damage](file)
    assert prepared(*LOCAL, path).train.to_list() == first
    assert [str(file.parent) in line for line in caplog.messages] == [True]
    assert len(files(rows_cache)) == 1


def test_a_failure_leaves_no_half_file(prepared: Prepare, tmp_path: Path, rows_cache: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [pair(n) for n in range(30)])
    (tmp_path / "rows.jsonl").open("a").write("{")
    with pytest.raises(UserError, match="line 31 is not JSON"):
        prepared(*LOCAL, path)
    assert files(rows_cache) == {}


def test_rows_beyond_one_batch_keep_their_ids(prepared: Prepare, tmp_path: Path) -> None:
    """Rows are tokenised by the thousand, one batch while the next is read: none may take another's ids."""
    path = write(tmp_path / "rows.jsonl", [pair(n) for n in range(4500)])
    data = prepared("dataset=local", path, "dataset.heldout.fraction=0")
    assert len(data.train) == 4500
    lone = write(tmp_path / "lone.jsonl", [pair(n) for n in (0, 1999, 2000, 4499)])
    few = prepared("dataset=local", lone, "dataset.heldout.fraction=0").train.remove_columns("row").to_list()
    assert data.train.select([0, 1999, 2000, 4499]).remove_columns("row").to_list() == few


# --- Published files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "overrides"),
    [
        ("gsm8k_500.jsonl", DataFormat.PROMPTS, ["dataset.columns={question: prompt}"]),
        ("alpaca_200.json", DataFormat.SUPERVISED, []),
        ("dpo_sharegpt_150.json", DataFormat.PREFERENCE, []),
    ],
)
def test_published_files(prepared: Prepare, name: str, kind: DataFormat, overrides: list[str]) -> None:
    """Real data in others' layouts: every row is used, and prompts and answers are the file's own."""
    if not (DATA / name).is_file():
        pytest.skip(f"{DATA / name} is missing: it is not part of the repository")
    base = (*LOCAL, f"dataset.path={DATA / name}", "dataset.heldout.fraction=0", "train.max_length=100000")
    data = prepared(*base, *overrides)
    content = (DATA / name).read_text()
    given = [json.loads(line) for line in content.splitlines()] if name.endswith("l") else json.loads(content)
    assert data.kind is kind
    assert len(data.train) == len(given)
    for row, source in zip(data.train, given, strict=True):
        asked = json.loads(row["prompt"])
        if kind is DataFormat.PROMPTS:
            assert asked == [{"role": "user", "content": source["question"]}]
            assert json.loads(row["extra"]) == {"answer": source["answer"]}
        elif kind is DataFormat.SUPERVISED:
            question = source["instruction"] + (f"\n{source['input']}" if source["input"] else "")
            assert asked == [{"role": "user", "content": question}]
            assert json.loads(row["completion"]) == [{"role": "assistant", "content": source["output"]}]
        else:
            assert [turn["content"] for turn in asked] == [turn["value"] for turn in source["conversations"]]
            for answer in ("chosen", "rejected"):
                assert json.loads(row[answer]) == [{"role": "assistant", "content": source[answer]["value"]}]


# --- What reaches the trainers ---------------------------------------------------------------------------------------

Trained = set[tuple[str, tuple[int, ...]]]
Collect = Callable[[str], dict[str, Trained]]


@pytest.fixture
def trained(
    start: Path, tmp_path: Path, compose_config: Callable[..., DictConfig]
) -> Callable[[str], dict[str, Trained]]:
    """Return what a method's real trainer trains on in one epoch: (row id, answer's token ids), by good and bad."""

    def collect(method: str) -> dict[str, Trained]:
        cfg = compose_config(f"method={method}", "model=tiny", "dataset=concise", "dataset.rows=60")
        checked = check(cfg)
        silence_libraries(cfg.telemetry)
        tokenizer = load_tokenizer(start, cfg.model)
        data = prepare(cfg, Tokeniser(tokenizer, []))
        trainer_ = build_trainer(
            checked,
            make_trl_config(checked, tmp_path),
            load_policy(start, cfg, "fp32"),
            tokenizer,
            convert(data.train, data.kind, checked.method.data, cfg.train.per_device_batch_size, cfg.seed),
        )
        names = {tuple(row["prompt_ids"]): row["id"] for row in data.train}
        assert len(names) == 60
        found: dict[str, Trained] = {"good": set(), "bad": set()}
        count = 0
        for batch in trainer_.get_train_dataloader():
            for kind, prompt, answer in sequences(batch):
                found[kind].add((names[prompt], answer))
                count += 1
        assert count == len(found["good"]) + len(found["bad"])  # each once an epoch
        return found

    return collect


def sequences(batch: dict[str, Any]) -> Iterable[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Yield (good or bad, prompt ids, trained ids) of a collated batch, whichever trainer collated it."""
    if "chosen_input_ids" in batch:  # ORPO
        for kind, name in (("good", "chosen"), ("bad", "rejected")):
            parts = (batch[f"{name}_{part}"] for part in ("input_ids", "attention_mask", "labels"))
            for ids, mask, labels in zip(*parts, strict=True):
                yield kind, *_parted(ids, mask.bool(), labels != -100)
    else:
        answers = batch["completion_mask"].bool() if "completion_mask" in batch else batch["labels"] != -100
        half = len(answers) // 2
        kinds = ["good"] * half + ["bad"] * half  # DPO: the chosen first
        if "label" in batch:  # KTO
            kinds = ["good" if label else "bad" for label in batch["label"]]
        elif "labels" in batch:  # SFT
            kinds = ["good"] * len(answers)
        masks = batch["attention_mask"].bool()
        for kind, ids, mask, answer in zip(kinds, batch["input_ids"], masks, answers, strict=True):
            yield kind, *_parted(ids, mask, answer)


def _parted(ids: Any, mask: Any, answer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    assert not (answer & ~mask).any()
    return tuple(ids[mask & ~answer].tolist()), tuple(ids[answer].tolist())


def test_every_method_trains_on_the_same_tokens(trained: Collect) -> None:
    """60 pairs: DPO, IPO and ORPO train on both answers, KTO on these apart, SFT on the chosen; token for token."""
    found = {method: trained(method) for method in METHODS}
    assert len(found["dpo"]["good"]) == len(found["dpo"]["bad"]) == 60
    assert found["dpo"] == found["ipo"] == found["orpo"] == found["kto"]
    assert found["sft"] == {"good": found["dpo"]["good"], "bad": set()}
