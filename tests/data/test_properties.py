"""What must hold of any rows and any bytes: they are read, or refused with a reason; nothing is lost or changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from transformers import AutoTokenizer

from alignzoo import DataFormat, UserError
from alignzoo.config.compose import compose
from alignzoo.data.arrow_cache import load_table
from alignzoo.data.convert import convert
from alignzoo.data.layout import Layout
from alignzoo.data.layouts import SHAPES
from alignzoo.data.sources import open_source
from alignzoo.data.tokenise import ANSWERS, Tokeniser
from alignzoo.models import start_model

CASES = Path(__file__).with_name("cases")

Row = dict[str, Any]
Read = Callable[..., tuple[Dataset, Layout]]

#: `nox -s fuzz` tries more.
THOROUGH = "ALIGNZOO_FUZZ_EXAMPLES" in os.environ

#: The same examples in every run, as many as take a few seconds.
FEW = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=60 if THOROUGH else 15,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

MANY = settings(FEW, max_examples=250 if THOROUGH else 40)


@pytest.fixture(scope="module")
def base(cache: Path) -> DictConfig:
    return compose(["model=tiny", "dataset=local"])


@pytest.fixture(scope="module")
def tokeniser(base: DictConfig) -> Tokeniser:
    tokenizer = AutoTokenizer.from_pretrained(start_model.start_folder(base.model))
    return Tokeniser(tokenizer, [tokenizer.eos_token_id])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("properties")


@pytest.fixture(scope="module")
def read(base: DictConfig, tokeniser: Tokeniser, folder: Path) -> Read:
    """Write the content to a file, and return its table and layout."""

    def written(content: bytes | Iterable[Row], ending: str = "jsonl", **dataset: Any) -> tuple[Dataset, Layout]:
        file = folder / f"rows.{ending}"
        file.write_bytes(content if isinstance(content, bytes) else lines(content))
        source = open_source(str(file), "train", None, None, "dataset.path")
        return load_table(source, tokeniser, OmegaConf.merge(base.dataset, dataset))

    return written


def lines(rows: Iterable[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def canonical(row: Row) -> Row:
    """Return what a row of the table holds, without ids, hashes and tokens."""
    texts = {name: json.loads(row[name]) for name in ("prompt", *ANSWERS) if row[name] is not None}
    return texts | {name: row[name] for name in ("label", "score") if row[name] is not None}


# --- Any rows, any bytes -------------------------------------------------------------------------------------------

#: Half of a surrogate pair, which JSON can hold and no text may; a byte order mark; what splits lines elsewhere.
ODD = st.sampled_from(["\ud83d", "\ufeff", "\u2028", "\u0000", "\r", "\n\nHuman:", "\n\nAssistant:", "<|im_end|>", ""])

texts = st.one_of(
    st.text(min_size=1, max_size=20),
    st.text("ab ", min_size=1, max_size=8),
    st.tuples(st.text(max_size=5), ODD, st.text(max_size=5)).map("".join),
)

numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([0, 1, -1, 10**400, 1e308]))

anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)

ROLES = ("user", "assistant", "system", "tool", "human", "gpt", "observation", "text", "bot")


def sometimes(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return ``usual``, and now and then anything at all."""
    return st.integers(0, 11).flatmap(lambda dice: usual if dice else anything)


def turns(who: str, what: str, roles: tuple[str, ...]) -> st.SearchStrategy[Any]:
    """Return conversations that a model could have had, and lists of anything."""

    def held(order: list[str]) -> st.SearchStrategy[Any]:
        return st.tuples(*(st.fixed_dictionaries({who: st.just(role), what: texts}) for role in order)).map(list)

    system, user, assistant = roles
    orders = [[user], [user, assistant], [system, user, assistant], [assistant], [user, assistant, user], []]
    wild = st.fixed_dictionaries({who: sometimes(st.sampled_from(ROLES)), what: sometimes(texts)})
    return sometimes(st.one_of(st.sampled_from(orders).flatmap(held), st.lists(sometimes(wild), max_size=3)))


messages = turns("role", "content", ("system", "user", "assistant"))

spoken = st.one_of(texts, messages)

scored = st.fixed_dictionaries({"response": sometimes(texts), "overall_score": sometimes(numbers)})

