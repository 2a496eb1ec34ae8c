"""One small file per format and per mistake, read as a run reads them: what comes out, or what the user is told."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict
from repository import REAL_DATA as REAL
from transformers import AutoTokenizer

from alignzoo import DataFormat, UserError
from alignzoo.config.compose import compose
from alignzoo.data.layouts import SHAPES
from alignzoo.data.prepare import Prepared, prepare
from alignzoo.data.tokenise import Tokeniser
from alignzoo.models import start_model

CASES = Path(__file__).with_name("cases")

#: Cuts of public sets, beside the repository; no part of it.

P, U, S, Q, R = (
    DataFormat.PREFERENCE,
    DataFormat.UNPAIRED,
    DataFormat.SUPERVISED,
    DataFormat.PROMPTS,
    DataFormat.SCORED,
)

Row = dict[str, Any]
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
    """Prepare a file as a run with these overrides would."""

    def prepared(file: Path, *overrides: str) -> Prepared:
        cfg = copy.deepcopy(base)
        with open_dict(cfg):
            cfg.dataset.path = str(file)
            for override in OverridesParser.create().parse_overrides(list(overrides)):
                OmegaConf.update(cfg, override.key_or_group, override.value())
        return prepare(cfg, tokeniser)

    return prepared


def canonical(row: Row) -> Row:
    """Return what a row of the table holds, without ids, hashes and tokens."""
    texts = {name: json.loads(row[name]) for name in ("prompt", "chosen", "rejected", "completion") if row[name]}
    return texts | {name: row[name] for name in ("label", "score") if row[name] is not None}


# --- Formats -------------------------------------------------------------------------------------------------------


def text(content: str) -> list[Row]:
    return [{"role": "text", "content": content}]


def user(content: str) -> Row:
    return {"role": "user", "content": content}


def says(content: str) -> Row:
    return {"role": "assistant", "content": content}


def system(content: str) -> Row:
    return {"role": "system", "content": content}


def pair(prompt: str | list[Row], chosen: str, rejected: str) -> Row:
    """Return a pair of texts where the prompt is text, else of messages."""
    if isinstance(prompt, str):
        return {"prompt": text(prompt), "chosen": text(chosen), "rejected": text(rejected)}
    return {"prompt": prompt, "chosen": [says(chosen)], "rejected": [says(rejected)]}


def answer(prompt: str | list[Row], completion: str, **more: Any) -> Row:
    if isinstance(prompt, str):
        return {"prompt": text(prompt), "completion": text(completion), **more}
    return {"prompt": prompt, "completion": [says(completion)], **more}


SKY, SUM, BRIEF = user("Why is the sky blue?"), user("What is 2 + 3?"), system("Be brief.")

SKY_PAIR = pair([SKY], "Scattering.", "Paint.")

SENTENCES = [pair("The sky is", " blue.", " green."), pair("Grass is", " green.", " blue.")]

CONVERSATIONS = [
    pair([SKY], "Air scatters blue light most.", "It mirrors the sea."),
    pair([BRIEF, SUM], "5", "6"),
]

MARKED_SUMS = [answer([SUM], "5", label=True), answer([SUM], "6", label=False)]

CALL = {"name": "weather", "arguments": {"city": "Oslo"}}


class Case(NamedTuple):
    """A file, its layout and kind, the canonical rows it stands for, and the overrides it needs."""

    file: str
    layout: str
    kind: DataFormat
    rows: list[Row]
    overrides: tuple[str, ...] = ()


FORMATS = [
    Case("pairs-explicit-text.jsonl", "pairs", P, SENTENCES),
    Case(
        *("pairs-explicit-text.jsonl", "pairs", P),
        [pair([user("The sky is")], " blue.", " green."), pair([user("Grass is")], " green.", " blue.")],
        ("dataset.chat=true",),
    ),
    Case(
        *("pairs-implicit-text.jsonl", "pairs", P),
        [pair("The sky is", " blue.", " green."), pair("Two and three are", " five.", " four.")],
    ),
    Case("pairs-explicit-conversational.jsonl", "pairs", P, CONVERSATIONS),
    Case(
        *("pairs-implicit-conversational.jsonl", "pairs", P),
        [CONVERSATIONS[0], pair([SUM, says("5"), user("Sure?")], "Yes: 5.", "No.")],
    ),
    Case(
        *("pairs-several-rejected.jsonl", "pairs", P),
        [pair([SUM], "5", "6"), pair([SUM], "5", "4"), pair([SUM], "5", "23"), SKY_PAIR],
    ),
    Case(
        *("pairs-several-rejected-text.jsonl", "pairs", P),
        [pair("2 + 3 =", " 5", " 6"), pair("2 + 3 =", " 5", " 4")],
    ),
    Case(
        *("unpaired-text.jsonl", "marked", U),
        [answer("The sky is", " blue.", label=True), answer("The sky is", " green.", label=False)],
    ),
    Case(
        *("unpaired-conversational.jsonl", "marked", U),
        [answer([SKY], "Scattering.", label=True), answer([SUM], "6", label=False)],
    ),
    Case(
        *("prompts-text.jsonl", "prompts", Q),
        [{"prompt": text("What is 2 + 3?")}, {"prompt": text("What is 2 + 4?")}],
    ),
    Case("prompts-conversational.jsonl", "prompts", Q, [{"prompt": [BRIEF, SKY]}, {"prompt": [SUM]}]),
    Case("answers-text.jsonl", "answers", S, [answer("The sky is", " blue.")]),
    Case("answers-conversational.jsonl", "answers", S, [answer([SUM, says("5"), user("Sure?")], "Yes.")]),
    Case("text.jsonl", "text", S, [answer("", "Once upon a time."), answer("", "  There was a king.\n")]),
    Case(
        *("messages.jsonl", "messages", S),
        [answer([BRIEF, SKY], "Scattering."), answer([SUM, says("5"), user("Sure?")], "Yes.")],
    ),
    Case("ultrafeedback-binarized.jsonl", "pairs", P, [SKY_PAIR, pair([SUM], "5", "6")]),
    Case(
        *("hh-transcripts.jsonl", "transcripts", P),
        [SKY_PAIR, pair([SUM, says("5"), user("Sure?\n\nWhat about 3 + 2?")], "5, too.", "6")],
    ),
    Case(
        *("sharegpt-pairs.json", "sharegpt-pairs", P),
        [
            pair([BRIEF, SUM, says("5"), user("Sure?")], "Yes.", "No."),
            pair([system("You know physics."), SKY], "Scattering.", "Paint."),
        ],
    ),
    Case(
        *("sharegpt-marked.json", "sharegpt-marked", U),
        [
            answer([SUM], "5", label=True),
            answer([BRIEF, SUM, says("5"), user("And 3 + 3?")], "7", label=False),
        ],
    ),
    Case(
        *("sharegpt-tools.json", "sharegpt", S),
        [
            answer(
                [
                    system("Use tools."),
                    user("Is it cold in Oslo?"),
                    {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": CALL}]},
                    {"role": "tool", "content": "-3"},
                ],
                "Yes, -3 degrees.",
            )
        ],
    ),
    Case(
        *("messages-chosen.jsonl", "messages-pairs", P),
        [SKY_PAIR, pair([SUM, says("5"), user("Sure?")], "Yes.", "No.")],
    ),
    Case("messages-rejected.jsonl", "swift-pairs", P, [SKY_PAIR]),
    Case("messages-marked.jsonl", "messages-marked", U, MARKED_SUMS),
    Case("exchanges.jsonl", "exchanges", S, [answer([BRIEF, SUM, says("5"), user("Sure?")], "Yes.")]),
    Case("exchanges-marked.jsonl", "exchanges-marked", U, MARKED_SUMS),
    Case("chosen-marked.jsonl", "chosen-marked", U, MARKED_SUMS),
    Case(
        *("alpaca.json", "alpaca", S),
        [answer([user("Add the numbers.\n2, 3")], "5"), answer([SKY], "Scattering."), answer([BRIEF, SUM], "5")],
    ),
    Case(
        *("alpaca-history.json", "alpaca", S),
        [answer([SUM, says("5"), user("And 1 + 1?"), says("2"), user("And 3 + 3?")], "6")],
    ),
    Case("alpaca-pairs.json", "alpaca-pairs", P, [pair([user("Add the numbers.\n2, 3")], "5", "6"), SKY_PAIR]),
    Case(
        *("alpaca-marked.json", "alpaca-marked", U),
        [answer([SUM], "5", label=True), answer([SUM], "6", label=False)],
    ),
    Case("openai-pairs.jsonl", "openai-pairs", P, [pair([BRIEF, SUM], "5", "6")]),
    Case("ultrafeedback-raw.jsonl", "ultrafeedback", P, [pair(SKY["content"], "Scattering.", "Paint.")]),
    Case("ultrafeedback-raw.jsonl", "ultrafeedback", P, [SKY_PAIR], ("dataset.chat=true",)),
    Case("nectar.jsonl", "nectar", P, [SKY_PAIR]),
    Case(
        *("helpsteer-ratings.jsonl", "ratings", R),
        [answer("What is 2 + 3?", "5", score=4.0), answer("What is 2 + 3?", "6", score=0.0)],
    ),
    Case(
        *("helpsteer-preferences.jsonl", "strengths", P),
        [pair("What is 2 + 3?", "5", "6"), pair(SKY["content"], "Scattering.", "Paint.")],
    ),
    Case("scores.jsonl", "scores", P, [pair("What is 2 + 3?", "5", "23")]),
    Case("ranks.jsonl", "ranks", P, [pair("What is 2 + 3?", "5", "23")]),
    Case(
        *("shp.jsonl", "shp", P),
        [pair("What is 2 + 3?", "5", "6"), pair(SKY["content"], "Scattering.", "Paint.")],
    ),
    Case(
        *("scored.jsonl", "scored", R),
        [answer("What is 2 + 3?", "5", score=0.9), answer("What is 2 + 3?", "6", score=-1.0)],
    ),
    Case(
        *("pairs.csv", "pairs", P),
        [
            pair('Say "hi", please.', "Hi, there!\nHow are you?", "No."),
            pair("Größe?", "„Groß“: 5 m", "キ"),
        ],
    ),
    Case(
        *("marked.csv", "marked", U),
        [
            answer("The sky is", " blue.", label=True),
            answer("The sky is", " green.", label=False),
            answer("Grass is", " green.", label=True),
            answer("Grass is", " blue.", label=False),
        ],
    ),
    Case("windows.jsonl", "pairs", P, SENTENCES),
    Case("lines.json", "pairs", P, SENTENCES),
    Case("wrapped.json", "pairs", P, SENTENCES[:1]),
    Case("wrapped-unindented.json", "pairs", P, SENTENCES),
    Case(
        *("unicode.jsonl", "pairs", P),
        [pair("e\u0301 é 😀 \u202eabc\u202c \u2028 \u0085 \ufeff x", "\tนี่\u00a0", "\u0000 \u200b.")],
    ),
    Case(
        *("mapped.jsonl", "pairs", P, [pair("What is 2 + 3?", "5", "6")]),
        ("dataset.columns={question: prompt, good: chosen, bad: rejected}",),
    ),
    Case(
        *("mapped.jsonl", "answers", S, [answer([SUM], "5")]),
        ("dataset.columns={question: prompt, good: completion}", "dataset.chat=true"),
    ),
    Case("ambiguous.jsonl", "pairs", P, [pair("Q", "A", "B"), pair("R", "A", "B")], ("dataset.layout=pairs",)),
    Case(
        *("ambiguous.jsonl", "marked", U, [answer("Q", "C", label=True), answer("R", "D", label=False)]),
        ("dataset.layout=marked",),
    ),
]


def named(case: Any) -> str:
    return " ".join([case.file, *getattr(case, "overrides", ())])


@pytest.mark.parametrize("case", FORMATS, ids=named)
def test_format(read: Read, case: Case) -> None:
    data = read(CASES / case.file, *case.overrides)
    assert data.layout.shape.name == case.layout
    assert data.kind is case.kind
    assert [canonical(row) for row in data.train] == case.rows
    assert set(data.manifest["decision"]) == {"train"}


def test_every_layout_has_a_file() -> None:
    assert {case.layout for case in FORMATS} == {shape.name for shape in SHAPES}


def test_every_file_is_tested() -> None:
    tested = {case.file for case in [*FORMATS, *BAD_ROWS, *BAD_FILES]}
    assert {file.name for file in CASES.iterdir()} == tested


def test_rows_have_the_ids_of_their_source(read: Read) -> None:
    data = read(CASES / "pairs-several-rejected.jsonl")
    assert list(zip(data.train["row"], data.train["id"], strict=True)) == [
        (1, "sum.1"),
        (1, "sum.2"),
        (1, "sum.3"),
        (2, "sky"),
    ]
    assert list(read(CASES / "pairs.csv").train["id"]) == ["7", "8"]
    assert list(read(CASES / "windows.jsonl").train["id"]) == ["row-1", "row-2"]


def test_other_columns_are_kept_for_rewards(read: Read) -> None:
    data = read(CASES / "prompts-text.jsonl")
    assert [json.loads(extra) for extra in data.train["extra"]] == [
        {"answer": "5", "level": 1},
        {"answer": "6", "level": 1},
    ]


# --- The same rows in other containers -----------------------------------------------------------------------------

CONVERSATIONAL = CASES / "pairs-explicit-conversational.jsonl"


def rows_of(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def as_parquet(folder: Path) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows_of(CONVERSATIONAL)), folder / "pairs.parquet")
    return folder / "pairs.parquet"


def as_arrow(folder: Path) -> Path:
    import datasets

    datasets.Dataset.from_list(rows_of(CONVERSATIONAL)).save_to_disk(folder / "saved")
    return next((folder / "saved").glob("*.arrow"))


def as_gz(folder: Path) -> Path:
    (folder / "pairs.jsonl.gz").write_bytes(gzip.compress(CONVERSATIONAL.read_bytes()))
    return folder / "pairs.jsonl.gz"


def as_zst(folder: Path) -> Path:
    import pyarrow

    with pyarrow.output_stream(str(folder / "pairs.jsonl.zst"), compression="zstd") as stream:
        stream.write(CONVERSATIONAL.read_bytes())
    return folder / "pairs.jsonl.zst"


def as_json_gz(folder: Path) -> Path:
    (folder / "pairs.json.gz").write_bytes(gzip.compress(json.dumps(rows_of(CONVERSATIONAL)).encode()))
    return folder / "pairs.json.gz"


@pytest.mark.parametrize("write", [as_parquet, as_arrow, as_gz, as_zst, as_json_gz], ids=lambda write: write.__name__)
def test_container_changes_nothing(read: Read, tmp_path: Path, write: Callable[[Path], Path]) -> None:
    data, plain = read(write(tmp_path)), read(CONVERSATIONAL)
    assert [canonical(row) for row in data.train] == CONVERSATIONS
    assert list(data.manifest["tokens"]) == list(plain.manifest["tokens"])
    assert list(data.manifest["id"]) == ["sky", "sum"]


# --- Mistakes in a row ---------------------------------------------------------------------------------------------


class BadRow(NamedTuple):
    """A file of three rows, the second of which is bad; and what the user is told."""

    file: str
    reason: str


BAD_ROWS = [
    BadRow("bad-null-prompt.jsonl", "prompt is null"),
    BadRow("bad-null-answer.jsonl", "rejected is null"),
    BadRow("bad-empty-answer.jsonl", "chosen is empty"),
    BadRow("bad-equal-answers.jsonl", "chosen equals rejected"),
    BadRow("bad-label.jsonl", "label is 'yes'; it must be true or false"),
    BadRow("bad-role.jsonl", "chosen has the role 'bot'; known are assistant, developer, system, tool, user"),
    BadRow("bad-message.jsonl", "chosen holds a message without role and content"),
    BadRow("bad-last-turn.jsonl", "the conversation does not end with an assistant's turn"),
    BadRow("bad-answer-of-user.jsonl", "rejected ends with the role 'user'; it must end with the assistant's turn"),
    BadRow("bad-transcript.jsonl", "chosen is not a transcript: it must start with a Human turn"),
    BadRow("bad-equal-scores.jsonl", "scores: all answers have the same score"),
    BadRow("bad-one-answer.jsonl", "scores has 1 answers; a pair needs two"),
    BadRow("bad-list-lengths.jsonl", "responses has 2 items and scores 1"),
    BadRow("bad-nan-score.jsonl", "scores has the score nan; it must be a number"),
    BadRow("bad-strength.jsonl", "preference_strength is 0: neither answer is preferred"),
    BadRow("bad-turn.jsonl", "conversations has the role 'cat'; known are assistant"),
    BadRow("bad-nan-rating.jsonl", "score"),
    BadRow("bad-text-rating.jsonl", "score"),
    BadRow("bad-role-list.jsonl", "chosen has the role"),
    BadRow("bad-surrogate.jsonl", "chosen holds half a surrogate pair, which is not a character"),
    BadRow("bad-missing-key.jsonl", "rejected is missing"),
    BadRow("bad-history.jsonl", "history"),
    BadRow("bad-input.jsonl", "input"),
]


bad_rows = pytest.mark.parametrize("case", BAD_ROWS, ids=named)


@bad_rows
def test_bad_row_is_named_with_its_number_and_reason(read: Read, case: BadRow) -> None:
    with pytest.raises(UserError) as raised:
        read(CASES / case.file)
    first, second = str(raised.value).splitlines()
    assert first.startswith(f"{case.file} row 2 cannot be trained on: ")
    assert case.reason in first
    assert second == "Mend the data, or set dataset.bad_rows=drop to leave such rows out."


@bad_rows
def test_bad_row_can_be_left_out(read: Read, case: BadRow) -> None:
    data = read(CASES / case.file, "dataset.bad_rows=drop")
    assert list(data.train["row"]) == [1, 3]
    assert list(data.manifest["decision"]) == ["train", "dropped", "train"]
    assert case.reason in data.manifest["reason"][1]


@pytest.mark.parametrize("rule", ["stop", "drop"])
def test_first_row_is_bad(read: Read, rule: str) -> None:
    try:
        data = read(CASES / "bad-first-row.jsonl", f"dataset.bad_rows={rule}")
    except UserError as error:
        assert str(error).startswith("bad-first-row.jsonl row 1 cannot be trained on: chosen is null")  # noqa: PT017
    else:
        assert list(data.train["row"]) == [2, 3]


# --- Mistakes in a file or in the settings ---------------------------------------------------------------------------


class BadFile(NamedTuple):
    """A file that cannot be read at all (with these overrides), and all that the user is told."""

    file: str
    message: str
    overrides: tuple[str, ...] = ()


PAIR_COLUMNS = "no layout that alignzoo knows.\nMap yours, e.g. 'dataset.columns={question: prompt, good: chosen"

BAD_FILES = [
    BadFile("bad-first-row.jsonl", "row 1 cannot be trained on: chosen is null"),
    BadFile("broken-line.jsonl", "broken-line.jsonl line 2 is not JSON: Expecting ',' delimiter at column 32."),
    BadFile(
        "broken-list.json",
        "broken-list.json line 4 is not JSON: Expecting property name enclosed in double quotes at column 1.",
    ),
    BadFile("no-object.jsonl", "no-object.jsonl line 2 is a list; a row must be an object with named columns."),
    BadFile("no-list.json", "no-list.json holds one dict; it must hold a list of rows, or one row a line."),
    BadFile("empty.jsonl", "empty.jsonl holds no rows."),
    BadFile("empty.json", "empty.json holds no rows."),
    BadFile("empty-list.json", "empty-list.json holds no rows."),
    BadFile("header-only.csv", "header-only.csv holds no rows."),
    BadFile("latin-1.jsonl", "latin-1.jsonl line 1 is not UTF-8 text (invalid start byte): save it as UTF-8."),
    BadFile("stray-quote.csv", "stray-quote.csv line 5 is not CSV: unexpected end of data."),
    BadFile("more-fields.csv", "more-fields.csv line 3 has 4 cells; the header has 3."),
    BadFile("semicolons.csv", f"semicolons.csv has the columns prompt;chosen;rejected: {PAIR_COLUMNS}"),
    BadFile("other-columns.jsonl", f"other-columns.jsonl has the columns bad, good, question: {PAIR_COLUMNS}"),
    BadFile("long-number.jsonl", "long-number.jsonl line 1 is not JSON: Exceeds the limit"),
    BadFile(
        "ambiguous.jsonl",
        "ambiguous.jsonl could be read in 2 ways: pairs (chosen, rejected); marked (completion, label).\n"
        "Say which: dataset.layout=pairs.",
    ),
    BadFile(
        "mapped.jsonl",
        "dataset.columns: mapped.jsonl has no column 'qestion'. Did you mean question?\n"
        "It has: bad, good, question, source.",
        ("dataset.columns={qestion: prompt}",),
    ),
    BadFile(
        "mapped.jsonl",
        f"mapped.jsonl has the columns bad, good, question, source: {PAIR_COLUMNS}",
        ("dataset.columns={good: chosen}",),
    ),
    BadFile(
        "pairs-explicit-text.jsonl",
        "dataset.layout=pair must be one of transcripts, sharegpt-pairs, ",
        ("dataset.layout=pair",),
    ),
    BadFile(
        "pairs-explicit-text.jsonl",
        "dataset.layout=marked needs the columns completion, label, which pairs-explicit-text.jsonl lacks.",
        ("dataset.layout=marked",),
    ),
    BadFile(
        "pairs-explicit-text.jsonl",
        "pairs-explicit-text.jsonl: no row of 2 is left to train on (longer than train.max_length=2). Its rows have ",
        ("train.max_length=2",),
    ),
    BadFile(
        "pairs-explicit-text.jsonl",
        "pairs-explicit-text.jsonl: all 2 rows are held out. Lower dataset.heldout.fraction.",
        ("dataset.heldout.fraction=1",),
    ),
]


@pytest.mark.parametrize("case", BAD_FILES, ids=named)
def test_bad_file(read: Read, case: BadFile) -> None:
    with pytest.raises(UserError) as raised:
        read(CASES / case.file, *case.overrides)
    assert case.message in str(raised.value)
    assert len(str(raised.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pairs.jsonl.gz", "pairs.jsonl.gz cannot be unpacked: "),
        ("pairs.jsonl.zst", "pairs.jsonl.zst cannot be unpacked: "),
        ("pairs.parquet", "pairs.parquet cannot be read as parquet: "),
        ("pairs.arrow", "pairs.arrow cannot be read as arrow: "),
    ],
)
def test_a_file_that_is_not_what_its_name_says(read: Read, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(CONVERSATIONAL.read_bytes())
    with pytest.raises(UserError) as raised:
        read(tmp_path / name)
    assert str(raised.value).startswith(message)
    assert len(str(raised.value).splitlines()) == 1


def test_an_archive_that_breaks_off(read: Read, tmp_path: Path) -> None:
    packed = gzip.compress(CONVERSATIONAL.read_bytes() * 1000)
    (tmp_path / "pairs.jsonl.gz").write_bytes(packed[:-100])
    with pytest.raises(UserError, match=r"^pairs.jsonl.gz cannot be unpacked: "):
        read(tmp_path / "pairs.jsonl.gz")


def test_wrong_encoding_far_into_a_file(read: Read, tmp_path: Path) -> None:
    line = b'{"prompt": "Q", "chosen": "A", "rejected": "B"}\n'
    (tmp_path / "pairs.jsonl").write_bytes(line * 1000 + line.replace(b"Q", b"Gr\xf6\xdfe"))
    with pytest.raises(UserError, match=r"^pairs.jsonl line 1001 is not UTF-8 text"):
        read(tmp_path / "pairs.jsonl")


# --- Real files ----------------------------------------------------------------------------------------------------


def real(name: str) -> Path:
    if not (REAL / name).is_file():
        pytest.skip(f"no {REAL / name} on this machine")
    return REAL / name


def test_sharegpt_pairs_as_published(read: Read) -> None:
    data = read(real("dpo_sharegpt_150.json"), "train.max_length=100000")
    assert data.layout.shape.name == "sharegpt-pairs"
    assert list(data.manifest["decision"]) == ["train"] * 150
    published = json.loads((REAL / "dpo_sharegpt_150.json").read_text(encoding="utf-8"))
    for row, source in zip(data.train, published, strict=True):
        shaped = canonical(row)
        turns = [turn["value"] for turn in source["conversations"]]
        assert [message["content"] for message in shaped["prompt"]] == turns
        assert shaped["chosen"] == [says(source["chosen"]["value"])]
        assert shaped["rejected"] == [says(source["rejected"]["value"])]


def test_alpaca_as_published(read: Read) -> None:
    data = read(real("alpaca_200.json"), "train.max_length=100000")
    assert data.layout.shape.name == "alpaca"
    assert list(data.manifest["decision"]) == ["train"] * 200
    for row, source in zip(data.train, json.loads((REAL / "alpaca_200.json").read_text(encoding="utf-8")), strict=True):
        (prompt,) = canonical(row)["prompt"]
        parts = [source["instruction"], *([source["input"]] if source["input"] else [])]
        assert prompt == user("\n".join(parts))
        assert canonical(row)["completion"] == [says(source["output"])]


def test_gsm8k_as_published(read: Read) -> None:
    data = read(real("gsm8k_500.jsonl"), "dataset.columns={question: prompt}", "dataset.chat=true")
    assert data.layout.shape.name == "prompts"
    assert list(data.manifest["decision"]) == ["train"] * 500
    for row, source in zip(data.train, rows_of(REAL / "gsm8k_500.jsonl"), strict=True):
        assert canonical(row) == {"prompt": [user(source["question"])]}
        assert json.loads(row["extra"]) == {"answer": source["answer"]}
