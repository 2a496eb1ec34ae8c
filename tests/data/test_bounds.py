"""Files that are made to take memory or time: each is answered within seconds, by what is wrong with it."""

from __future__ import annotations

import gzip
import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from alignzoo import UserError
from alignzoo.data import bounds
from alignzoo.data.files import read

PAIR = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}


@pytest.fixture
def refused(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Return what is said of a file with this name and content: within a minute, in 300 MB if it is ``traced``."""

    def read_it(name: str, content: bytes, traced: bool = False) -> str:
        (tmp_path / name).write_bytes(content)
        began = time.process_time()
        if traced:
            tracemalloc.start()
        with pytest.raises(UserError) as error:
            for _ in read(tmp_path / name):
                pass
        assert time.process_time() - began < 60
        assert tracemalloc.get_traced_memory()[1] < 300 * 10**6
        tracemalloc.stop()
        return str(error.value)

    yield read_it
    tracemalloc.stop()


def pack_zstd(content: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


def test_a_line_of_200_mb(refused: Callable[..., str]) -> None:
    said = refused("rows.jsonl", json.dumps(PAIR).encode() + b'\n{"prompt": "' + b"a" * 200_000_000, traced=True)
    assert said.startswith("rows.jsonl line 2 is longer than 33.6 MB, which no row of text is.\n")
    assert refused("rows.csv", b"a" * 100_000_000).startswith("rows.csv line 1 is longer than 33.6 MB")


@pytest.mark.parametrize("content", [b"\0", b"{}\n", (json.dumps(PAIR) + "\n").encode()])
def test_a_bomb(refused: Callable[..., str], content: bytes) -> None:
    whole = content * (150_000_000 // len(content))
    for name, packed in {"rows.jsonl.zst": pack_zstd(whole), "rows.json.zst": pack_zstd(whole)}.items():
        assert "unpacks to more than 500 times its size" in refused(name, packed, traced=True)
    if len(content) == 1:
        assert "unpacks to more than 500 times its size" in refused("rows.csv.gz", gzip.compress(whole))


def test_a_bomb_behind_rows(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "UNPACKED", 2**16)
    rows = b"".join(json.dumps({**PAIR, "id": str(n)}).encode() + b"\n" for n in range(1_000))
    assert "unpacks to more" in refused("rows.jsonl.gz", gzip.compress(rows + (b" " * 30_000_000 + b"\n") * 3))


@pytest.mark.parametrize("ending", ["jsonl.gz", "jsonl.zst", "json.gz"])
def test_packed_rows_are_read(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "UNPACKED", 2**12)
    rows = [{**PAIR, "id": str(number)} for number in range(5_000)]
    text = json.dumps(rows) if "json." in ending else "".join(json.dumps(row) + "\n" for row in rows)
    pack = pack_zstd if ending.endswith("zst") else gzip.compress
    (tmp_path / f"rows.{ending}").write_bytes(pack(text.encode()))
    assert list(read(tmp_path / f"rows.{ending}")) == rows


def test_a_json_file_that_is_too_large(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bounds, "WHOLE", 10_000)
    rows = json.dumps([PAIR] * 1_000, indent=0).encode()
    for name, content in {"rows.json": rows, "rows.json.gz": gzip.compress(rows)}.items():
        assert refused(name, content).startswith(f"{name} is JSON of more than 10.0 kB, which would be read as a whole")
    assert capsys.readouterr().err == ""


def test_a_large_json_file_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bounds, "SHOWN_FROM", 50)
    (tmp_path / "rows.json").write_text(json.dumps([PAIR] * 100))
    assert len(list(read(tmp_path / "rows.json"))) == 100
    assert capsys.readouterr().err == "Reading rows.json, 6.1 kB of JSON, as a whole.\n"


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
@pytest.mark.parametrize("nested", ["[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000])
def test_json_nested_100_000_deep(refused: Callable[..., str], name: str, nested: str) -> None:
    assert refused(name, f'{{"prompt": {nested}}}'.encode()).endswith("it is nested too deeply.")


def test_a_million_columns(refused: Callable[..., str], tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(1_000_000)]
    said = "has 1,000,000 columns; at most 10,000 are read. Keep those that the training needs."
    assert refused("rows.csv", ",".join(names).encode() + b"\n") == f"rows.csv line 1 {said}"
    row = json.dumps(dict.fromkeys(names[:100_000], 1)).encode()
    assert refused("rows.jsonl", row).startswith("rows.jsonl line 1 has 100,000 columns; at most 10,000 are read")


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_many_columns_of_a_table(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(bounds, "COLUMNS", 20)
    table = pyarrow.table({f"c{number}": [1] for number in range(21)})
    sink = pyarrow.BufferOutputStream()
    if kind == "parquet":
        pyarrow.parquet.write_table(table, sink)
    else:
        with pyarrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    said = refused(f"rows.{kind}", bytes(sink.getvalue()))
    assert said.startswith(f"rows.{kind} has 21 columns; at most 20 are read")


def test_the_bounds_are_those_of_the_docs() -> None:
    assert (bounds.LINE, bounds.COLUMNS, bounds.WHOLE, bounds.RATIO) == (32 * 2**20, 10_000, 2**30, 500)