ranked = st.fixed_dictionaries({"answer": sometimes(texts), "rank": sometimes(st.integers(1, 4))})

transcripts = st.lists(st.sampled_from(["\n\nHuman: Hi", "\n\nAssistant: A", "\n\nAssistant:", "B"]), max_size=4)

#: What stands in a column, where something sensible does.
USUAL: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("prompt", "completion", "chosen", "preferred_output", "non_preferred_output"), spoken),
    "rejected": st.one_of(spoken, st.lists(spoken, max_size=3), transcripts.map("".join)),
    "messages": messages,
    "conversations": turns("from", "value", ("system", "human", "gpt")),
    "input": st.one_of(texts, st.fixed_dictionaries({"messages": sometimes(messages)})),
    "history": st.one_of(texts, st.lists(sometimes(st.lists(sometimes(texts), max_size=3)), max_size=3)),
    "completions": st.lists(sometimes(scored), max_size=4),
    "answers": st.lists(sometimes(ranked), max_size=4),
    "responses": st.lists(sometimes(texts), max_size=4),
    **dict.fromkeys(("scores", "ranks"), st.lists(sometimes(numbers), max_size=4)),
    **dict.fromkeys(("score", "helpfulness", "preference_strength"), numbers),
    **dict.fromkeys(("label", "labels", "kto_tag"), st.sampled_from([0, 1, True, False, 2, "1"])),
}

COLUMNS = sorted(set().union(*(shape.columns for shape in SHAPES)))


def value(column: str) -> st.SearchStrategy[Any]:
    return sometimes(USUAL.get(column, texts))


@st.composite
def datasets_(draw: st.DrawFn) -> list[Row]:
    """Rows that look like one layout, with further columns and holes; or like nothing."""
    shape = draw(st.sampled_from(SHAPES))
    extra = draw(st.lists(st.one_of(st.sampled_from(COLUMNS), texts), max_size=2))
    columns = [*sorted(shape.needed), *draw(st.permutations(sorted(shape.optional)))[:1], "id", *extra]
    row = st.fixed_dictionaries({name: value(name) for name in columns})
    whole = draw(st.lists(row, min_size=1, max_size=4))
    holes = [draw(st.lists(st.sampled_from(columns), max_size=1)) if draw(st.booleans()) else [] for _ in whole]
    return [{k: v for k, v in row.items() if k not in hole} for row, hole in zip(whole, holes, strict=True)]


def check_table(rows: Dataset, layout: Layout, count: int) -> None:
    """Every source row is there; each line of the table has a problem, or all that its kind needs."""
    assert sorted(set(rows["row"])) == list(range(1, count + 1))
    answers = {DataFormat.PREFERENCE: ("chosen", "rejected"), DataFormat.PROMPTS: ()}.get(layout.kind, ("completion",))
    for row in rows:
        assert row["id"]
        if row["problem"] is not None:
            assert row["problem"]
            continue
        for name in ("prompt", *answers):
            assert json.loads(row[name])
            assert row[f"{name}_ids"] is not None
        assert all(row[f"{name}_ids"] for name in answers)
        assert (row["label"] is not None) == (layout.kind is DataFormat.UNPAIRED)
        assert (row["score"] is not None) == (layout.kind is DataFormat.SCORED)
        assert row["score"] == row["score"], "NaN"


@MANY
@given(rows=datasets_(), chat=st.booleans())
@example(rows=[{"prompt": "Q", "chosen": "A", "rejected": "B"}, {}], chat=False)
@example(rows=[{"prompt": "Q\ud83d", "chosen": "A", "rejected": "B"}], chat=False)
@example(rows=[{"id": "\ud83d", "prompt": "Q", "chosen": "A", "rejected": "B"}], chat=False)
@example(rows=[{"prompt": "Q", "note": "\ud83d"}], chat=False)
@example(rows=[{"prompt": "Q", "responses": ["A", "B"], "scores": [10**400, 1]}], chat=False)
@example(rows=[{"prompt": "Q", "completion": "A", "score": "3.5"}], chat=False)
@example(rows=[{"chosen": "A", "rejected": []}], chat=False)
def test_any_rows_end_in_a_table_or_in_a_message(read: Read, rows: list[Row], chat: bool) -> None:
    try:
        found, layout = read(rows, chat=chat)
    except UserError:
        return
    check_table(found, layout, len(rows))


