"""Files of which a column or field was once dropped unseen: what reaches the loss, what is named, what is refused."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf, open_dict
from transformers import AutoTokenizer

from alignzoo import DataFormat, UserError
from alignzoo.config.compose import compose
from alignzoo.data.columns import Unread
from alignzoo.data.convert import convert
from alignzoo.data.prepare import Prepared, prepare
from alignzoo.data.tokenise import Tokeniser
from alignzoo.models import start_model

INPUTS = Path(__file__).with_name("columns")

P, U, S = DataFormat.PREFERENCE, DataFormat.UNPAIRED, DataFormat.SUPERVISED

Read = Callable[..., Prepared]


@pytest.fixture(scope="module")
def base(cache: Path) -> DictConfig:
    return compose(["model=tiny", "dataset=local", "dataset.heldout.fraction=0"])


@pytest.fixture(scope="module")
def tokeniser(base: DictConfig) -> Tokeniser:
    tokenizer = AutoTokenizer.from_pretrained(start_model.start_folder(base.model))
    return Tokeniser(tokenizer, [tokenizer.eos_token_id])


@pytest.fixture
def read(base: DictConfig, tokeniser: Tokeniser) -> Read:
    """Prepare a file of this test as a run with these keys of ``dataset`` would."""

    def prepared(file: str, **dataset: Any) -> Prepared:
        cfg = copy.deepcopy(base)
        with open_dict(cfg):
            cfg.dataset = OmegaConf.merge(cfg.dataset, {"path": str(INPUTS / file), **dataset})
        return prepare(cfg, tokeniser)

    return prepared


QUESTION = "<|im_start|>user\nName bird 1.<|im_end|>\n<|im_start|>assistant\n"
BRIEF = "<|im_start|>system\nBe brief.<|im_end|>\n"
GOOD, BAD = "A tern 1.<|im_end|>", "A tern, or 1.<|im_end|>"

#: Files of pairs -> the second row's prompt.
PAIRS = {
    "question-system.jsonl": BRIEF + QUESTION,
    "input-system.jsonl": BRIEF + QUESTION,
    "prompt-system.jsonl": BRIEF + QUESTION,
    "messages-chosen-turn.jsonl": QUESTION,
    "messages-chosen-text.jsonl": QUESTION,
    "messages-rejected-response.jsonl": QUESTION,
    "openai-tools.jsonl": QUESTION,
}


@pytest.mark.parametrize("file", PAIRS)
def test_pairs_are_trained_with_their_question_and_system_prompt(read: Read, tokeniser: Tokeniser, file: str) -> None:
    data = read(file)
    row = convert(data.train, data.kind, P, 4, 0)[1]
    decode = tokeniser.tokenizer.decode
    assert decode(row["prompt_ids"]).endswith(PAIRS[file])
    assert [decode(row["chosen_ids"]), decode(row["rejected_ids"])] == [GOOD, BAD]
    assert len(data.train) == 4


@pytest.mark.parametrize("file", PAIRS)
def test_a_parquet_file_is_read_as_lines_are(read: Read, tmp_path: Path, file: str) -> None:
    """Its objects have the fields of all others, as nulls."""
    import pyarrow.parquet

    rows = [json.loads(line) for line in (INPUTS / file).read_text().splitlines()]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    packed, plain = read(str(tmp_path / "rows.parquet")), read(file)
    assert list(packed.manifest["tokens"]) == list(plain.manifest["tokens"])
    assert packed.unread == plain.unread


@pytest.mark.parametrize("file", ["question-system.jsonl", "label-text.jsonl", "messages-label.jsonl"])
def test_a_csv_file_is_read_as_lines_are(read: Read, tmp_path: Path, file: str) -> None:
    """Messages stand as JSON text in a cell."""
    rows = [json.loads(line) for line in (INPUTS / file).read_text().splitlines()]
    with (tmp_path / "rows.csv").open("w", newline="") as stream:
        lines = csv.DictWriter(stream, rows[0])
        lines.writeheader()
        cells = [{n: v if isinstance(v, str) else json.dumps(v) for n, v in row.items()} for row in rows]
        lines.writerows(cells)
    packed, plain = read(str(tmp_path / "rows.csv")), read(file)
    assert list(packed.manifest["tokens"]) == list(plain.manifest["tokens"])
    assert packed.train["label"] == plain.train["label"]


def test_a_header_that_names_a_column_twice_is_refused(read: Read, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt,completion,completion\nQ,A,B\n")
    with pytest.raises(UserError, match=r"rows.csv line 1 has 2 columns named 'completion'"):
        read(str(tmp_path / "rows.csv"))


def test_a_column_that_only_a_late_row_has_reaches_the_rewards(read: Read, tmp_path: Path) -> None:
    rows = [{"prompt": f"Name bird {n}."} for n in range(24)]
    rows[-1] |= {"level": 3}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = read(str(tmp_path / "rows.jsonl"))
    assert convert(data.train, data.kind, DataFormat.PROMPTS, 4, 0)["level"][:] == [None] * 23 + [3]
    assert data.unread.describe(DataFormat.PROMPTS) == ["for rewards: level"]


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> str:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "rows.jsonl")


LATE: dict[str, tuple[dict[str, Any], str]] = {
    "system_prompt": ({"prompt": "Q"}, "system"),
    "context": ({"instruction": "Q"}, "input"),
    "query": ({}, "prompt"),
    "images": ({"prompt": "Q"}, "null"),
    "label": ({"prompt": "Q"}, "null"),
}


@pytest.mark.parametrize("column", LATE)
def test_what_is_advised_about_a_late_column_reads_the_file(
    read: Read, tokeniser: Tokeniser, tmp_path: Path, column: str
) -> None:
    question, ours = LATE[column]
    rows = [{**question, "chosen": f"Bird {n} is A", "rejected": f"Bird {n} is B"} for n in range(22)]
    file = write_rows(tmp_path, [*rows[:-1], {**rows[-1], column: "Said late."}])
    with pytest.raises(UserError) as raised:
        read(file)
    assert f"'dataset.columns={{{column}: {ours}}}'" in str(raised.value)
    data = read(file, columns={column: None if ours == "null" else ours})
    prompts = tokeniser.tokenizer.batch_decode(data.train["prompt_ids"][:])
    assert len(prompts) == 22
    assert ("Said late." in prompts[-1]) is (ours != "null")


@pytest.mark.parametrize("column", ["context", "messages", "question"])
def test_no_name_is_advised_for_a_late_column_that_the_layout_does_not_read(
    read: Read, tmp_path: Path, column: str
) -> None:
    rows = [{"prompt": f"Q{n}", "chosen": "A", "rejected": "B"} for n in range(22)]
    data = read(write_rows(tmp_path, [*rows[:-1], {**rows[-1], column: "Said late."}]))
    assert data.unread.describe(P) == [f"not read: {column}"]


def test_a_mapped_column_that_no_row_has_is_an_error(read: Read, tmp_path: Path) -> None:
    file = write_rows(tmp_path, [{"prompt": f"Q{n}", "completion": "A"} for n in range(22)])
    with pytest.raises(UserError, match="has no column 'systen'"):
        read(file, columns={"systen": "system"})


def test_the_cache_knows_what_was_not_read(read: Read) -> None:
    first, second = (read("two-questions.jsonl", columns={"question": "prompt"}) for _ in range(2))
    assert first.unread == second.unread != Unread()


def test_a_question_under_another_name_beside_text_stays_text(read: Read, tokeniser: Tokeniser) -> None:
    data = read("question-query.jsonl")
    row = convert(data.train, data.kind, P, 4, 0)[1]
    end = tokeniser.tokenizer.eos_token
    texts = [tokeniser.tokenizer.decode(row[f"{name}_ids"]) for name in ("prompt", "chosen", "rejected")]
    assert texts == ["Name bird 1.", f"A tern 1.{end}", f"A tern, or 1.{end}"]
    assert "query -> prompt" in str(data.layout)


def test_a_system_prompt_is_read_in_rows_taken_apart_too(read: Read, tokeniser: Tokeniser) -> None:
    data = read("prompt-system.jsonl")
    rows = convert(data.train, data.kind, U, 4, 0)
    assert all(tokeniser.tokenizer.decode(ids).startswith(BRIEF) for ids in rows["prompt_ids"])
    assert len(rows) == 8


@pytest.mark.parametrize(
    "file", ["messages-label.jsonl", "sharegpt-label.jsonl", "label-text.jsonl", "label-signed.jsonl"]
)
def test_a_label_makes_good_and_bad_answers(read: Read, tokeniser: Tokeniser, file: str) -> None:
    data = read(file)
    rows = convert(data.train, data.kind, U, 4, 0)
    marked = {tokeniser.tokenizer.decode(row["completion_ids"])[:9]: row["label"] for row in rows}
    assert marked == {f"A tern {n}.": n % 2 == 1 for n in range(4)}
    good = convert(data.train, data.kind, S, 4, 0)
    assert len(good) == 2, "an answer marked false is trained on by method=sft"


@pytest.mark.parametrize(
    ("file", "column"), [("images.jsonl", "images"), ("image-pairs.jsonl", "image"), ("audios.jsonl", "audios")]
)
def test_what_is_not_text_is_refused_by_its_column(read: Read, file: str, column: str) -> None:
    with pytest.raises(UserError) as raised:
        read(file)
    assert str(raised.value) == (
        f"{file}: alignzoo trains text only, and the column {column} holds more; "
        f"'dataset.columns={{{column}: null}}' leaves it out."
    )
    left_out = read(file, columns={column: None})
    assert f"left out: {column}" in str(left_out.layout)
    assert len(left_out.train) == 4


REFUSED = {
    "two-questions.jsonl": ("question or query", "'dataset.columns={question: prompt}'"),
    "context.jsonl": ("context", "'dataset.columns={context: prompt}'"),
    "post.jsonl": ("post_text", "'dataset.columns={post_text: prompt}'"),
}


@pytest.mark.parametrize("file", REFUSED)
def test_no_prompt_is_made_of_the_answers_beside_a_column_that_may_be_the_question(read: Read, file: str) -> None:
    columns, write = REFUSED[file]
    with pytest.raises(UserError) as raised:
        read(file)
    first, second = str(raised.value).splitlines()
    assert first == f"{file} has no column prompt, and the question may be in {columns}."
    assert second.startswith(f"Say which: {write}")


def test_what_to_write_reads_the_file(read: Read) -> None:
    data = read("two-questions.jsonl", columns={"question": "prompt"})
    assert data.unread.describe(P) == ["not read: query"]
    assert data.train["prompt"][1] == '[{"role": "text", "content": "Name bird 1."}]'


def test_a_layout_that_the_user_names_settles_unknown_columns_only(read: Read) -> None:
    data = read("post.jsonl", layout="pairs")
    assert data.unread.describe(P) == ["not read: post_text, topic"]
    with pytest.raises(UserError, match="the question may be in question or query"):
        read("two-questions.jsonl", layout="pairs")


def test_an_unknown_role_can_be_mapped(read: Read, tokeniser: Tokeniser) -> None:
    with pytest.raises(
        UserError, match=r"conversations has the role 'Human'; .* Map it: 'dataset.roles=\{Human: user\}'"
    ):
        read("roles.jsonl")
    data = read("roles.jsonl", roles={"Human": "user"})
    assert tokeniser.tokenizer.decode(data.train["prompt_ids"][1]).endswith(QUESTION)


@pytest.mark.parametrize(("file", "given"), [("openai-tools.jsonl", True), ("sharegpt-tools-list.jsonl", False)])
def test_tools_are_handed_over_as_the_file_has_them(read: Read, file: str, given: bool) -> None:
    data = read(file)
    assert data.unread.describe(data.kind) == (["not read: input.parallel_tool_calls"] if given else [])
    assert ("tools" in str(data.layout)) is not given
    assert len(data.train) == 4


def test_every_file_is_tested() -> None:
    tested = {*PAIRS, *REFUSED, "roles.jsonl", "question-query.jsonl", "sharegpt-tools-list.jsonl"}
    tested |= {"messages-label.jsonl", "sharegpt-label.jsonl", "label-text.jsonl", "label-signed.jsonl"}
    tested |= {"images.jsonl", "image-pairs.jsonl", "audios.jsonl"}
    assert {file.name for file in INPUTS.iterdir()} == tested


SCORED = {
    "ultrafeedback": (
        "instruction",
        "completions",
        {"response": "Yes.", "overall_score": 9},
        {"response": "No.", "overall_score": 1},
    ),
    "nectar": ("prompt", "answers", {"answer": "Yes.", "rank": 1}, {"answer": "No.", "rank": 2}),
}


@pytest.mark.parametrize("layout", SCORED)
def test_fields_of_scored_answers_are_named_or_refused(read: Read, tmp_path: Path, layout: str) -> None:
    prompt, column, best, worst = SCORED[layout]
    row = {prompt: "Is it?", column: [{**best, "model": "x", "note": None}, worst]}
    assert read(write_rows(tmp_path, [row])).unread.columns == {f"{column}.model", f"{column}.note"}
    row = {prompt: "Is it?", column: [best, {**worst, "system": "Be brief."}]}
    with pytest.raises(UserError, match=f"{column} has system, which would change what is trained"):
        read(write_rows(tmp_path, [row]))


def test_scored_answers_in_cells_of_a_csv_file(read: Read, tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["prompt", "responses", "scores"])
        writer.writerow(["Is it?", json.dumps(["No.", "Yes."]), json.dumps([1, 9])])
    (row,) = read(str(file)).train
    assert json.loads(row["chosen"])[0]["content"] == "Yes."


@pytest.mark.parametrize("names", [("chosen", "rejected_response"), ("chosen_response", "rejected")])
def test_a_pair_of_two_conventions_is_a_pair(read: Read, tmp_path: Path, names: tuple[str, str]) -> None:
    good, bad = names
    prepared = read(write_rows(tmp_path, [{"prompt": "Is it?", good: "Yes.", bad: "No."}]))
    assert json.loads(prepared.train[0]["chosen"])[0]["content"] == "Yes."


NAMED = [{"role": "user", "name": "Ann", "content": "Is it?"}, {"role": "assistant", "content": "Yes."}]


def test_a_name_that_the_template_does_not_write_is_named(
    base: DictConfig, tokeniser: Tokeniser, tmp_path: Path
) -> None:
    cfg = copy.deepcopy(base)
    cfg.dataset.path = write_rows(tmp_path, [{"messages": NAMED}])
    assert prepare(cfg, tokeniser).unread.fields == {"name"}
    assert prepare(cfg, tokeniser).unread.fields == {"name"}  # from the cache
    tokenizer = copy.deepcopy(tokeniser.tokenizer)
    tokenizer.chat_template = tokenizer.chat_template.replace("message['role']", "message.get('name', message['role'])")
    assert "name" in tokenizer.chat_template
    assert prepare(cfg, Tokeniser(tokenizer, [tokenizer.eos_token_id])).unread.fields == set()


def test_columns_whose_names_hydra_cannot_read(read: Read, tmp_path: Path) -> None:
    file = write_rows(tmp_path, [{"質問": "Is it?", "réponse": "Yes."}])
    prepared = read(file, columns='{"\\u8cea\\u554f": "prompt", "r\\u00e9ponse": "completion"}')
    assert json.loads(prepared.train[0]["completion"])[0]["content"] == "Yes."


def test_rows_that_are_all_bad_are_not_called_held_out(base: DictConfig, tokeniser: Tokeniser, tmp_path: Path) -> None:
    """Rows that could not be read have no prompt to hold out."""
    cfg = copy.deepcopy(base)
    rows = [{"prompt": f"Is it {n}?", "chosen": "Yes.", "rejected": "Yes."} for n in range(5)]
    cfg.dataset.path, cfg.dataset.bad_rows = write_rows(tmp_path, rows), "drop"
    cfg.dataset.heldout.fraction = 0.05
    with pytest.raises(UserError, match=r"no row of 5 is left to train on \(chosen equals rejected\)"):
        prepare(cfg, tokeniser)
