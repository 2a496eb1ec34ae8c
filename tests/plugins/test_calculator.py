"""The calculator: right, bounded, and nothing but sums."""

from __future__ import annotations

import json
import time

import pytest
from alignzoo_plugins.tools import Calculator
from repository import ROOT

from alignzoo import UserError

SUMS = {
    "3 + 4 * 5": "23",
    "(3 + 4) * 12.5": "87.5",
    "-7 // 2": "-4",
    "7 % 4": "3",
    "2 ** 10": "1024",
    "1 / 3": "0.3333333333",
    "10 / 4": "2.5",
    "1,250 * 4": "5000",
    "  +5 ": "5",
    "0.1 + 0.2": "0.3",
}


@pytest.mark.parametrize(("expression", "result"), SUMS.items())
def test_sums(expression: str, result: str) -> None:
    assert Calculator()(expression) == result


@pytest.mark.parametrize(
    ("expression", "reason"),
    {
        "__import__('os').system('true')": "only numbers",
        "open('/etc/passwd')": "only numbers",
        "(1).real": "only numbers",
        "[1, 2]": "only numbers",
        "1,2": "only numbers",
        "a + 1": "only numbers",
        "1 if 1 else 2": "only numbers",
        "True + 1": "only numbers",
        "2j": "only numbers",
        "'a' * 9": "only numbers",
        "1 < 2": "only numbers",
        "1 << 40": "only numbers",
        "3 +": "not a sum",
        "": "not a sum",
        "9 ** 9 ** 9": "too large",
        "9e29 * 99": "at most 30 digits",
        "(0-4) ** 0.5": "at most 30 digits",
        "1e400": "at most 30 digits",
        "1" * 101: "more than 100 characters",
        "1 / 0": "division by zero",
        "0 ** -1": "negative power",
    }.items(),
)
def test_anything_else_is_answered_by_its_reason_at_once(expression: str, reason: str) -> None:
    started = time.perf_counter()
    with pytest.raises((ValueError, ZeroDivisionError, OverflowError), match=reason):
        Calculator()(expression)
    assert time.perf_counter() - started < 30


@pytest.mark.parametrize("depth", [10, 49])
def test_many_brackets(depth: int) -> None:
    assert Calculator()("(" * depth + "1" + ")" * depth) == "1"


def test_its_bounds_can_be_set() -> None:
    assert Calculator(digits=3)("999") == "999"
    with pytest.raises(ValueError, match="at most 3 digits"):
        Calculator(digits=3)("999 + 1")
    with pytest.raises(UserError, match=r"^tools\.calculator\.characters=0 must be at least 1\.$"):
        Calculator(characters=0)


@pytest.mark.parametrize("file", ["train", "heldout"])
def test_it_solves_the_dataset_that_it_is_for(file: str) -> None:
    lines = (ROOT / "alignzoo" / "data" / "sums" / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert all(Calculator()(row["sum"]) == row["answer"] for row in rows)