@FEW
@given(
    columns=st.lists(st.one_of(st.sampled_from(COLUMNS), st.text(min_size=1, max_size=4)), max_size=5), data=st.data()
)
def test_any_columns_are_recognised_or_refused(read: Read, columns: list[str], data: st.DataObject) -> None:
    """Well-formed texts under any names: one layout, or a message that names the columns or the candidates."""
    row = {name: data.draw(st.text("ab ", min_size=1, max_size=3)) for name in columns}
    try:
        found, layout = read([row])
    except UserError as error:
        refused = str(error)
    else:
        refused = ""
        assert layout.shape.needed <= {layout.mapping.get(name, name) for name in row}
        check_table(found, layout, 1)
    assert not refused or "could be read in" in refused or not columns or any(name in refused for name in columns)


WORDS = [
    '{"prompt": "Q"}',
    "{",
    "}",
    "[",
    "]",
    '"',
    ":",
    ",",
    "\n",
    "\r",
    "\x00",
    "prompt",
    "chosen",
    "rejected",
    "NaN",
]

words = st.lists(st.sampled_from([word.encode() for word in WORDS]), max_size=12).map(b"".join)

FILES = sorted(file for file in CASES.iterdir() if file.stat().st_size < 2000)


PIECES = [b'"', b",", b":", b"{", b"}", b"[", b"]", b"null", b"1", b"\n", b"\xff", b"\\ud83d", b"\x00", b" ", b"\\"]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """One of the cases' files, with a piece or two replaced, inserted or taken out."""
    content = draw(st.sampled_from(FILES)).read_bytes()
    for _ in range(draw(st.integers(1, 2))):
        start = draw(st.integers(0, len(content)))
        content = content[:start] + draw(st.sampled_from([*PIECES, b""])) + content[start + draw(st.integers(0, 4)) :]
    return content


@MANY
@given(content=st.one_of(mutated(), words, st.binary(max_size=60)), ending=st.sampled_from(["jsonl", "json", "csv"]))
@example(content=b'{"prompt": "Q", "n": ' + b"1" * 5000 + b"}\n", ending="jsonl")
@example(content=b"[" * 100_000, ending="json")
@example(content=b"", ending="csv")
def test_any_bytes_end_in_a_table_or_in_a_message(read: Read, folder: Path, content: bytes, ending: str) -> None:
    try:
        found, layout = read(content, ending)
    except UserError:
        return
    source = open_source(str(folder / f"rows.{ending}"), "train", None, None, "dataset.path")
    check_table(found, layout, sum(1 for _ in source.rows()))


@FEW
@given(content=st.binary(max_size=200), ending=st.sampled_from(["jsonl.gz", "json.zst", "csv.gz", "parquet", "arrow"]))
def test_any_bytes_that_are_no_archive_are_refused(read: Read, content: bytes, ending: str) -> None:
    with pytest.raises(UserError, match=rf"^rows\.{ending} (cannot be|is no|holds no)"):
        read(content, ending)


# --- Nothing is changed --------------------------------------------------------------------------------------------

whole = st.text(min_size=1, max_size=40).filter(str.strip)

distinct = st.lists(whole, min_size=2, max_size=2, unique=True)


@FEW
@given(asked=st.lists(whole, min_size=1, max_size=3), answers=distinct, system=st.none() | whole)
def test_conversations_are_not_changed(read: Read, asked: list[str], answers: list[str], system: str | None) -> None:
    prompt = conversation(asked, system)
    chosen, rejected = ([{"role": "assistant", "content": text}] for text in answers)
    expected = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    explicit, _ = read([expected])
    implicit, _ = read([{"chosen": prompt + chosen, "rejected": prompt + rejected}])
    assert [canonical(row) for row in explicit] == [canonical(row) for row in implicit] == [expected]


def conversation(asked: list[str], system: str | None) -> list[Row]:
    """Return user and assistant in turn, the user first and last: one text fewer where they are even."""
    asked = asked if len(asked) % 2 else asked[:-1]
    turns = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(asked)]
    return [*([{"role": "system", "content": system}] if system is not None else []), *turns]


