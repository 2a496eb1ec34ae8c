"""The embedded datasets: made anew they are the same, no prompt stands in two files, the rule holds in each pair."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT

from alignzoo.data.asked_form import count_parts
from alignzoo.data.complete_answer import STOP_WORDS, find_words, is_complete
from alignzoo.data.near_equal import cluster_texts

EMBEDDED = ROOT / "alignzoo" / "data"
FILES = {
    **dict.fromkeys(("concise", "counted"), ("train", "validation", "heldout")),
    **dict.fromkeys(("sums", "treasure"), ("train", "heldout")),
}


def read(name: str, file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (EMBEDDED / name / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()]


def texts(row: dict[str, Any]) -> list[str]:
    return [row[side][0]["content"] for side in ("prompt", "chosen", "rejected")]


@pytest.mark.parametrize(
    ("name", "words"), [("concise", ["--model", "none"]), *((name, []) for name in ("counted", "sums", "treasure"))]
)
def test_the_files_are_what_their_script_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: list[str]
) -> None:
    if name == "concise":
        shutil.copy(EMBEDDED / name / "candidates.jsonl", tmp_path)
    monkeypatch.setattr("sys.argv", ["make.py", *words, "--out", str(tmp_path)])
    runpy.run_path(str(EMBEDDED / name / "make.py"), run_name="__main__")
    for file in FILES[name]:
        made = (tmp_path / f"{file}.jsonl").read_text(encoding="utf-8")
        assert made == (EMBEDDED / name / f"{file}.jsonl").read_text(encoding="utf-8")


def subject(prompt: str) -> frozenset[str]:
    """Return the words that say what a prompt is about, without its request and without their endings."""
    question = re.split(r" Write ", prompt)[0]
    return frozenset(re.sub(r"(?<=..)(?:es|s)$", "", word) for word in find_words(question) if word not in STOP_WORDS)


@pytest.mark.parametrize("name", ["sums", "treasure"])
def test_no_problem_and_no_island_stands_in_two_files(name: str) -> None:
    prompts = [row["prompt"] for file in FILES[name] for row in read(name, file)]
    assert len(set(prompts)) == len(prompts)
    games = [(row["start"], row["treasure"]) for file in FILES["treasure"] for row in read("treasure", file)]
    assert len(set(games)) == len(games) == 172


@pytest.mark.parametrize("name", ["concise", "counted"])
def test_no_prompt_of_one_file_is_nearly_one_of_another(name: str) -> None:
    files = [{subject(texts(row)[0]) for row in read(name, file)} for file in FILES[name]]
    for some, others in itertools.combinations(files, 2):
        near = [(one, other) for one in some for other in others if len(one & other) / len(one | other) > 0.5]
        assert not near


@pytest.mark.parametrize("name", ["concise", "counted"])
def test_no_row_is_left_out_as_nearly_one_of_another_file(name: str) -> None:
    """Rows of a side that are near-equal to another side's would not be read."""
    prompts = [(file, texts(row)[0]) for file in FILES[name] for row in read(name, file)]
    numbers = cluster_texts([prompt for _, prompt in prompts])
    sides: dict[int, set[str]] = {}
    for number, (file, _) in zip(numbers, prompts, strict=True):
        sides.setdefault(number, set()).add(file)
    assert all(len(files) == 1 for files in sides.values())


def test_concise_has_the_held_out_rows_that_a_study_needs_and_keeps_its_first_ones() -> None:
    """Numbers that were measured on the first rows can be measured again: rows are added behind them."""
    lines = (EMBEDDED / "concise" / "heldout.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) >= 600
    assert hashlib.sha256(b"".join(lines[:238])).hexdigest() == (
        "23735ce4e96ffc97147e178ebf890d9c77af55d1b2611a9e5382b4b4c13023eb"
    )


@pytest.mark.parametrize("file", FILES["concise"])
def test_concise_prefers_a_complete_answer_in_fewer_words(file: str) -> None:
    for prompt, chosen, rejected in map(texts, read("concise", file)):
        assert is_complete(prompt, chosen, True)
        assert not is_complete(prompt, rejected, True) or len(find_words(rejected)) >= 1.6 * len(find_words(chosen))


@pytest.mark.parametrize("file", FILES["counted"])
def test_counted_prefers_the_asked_number_and_not_a_length(file: str) -> None:
    rows = read("counted", file)
    for row in rows:
        prompt, chosen, rejected = texts(row)
        assert count_parts(prompt, chosen, True, row["form"]) == row["count"]
        assert count_parts(prompt, rejected, True, row["form"]) != row["count"]
    lengths = [[len(text.split()) for text in texts(row)[1:]] for row in rows]
    assert 0.3 < sum(chosen > rejected for chosen, rejected in lengths) / len(rows) < 0.7


@pytest.mark.parametrize(
    ("answer", "form", "parts"),
    [
        ("Rain is water. It falls from clouds.", "sentences", 2),
        ("Rain is water. It falls from clouds", "sentences", 0),
        ("Rain is water.\nIt falls from clouds.", "sentences", 0),
        ("Rain is about 3.5 mm of water a day.", "sentences", 1),
        ("1. Rain is water that falls.", "sentences", 0),
        ("1. Rain is water.\n2. It falls from clouds.", "points", 2),
        ("1. Rain is water.\n3. It falls from clouds.", "points", 0),
        ("Here they are:\n1. Rain is water.", "points", 0),
        ("Rain is water.", "points", 0),
        ("1. Rain is water.\n2. Rain is water!", "points", 0),
        ("1. Rain is water.\n2. Yes.", "points", 0),
        ("Snow is cold.", "sentences", 0),
        ("What is rain? Write two sentences.", "sentences", 0),
        ("", "sentences", 0),
        ("", "points", 0),
    ],
)
def test_parts_are_counted_where_the_answer_has_the_form(answer: str, form: str, parts: int) -> None:
    assert count_parts("What is rain? Write two sentences.", answer, True, form) == parts
    assert count_parts("What is rain? Write two sentences.", answer, False, form) == 0
