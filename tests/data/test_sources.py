"""Rows come from any file, folder, glob, list or package; a broken one is named with its line, and nothing is lost."""

from __future__ import annotations

import csv
import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from datasets import Dataset
from omegaconf import DictConfig
from repository import REAL_DATA as DATA

from alignzoo import UserError
from alignzoo.data.sources import Source, measured_source, open_source, training_sources

ROWS = [{"prompt": "What is salt?", "chosen": 'A "mineral",\nwhite.', "rejected": "Ääh … 塩"}, {"prompt": "And?"}]
FULL = [{"chosen": None, "rejected": None, **row} for row in ROWS]


def source(path: Any, split: str = "train", first: int | None = None) -> Source:
    return open_source(path if isinstance(path, list) else str(path), split, None, None, "dataset.path", first)


def read(path: Any, **more: Any) -> list[dict[str, Any]]:
    return list(source(path, **more).rows())


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _csv(file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["prompt", "chosen", "rejected"])
        writer.writeheader()
        writer.writerows(ROWS)


def _arrow(file: Path) -> None:
    table = pyarrow.Table.from_pylist(FULL)
    with pyarrow.OSFile(str(file), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


WRITERS: dict[str, Callable[[Path], object]] = {
    "rows.jsonl": lambda file: file.write_text(jsonl(ROWS)),
    "blank-lines.jsonl": lambda file: file.write_text("\n" + jsonl(ROWS).replace("\n", "\n\n")),
    "no-last-newline.jsonl": lambda file: file.write_text(jsonl(ROWS).rstrip()),
    "mark.jsonl": lambda file: file.write_text(jsonl(ROWS), encoding="utf-8-sig"),
    "windows.jsonl": lambda file: file.write_bytes(jsonl(ROWS).replace("\n", "\r\n").encode()),
    "rows.json": lambda file: file.write_text(json.dumps(ROWS)),
    "indented.json": lambda file: file.write_text(json.dumps(ROWS, indent=2)),
    "lines.json": lambda file: file.write_text(jsonl(ROWS)),
    "wrapped.json": lambda file: file.write_text(json.dumps({"version": 1, "data": ROWS})),
    "indented-wrapped.json": lambda file: file.write_text(json.dumps({"version": 1, "data": ROWS}, indent=2)),
    "rows.csv": _csv,
    "rows.parquet": lambda file: pyarrow.parquet.write_table(pyarrow.Table.from_pylist(FULL), file),
    "rows.arrow": _arrow,
    "rows.jsonl.gz": lambda file: file.write_bytes(gzip.compress(jsonl(ROWS).encode())),
    "rows.json.gz": lambda file: file.write_bytes(gzip.compress(json.dumps(ROWS).encode())),
}


@pytest.mark.parametrize("name", WRITERS)
def test_file(tmp_path: Path, name: str) -> None:
    """What was written is read, whatever the format; a missing value is null or, in CSV, empty."""
    WRITERS[name](tmp_path / name)
    found = [{key: value or None for key, value in row.items()} for row in read(tmp_path / name)]
    assert [{"chosen": None, "rejected": None, **row} for row in found] == FULL


def test_zst(tmp_path: Path) -> None:
    with pyarrow.output_stream(tmp_path / "rows.jsonl.zst", compression="zstd") as stream:
        stream.write(jsonl(ROWS).encode())
    assert read(tmp_path / "rows.jsonl.zst") == ROWS


def test_rows_can_be_read_again(tmp_path: Path) -> None:
    """From their start, also after a first reader stopped halfway."""
    (tmp_path / "rows.jsonl").write_text(jsonl(ROWS))
    rows = source(tmp_path / "rows.jsonl").rows
    next(rows())
    assert list(rows()) == list(rows()) == ROWS


def test_first_rows_only(tmp_path: Path) -> None:
    """A broken line behind them is not read; another bound is another source."""
    (tmp_path / "rows.jsonl").write_text(jsonl(ROWS) + "{")
    assert read(tmp_path / "rows.jsonl", first=2) == ROWS
    identities = {source(tmp_path / "rows.jsonl", first=n).identity for n in (1, 2, None)}
    assert len(identities) == 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two training files, one of them deeper, a test file, and files that are no data."""
    for name, number in {"train-a.jsonl": 1, "deeper/train-b.jsonl": 2, "test.jsonl": 3}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(jsonl([{"prompt": str(number)}]))
    (tmp_path / "README.md").write_text("Read me.")
    return tmp_path


def test_folder(folder: Path) -> None:
    """Files whose name holds the split, in order of their names; all files where none does."""
    assert [row["prompt"] for row in read(folder)] == ["2", "1"]
    assert [row["prompt"] for row in read(folder, split="test")] == ["3"]
    assert [row["prompt"] for row in read(folder, split="other")] == ["2", "3", "1"]
    assert source(folder).place == "train-b.jsonl and 1 more"


def test_glob_and_list(folder: Path) -> None:
    assert [row["prompt"] for row in read(folder / "*.jsonl")] == ["3", "1"]
    assert [row["prompt"] for row in read([str(folder / "test.jsonl"), str(folder / "deeper")])] == ["3", "2"]


def test_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert [row["prompt"] for row in read("~/test.jsonl")] == ["3"]


def test_package() -> None:
    rows = read("package://alignzoo.data/concise/train.jsonl")
    assert {"id", "prompt", "chosen", "rejected"} <= rows[0].keys()


def test_identity_is_the_content(tmp_path: Path) -> None:
    """Neither place nor time changes it; any byte does."""
    (tmp_path / "a.jsonl").write_text(jsonl(ROWS))
    (tmp_path / "b.jsonl").write_text(jsonl(ROWS))
    first, second = (source(tmp_path / name).identity for name in ("a.jsonl", "b.jsonl"))
    assert first == second
    (tmp_path / "b.jsonl").write_text(jsonl(ROWS).replace("salt", "silt"))
    assert source(tmp_path / "b.jsonl").identity != first


BROKEN = {
    "bad.jsonl": ('{"prompt": "a"}\n{"prompt":\n', "bad.jsonl line 2 is not JSON: Expecting value at column "),
    "after-blank.jsonl": (
        '{"prompt": "a"}\n\n{"a" 1}\n',
        "after-blank.jsonl line 3 is not JSON: Expecting ':' delimit",
    ),
    "list.jsonl": ('{"prompt": "a"}\n["b"]\n', "list.jsonl line 2 is a list; a row must be an object with named col"),
    "number.jsonl": ("3\n", "number.jsonl line 1 is a int; a row must be an object with named columns."),
    "latin.jsonl": (b'{"a": 1}\n{"a": "caf\xe9"}\n', "latin.jsonl line 2 is not UTF-8 text (invalid continuation by"),
    "latin-later.jsonl": (b'{"a": 1}\n' * 2000 + b'{"a": "caf\xe9"}', "latin-later.jsonl line 2001 is not UTF-8 text"),
    "latin.json": (b'[{"prompt": "caf\xe9"}]', "latin.json line 1 is not UTF-8 text (invalid continuation byte)"),
    "latin.csv": (b"prompt\ncaf\xe9\n", "latin.csv line 2 is not UTF-8 text (invalid continuation byte)"),
    "deep.jsonl": ("[" * 100_000, "deep.jsonl line 1 is not "),
    "digits.jsonl": ('{"a": 1' + "0" * 5000 + "}", "digits.jsonl line 1 is not JSON: Exceeds the limit (4300 digits)"),
    "bad.json": ('[{"prompt" "a"}]', "bad.json line 1 is not JSON: Expecting ':' delimiter at column 12."),
    "bad-later.json": ('[\n{"a": 1},\n{"a" 2}\n]', "bad-later.json line 3 is not JSON: Expecting ':' delimiter at col"),
    "item.json": ('[{"prompt": "a"}, "b"]', "item.json row 2 is a str; a row must be an object with named columns."),
    "number.json": ("3", "number.json holds one int; it must hold a list of rows, or one row a line."),
    "open-quote.csv": ('prompt,answer\na,1\n"b,2\nc,3\n', "open-quote.csv line 4 is not CSV: unexpected end of data."),
    "wrong-quote.csv": ('prompt,answer\na,1\n"b"x,2\n', "wrong-quote.csv line 3 is not CSV: "),
    "many-cells.csv": ("prompt,answer\na,1\nb,2,3\n", "many-cells.csv line 3 has 3 cells; the header has 2."),
    "few-cells.csv": ("prompt,answer\na,1\nb\n", "few-cells.csv line 3 has 1 cells; the header has 2."),
    "long.csv": ("a\nb\n" + "x" * 200_000, "long.csv line 3 is not CSV: field larger than field limit (131072)."),
    "bad.parquet": ("prompt" * 9, "bad.parquet cannot be read as parquet: Parquet magic bytes not found"),
    "empty.parquet": ("", "empty.parquet cannot be read as parquet: Parquet file size is 0 bytes"),
    "bad.arrow": ("prompt", "bad.arrow cannot be read as arrow: "),
    "bad.jsonl.gz": ("prompt", "bad.jsonl.gz cannot be unpacked: "),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_file(tmp_path: Path, name: str) -> None:
    """The message names the file, and the line or row where there are such."""
    content, message = BROKEN[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as raised:
        read(tmp_path / name)
    assert message in str(raised.value)


#: What stands in an Arrow file of the texts "salt" and "air" -> what stands there instead.
POINTERS = {
    "an end of a text": (struct.pack("<3i", 0, 4, 7), struct.pack("<3i", 0, 4, 2**30)),
    "a negative end": (struct.pack("<3i", 0, 4, 7), struct.pack("<3i", 0, -4, 7)),
    "bytes that are not text": (b"saltair", b"\xff\xfe\xff\xfeair"),
    "a type that datasets does not know": (b'"_type": "Value"', b'"_type": "Vlaue"'),
    "no JSON about the types": (b'{"info"', b'["info"'),
}


@pytest.mark.parametrize("kind", POINTERS)
def test_an_arrow_file_is_checked_before_its_numbers_are_addresses(tmp_path: Path, kind: str) -> None:
    """Arrow believes them, and the process would end."""
    table = Dataset.from_list([{"prompt": "salt"}, {"prompt": "air"}]).data.table
    file = tmp_path / "rows.arrow"
    with pyarrow.OSFile(str(file), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert read(file) == [{"prompt": "salt"}, {"prompt": "air"}]
    content = file.read_bytes()
    old, new = POINTERS[kind]
    assert old in content
    file.write_bytes(content.replace(old, new))
    with pytest.raises(UserError, match=r"^rows\.arrow cannot be read as arrow: .+"):
        read(file)


WRAPPED = '{"version": 1, "data": [\n{"prompt": "a"},\n{"prompt": "b"}\n]}'

ROW = {"messages": [{"role": "user", "content": "Hi"}]}


def test_json_rows_under_a_name(tmp_path: Path) -> None:
    """Whatever the line breaks."""
    (tmp_path / "rows.json").write_text(WRAPPED)
    assert read(tmp_path / "rows.json") == [{"prompt": "a"}, {"prompt": "b"}]


@pytest.mark.parametrize("row", [ROW, {"prompt": "a"}], ids=["messages", "prompt"])
def test_a_json_row_alone_is_refused(tmp_path: Path, row: dict[str, Any]) -> None:
    """Its messages are never taken for rows."""
    (tmp_path / "rows.json").write_text(json.dumps(row))
    with pytest.raises(UserError, match=r"rows\.json holds one dict; it must hold a list of rows, or one row a line\."):
        read(tmp_path / "rows.json")


def test_csv_values_that_are_no_text(tmp_path: Path) -> None:
    """Labels and scores become what they stand for; texts stay text, numbers and all."""
    (tmp_path / "rows.csv").write_text("prompt,label,score\n1,True,3.5\ntrue,0,x\n")
    expected = [{"prompt": "1", "label": True, "score": 3.5}, {"prompt": "true", "label": 0, "score": "x"}]
    assert read(tmp_path / "rows.csv") == expected


@pytest.mark.parametrize("name", ["empty.jsonl", "empty.json", "empty.csv"])
def test_an_empty_file_has_no_rows(tmp_path: Path, name: str) -> None:
    """prepare() then says that the source holds none."""
    (tmp_path / name).write_text("")
    assert read(tmp_path / name) == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.jsonl", rf"dataset\.path=missing\.jsonl: no such file\. Looked in {Path.cwd()}\."),
        ("/nowhere/at/all", r"dataset\.path=/nowhere/at/all: no such file\. Looked in /nowhere/at\."),
        ("./missing", r"dataset\.path=\./missing: no such file\."),
        ("/nowhere/*.jsonl", r"dataset\.path=/nowhere/\*\.jsonl: no such file\."),
        (None, r"dataset\.path is needed: a file, a folder, or a hub id\."),
        ("trl-lib/no-such-set", r"dataset\.path=trl-lib/no-such-set \(split train\): not in the local cache"),
    ],
)
def test_missing(path: str | None, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=message):
        open_source(path, "train", None, None, "dataset.path")


def test_a_file_beside_it_of_nearly_that_name_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(UserError, match=r"trian\.jsonl: no such file\. Did you mean train\.jsonl\?"):
        open_source(str(tmp_path / "trian.jsonl"), "train", None, None, "dataset.path")


@pytest.mark.parametrize("name", ["rows.txt", "rows.xlsx", "rows.parquet.gz", "rows"])
def test_unknown_ending(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=rf"dataset\.path: {name} must be one of \.json, \.jsonl, \.csv"):
        source(tmp_path / name)


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        source(tmp_path)


def test_a_missing_file_of_a_list_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        source([str(folder / "test.jsonl"), str(folder / "missing.jsonl")])


@pytest.mark.parametrize("path", ["package://alignzoo.data/missing.jsonl", "package://no_such_package/rows.jsonl"])
def test_a_missing_package_or_file_in_it_is_refused(path: str) -> None:
    with pytest.raises(UserError):
        source(path)


def test_a_folder_of_save_to_disk(tmp_path: Path) -> None:
    Dataset.from_list(FULL).save_to_disk(tmp_path / "saved")
    assert read(tmp_path / "saved") == FULL


def test_a_split_is_a_word_of_the_name(tmp_path: Path) -> None:
    for name in ("train.jsonl", "constrained.jsonl"):
        (tmp_path / name).write_text(jsonl([{"prompt": name}]))
    assert read(tmp_path) == [{"prompt": "train.jsonl"}]


def test_held_out_rows_have_a_place_of_their_own(folder: Path, compose_config: Callable[..., DictConfig]) -> None:
    """A file, a split of the same folder, or none: then they are a share of the prompts."""
    base = ("dataset=local", f"dataset.path={folder}")
    by_path = measured_source(compose_config(*base, f"dataset.heldout.path={folder / 'test.jsonl'}").dataset, "heldout")
    by_split = measured_source(compose_config(*base, "dataset.heldout.split=test").dataset, "heldout")
    assert by_path
    assert by_split
    assert [row["prompt"] for row in by_path.rows()] == [row["prompt"] for row in by_split.rows()] == ["3"]
    assert measured_source(compose_config(*base).dataset, "heldout") is None


def test_mix(folder: Path, compose_config: Callable[..., DictConfig]) -> None:
    """Each part has its own keys, and the dataset's where it names none."""
    mix = f"dataset.mix=[{{path:{folder}/test.jsonl,chat:true,weight:1}},{{path:{folder},weight:2}}]"
    (one, its), (two, others) = training_sources(compose_config("dataset=local", mix).dataset)
    assert [row["prompt"] for row in one.rows()] == ["3"]
    assert [row["prompt"] for row in two.rows()] == ["2", "1"]
    assert (its.chat, others.chat) == (True, False)
    assert (its.weight, others.weight) == (1, 2)


def test_mix_names_itself_in_messages(compose_config: Callable[..., DictConfig]) -> None:
    with pytest.raises(UserError, match=r"dataset\.mix: path=missing\.jsonl: no such file"):
        training_sources(compose_config("dataset=local", "dataset.mix=[{path:missing.jsonl}]").dataset)


@pytest.mark.parametrize(
    ("name", "count", "columns"),
    [
        ("gsm8k_500.jsonl", 500, {"question", "answer"}),
        ("alpaca_200.json", 200, {"instruction", "input", "output"}),
        ("dpo_sharegpt_150.json", 150, {"conversations", "chosen", "rejected"}),
    ],
)
def test_published_files(name: str, count: int, columns: set[str]) -> None:
    if not (DATA / name).is_file():
        pytest.skip(f"{DATA / name} is missing: it is not part of the repository")
    rows = read(DATA / name)
    assert len(rows) == count
    assert set.intersection(*(set(row) for row in rows)) == columns