@FEW
@given(prompt=whole, answers=distinct)
def test_text_is_not_changed(read: Read, prompt: str, answers: list[str]) -> None:
    assume(not any(text.startswith(prompt) for text in answers))
    rows, _ = read([{"prompt": prompt, "chosen": answers[0], "rejected": answers[1]}])
    assert [contents(row) for row in rows] == [[prompt, *answers]]


def contents(row: Row) -> list[str]:
    """Return the text of prompt and answers, each one message with the role text."""
    found = [messages for messages in canonical(row).values() if isinstance(messages, list)]
    assert all([message["role"] for message in messages] == ["text"] for messages in found)
    return [messages[0]["content"] for messages in found]


def test_an_answer_that_greets_back_is_not_changed(read: Read) -> None:
    rows, _ = read([{"prompt": "Hello", "chosen": "Hello! How can I help?", "rejected": "Go away."}])
    assert [contents(row) for row in rows] == [["Hello", "Hello! How can I help?", "Go away."]]


@FEW
@given(start=whole, answers=distinct)
def test_text_without_prompt_is_divided_and_not_changed(read: Read, start: str, answers: list[str]) -> None:
    chosen, rejected = (start + text for text in answers)
    rows, _ = read([{"chosen": chosen, "rejected": rejected}])
    for row in rows:
        if row["problem"] is None:
            prompt, *ends = contents(row)
            assert [prompt + end for end in ends] == [chosen, rejected]


@FEW
@given(text=whole)
def test_text_alone_is_not_changed(read: Read, text: str) -> None:
    rows, _ = read([{"text": text}])
    assert [contents(row) for row in rows] == [["", text]]


@FEW
@given(prompt=whole, completion=whole, label=st.booleans(), score=st.floats(allow_nan=False, allow_infinity=False))
def test_single_answers_are_not_changed(read: Read, prompt: str, completion: str, label: bool, score: float) -> None:
    assume(not completion.startswith(prompt))
    row = {"prompt": prompt, "completion": completion}
    for marked in (row, row | {"label": label}, row | {"score": score}):
        (found,), _ = read([marked])
        assert contents(found) == [prompt, completion]
        assert {name: found[name] for name in ("label", "score") if found[name] is not None} == {
            name: marked[name] for name in ("label", "score") if name in marked
        }


@FEW
@given(
    extra=st.dictionaries(
        st.text(min_size=1, max_size=5).filter(lambda name: name not in COLUMNS), anything, max_size=3
    )
)
def test_other_columns_are_not_changed(read: Read, extra: Row) -> None:
    assume("\\ud83d" not in json.dumps(extra))
    extra = {name: found for name, found in extra.items() if name != "id"}
    rows, _ = read([{"prompt": "Q", **extra}])
    assert json.dumps(json.loads(rows[0]["extra"]), sort_keys=True) == json.dumps(extra, sort_keys=True)


# --- There and back ------------------------------------------------------------------------------------------------


@st.composite
def distinct_pairs(draw: st.DrawFn) -> list[Row]:
    """Conversational pairs, each with a prompt of its own, of texts that begin and end with a letter."""
    word = st.text("abcä ß\n😀", max_size=12).map(lambda text: f"x{text}z")
    found = []
    for number, asked in enumerate(draw(st.lists(st.lists(word, min_size=1, max_size=3), min_size=1, max_size=5))):
        answers = draw(st.lists(word, min_size=2, max_size=2, unique=True))
        prompt = conversation(asked, None)
        prompt[-1]["content"] += f" {number}"
        sides = zip(("chosen", "rejected"), answers, strict=True)
        found.append({"prompt": prompt, **{side: [{"role": "assistant", "content": text}] for side, text in sides}})
    return found


def sharegpt(row: Row) -> Row:
    def turn(message: Row) -> Row:
        return {"from": {"user": "human", "assistant": "gpt"}[message["role"]], "value": message["content"]}

    answers = {side: turn(row[side][0]) for side in ("chosen", "rejected")}
    return {"conversations": [turn(message) for message in row["prompt"]], **answers}


def openai(row: Row) -> Row:
    return {
        "input": {"messages": row["prompt"], "tools": [], "parallel_tool_calls": True},
        "preferred_output": row["chosen"],
        "non_preferred_output": row["rejected"],
    }


