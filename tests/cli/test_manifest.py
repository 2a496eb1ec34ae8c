"""``alignzoo manifest RUN RUN``: what two runs' manifests say of each row, and the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from alignzoo import cli
from alignzoo.config.compose import compose
from alignzoo.data.manifest import FILE, differences, read
from alignzoo.data.prepare import prepare
from alignzoo.data.tokenise import Tokeniser
from alignzoo.models.load import load_tokenizer
from alignzoo.runs.record import Record

Row = dict[str, Any]
Prepare = Callable[..., str]
Compared = Callable[..., tuple[int, list[str]]]


def pair(number: int, **more: Any) -> Row:
    return {"id": f"n{number}", "prompt": f"Why {number}?", "chosen": "Yes.", "rejected": "No.", **more}


PAIRS = [pair(number) for number in range(8)]


@pytest.fixture
def prepared(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Write the manifest of a run on these rows of ``rows.jsonl``; return the run folder's name."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, rows: Sequence[Row], *overrides: str) -> str:
        Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = ["model=tiny", "dataset=local", "dataset.path=rows.jsonl", "dataset.heldout.fraction=0"]
        cfg = compose([*words, "dataset.bad_rows=drop", *overrides])
        data = prepare(cfg, Tokeniser(load_tokenizer(start, cfg.model), []))
        Record(tmp_path / name).write_manifest(data.manifest)
        return name

    return run


@pytest.fixture
def compared(capsys: pytest.CaptureFixture[str]) -> Compared:
    """Run ``alignzoo manifest ...`` in this process: exit code, and the printed lines with one blank between words."""

    def run(*words: str) -> tuple[int, list[str]]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main(["manifest", *words])
        printed = capsys.readouterr()
        return int(end.value.code or 0), [" ".join(line.split()) for line in (printed.out + printed.err).splitlines()]

    return run


def test_same_rows_and_tokens(prepared: Prepare, compared: Compared) -> None:
    runs = prepared("a", PAIRS), prepared("b", PAIRS, "method=kto", "seed=7")
    assert compared(*runs) == (0, ["same rows, same tokens"])


def test_rows_that_differ_are_named_with_decision_and_reason(prepared: Prepare, compared: Compared) -> None:
    broken = [*PAIRS[:3], pair(3, chosen="No."), *PAIRS[4:]]
    code, lines = compared(prepared("a", PAIRS), prepared("b", broken))
    assert (code, lines[0], lines[-1]) == (1, "source row id a b", "1 rows differ")
    assert lines[1:-1] == ["rows.jsonl 4 n3 train dropped: chosen equals rejected"]


def test_a_row_held_out_by_one_run_only_is_named(prepared: Prepare, compared: Compared) -> None:
    runs = prepared("a", PAIRS), prepared("b", PAIRS, "dataset.heldout.fraction=0.3")
    b = read(Path("b"))
    held = b[b["decision"] == "heldout"]
    assert 0 < len(held) < len(PAIRS)
    code, lines = compared(*runs)
    assert code == 1
    assert lines[1:-1] == [f"rows.jsonl {row} n{row - 1} train heldout" for row in held["row"]]


def test_other_tokens_of_the_same_rows(prepared: Prepare, compared: Compared) -> None:
    """One answer was changed; then all rows were read as conversations."""
    code, lines = compared(prepared("a", PAIRS), prepared("b", [*PAIRS[:7], pair(7, chosen="Maybe.")]))
    assert (code, lines[1:]) == (1, ["rows.jsonl 8 n7 train train (other tokens)", "1 rows differ"])
    code, lines = compared("a", prepared("c", PAIRS, "dataset.chat=true"))
    assert (code, lines[-1]) == (1, "8 rows differ")
    assert all(line.endswith("train train (other tokens)") for line in lines[1:-1])


def test_tokens_of_rows_that_neither_run_used_do_not_count(prepared: Prepare, compared: Compared) -> None:
    long = prepared("a", [*PAIRS, pair(8, chosen="a " * 300)], "train.max_length=100")
    longer = prepared("b", [*PAIRS, pair(8, chosen="a " * 400)], "train.max_length=100")
    assert read(Path("a"))["tokens"].tolist() != read(Path("b"))["tokens"].tolist()
    assert compared(long, longer) == (0, ["same rows, same tokens"])


def test_rows_that_one_run_did_not_read(prepared: Prepare, compared: Compared) -> None:
    few, all_ = prepared("few", PAIRS[:6]), prepared("all", PAIRS)
    code, lines = compared(few, all_)
    assert (code, lines[0], lines[-1]) == (1, "source row id few all", "2 rows differ")
    assert lines[1:-1] == ["rows.jsonl 7 n6 not read train", "rows.jsonl 8 n7 not read train"]
    assert compared(all_, few)[1][1] == "rows.jsonl 7 n6 train not read"


def test_most(prepared: Prepare, compared: Compared) -> None:
    prepared("a", [*PAIRS, *map(pair, range(8, 25))]), prepared("b", [pair(99)])
    code, lines = compared("a", "b", "--most", "2")
    assert (code, len(lines)) == (1, 4)
    assert [line.split()[2] for line in lines[1:3]] == list(differences(read(Path("a")), read(Path("b")))["id"][:2])
    assert lines[3] == "26 rows differ; the first 2 are shown"
    assert compared("a", "b")[1][-1] == "26 rows differ; the first 20 are shown"
    assert compared("a", "b", "--most", "26")[1][-1] == "26 rows differ"
    code, lines = compared("a", "b", "--most=-1")
    assert (code, lines[-1]) == (2, "Error: Invalid value for '--most': -1 is not in the range x>=0.")


def test_names_are_printed_as_they_are(prepared: Prepare, compared: Compared) -> None:
    """Brackets are no markup, and a long name is not cut."""
    names = ["[/bold] [red]", "x" * 90]
    code, lines = compared(prepared("a", PAIRS), prepared("b", PAIRS + [pair(n, id=id) for n, id in enumerate(names)]))
    assert code == 1
    assert names[0] in " ".join(lines)
    assert "".join(lines).count("x") == 90


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("row", ["a"] * 8),
        ("id", range(8)),
        ("tokens", [1.5] * 8),
        ("decision", [["train"]] * 8),
        ("source", [None] * 8),
    ],
)
def test_a_manifest_whose_columns_hold_something_else_is_named(
    prepared: Prepare, compared: Compared, column: str, values: Sequence[Any]
) -> None:
    prepared("a", PAIRS), prepared("b", PAIRS)
    read(Path("b")).assign(**{column: list(values)}).to_parquet(Path("b") / FILE)
    code, lines = compared("a", "b")
    assert (code, lines) == (1, ["alignzoo: b is not a run folder: its data.parquet is not the manifest of a run."])


def test_half_a_manifest_is_named(prepared: Prepare, compared: Compared) -> None:
    prepared("a", PAIRS), prepared("b", PAIRS)
    for size in (0, 3, 100, 2_000):
        content = (Path("a") / FILE).read_bytes()
        (Path("b") / FILE).write_bytes(content[:size] + content[-8:])
        code, (line,) = compared("a", "b")
        assert code == 1
        assert line.startswith("alignzoo: b/data.parquet cannot be read: ")


@pytest.mark.parametrize("kind", ["nothing", "empty", "no parquet", "another table"])
def test_a_folder_that_is_no_run(prepared: Prepare, compared: Compared, kind: str) -> None:
    prepared("a", PAIRS)
    if kind != "nothing":
        Path("b").mkdir()
    if kind == "no parquet":
        (Path("b") / FILE).write_text("text")
    if kind == "another table":
        read(Path("a"))[["row", "id"]].to_parquet(Path("b") / FILE)
    code, lines = compared("a", "b")
    assert code == 1
    assert "b/data.parquet cannot be read" in lines[0] if kind == "no parquet" else "b is not a run folder" in lines[0]
    assert lines[0].startswith("alignzoo: ")
    assert len(lines) == 1