def transcript(row: Row) -> Row:
    def told(messages: list[Row]) -> str:
        names = {"user": "Human", "assistant": "Assistant"}
        return "".join(f"\n\n{names[message['role']]}: {message['content']}" for message in messages)

    return {side: told(row["prompt"] + row[side]) for side in ("chosen", "rejected")}


def alpaca(row: Row) -> Row:
    *before, last = [message["content"] for message in row["prompt"]]
    answers = {side: row[side][0]["content"] for side in ("chosen", "rejected")}
    return {"instruction": last, "history": list(zip(before[::2], before[1::2], strict=True)), **answers}


def implicit(row: Row) -> Row:
    return {side: row["prompt"] + row[side] for side in ("chosen", "rejected")}


def several(row: Row) -> Row:
    return {**row, "rejected": [row["rejected"]]}


def ranking(row: Row) -> Row:
    return {"prompt": row["prompt"], "responses": [row["rejected"], row["chosen"]], "ranks": [2, 1]}


WRITERS = {
    "sharegpt-pairs": sharegpt,
    "openai-pairs": openai,
    "transcripts": transcript,
    "alpaca-pairs": alpaca,
    "pairs": implicit,
    "pairs, several": several,
    "ranks": ranking,
}


@pytest.mark.parametrize("layout", WRITERS)
@FEW
@given(pairs=distinct_pairs())
def test_pairs_come_back_from_every_layout(read: Read, layout: str, pairs: list[Row]) -> None:
    rows, found = read([WRITERS[layout](row) for row in pairs])
    assert found.shape.name == layout.partition(",")[0]
    assert [canonical(row) for row in rows] == pairs


def ids(rows: Dataset) -> set[tuple[Any, ...]]:
    """Return the pairs of token ids."""
    columns = (rows["prompt_ids"], rows["chosen_ids"], rows["rejected_ids"])
    return {tuple(map(tuple, found)) for found in zip(*columns, strict=True)}


def mark(pairs: list[Row]) -> list[Row]:
    """Write pairs as single answers, all good ones first."""
    sides = (("chosen", True), ("rejected", False))
    return [
        {"prompt": row["prompt"], "completion": row[side], "label": label} for side, label in sides for row in pairs
    ]


@FEW
@given(pairs=distinct_pairs())
def test_pairs_marked_and_paired_again_are_the_same_pairs(read: Read, pairs: list[Row]) -> None:
    as_pairs, layout = read(pairs)
    as_marked, marked = read(mark(pairs))
    there = convert(as_pairs, layout.kind, DataFormat.PREFERENCE, 4, 0)
    back = convert(as_marked, marked.kind, DataFormat.PREFERENCE, 4, 0)
    assert ids(back) == ids(there)
    assert len(back) == len(pairs)


@FEW
@given(pairs=distinct_pairs(), batch=st.integers(2, 8), seed=st.integers(0, 3))
def test_pairs_taken_apart_hold_the_same_answers(read: Read, pairs: list[Row], batch: int, seed: int) -> None:
    rows, layout = read(pairs)
    apart = convert(rows, layout.kind, DataFormat.UNPAIRED, batch, seed)
    assert len(apart) == 2 * len(pairs)
    sides: dict[bool, dict[Any, Any]] = {True: {}, False: {}}
    for row in apart:
        sides[row["label"]][tuple(row["prompt_ids"])] = tuple(row["completion_ids"])
    again = {(prompt, sides[True][prompt], sides[False][prompt]) for prompt in sides[True]}
    assert again == ids(convert(rows, layout.kind, DataFormat.PREFERENCE, batch, seed))


@FEW
@given(pairs=distinct_pairs(), seed=st.integers(0, 3))
def test_order_of_marked_answers_does_not_matter(read: Read, pairs: list[Row], seed: int) -> None:
    import random

    answers = mark(pairs)
    first = convert(read(answers)[0], DataFormat.UNPAIRED, DataFormat.PREFERENCE, 4, 0)
    random.Random(seed).shuffle(answers)
    second = convert(read(answers)[0], DataFormat.UNPAIRED, DataFormat.PREFERENCE, 4, 0)
    assert ids(first) == ids(second)
