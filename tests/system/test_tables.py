"""Tables for spreadsheets: no text in them is a formula, and numbers stay numbers."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest

from alignzoo.system.tables import to_unicode, write_csv


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\r=x", "\n=x", "-"])
def test_a_text_that_begins_like_a_formula_gets_an_apostrophe(tmp_path: Path, text: str) -> None:
    write_csv(pd.DataFrame({text: [text, "a=b", None], "n": [1.0, 2.0, 3.0]}), tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    safe = f"'{text}".replace("\r", "\n")
    assert rows == [[safe, "n"], [safe, "1.0"], ["a=b", "2.0"], ["", "3.0"]]


def test_no_text_begins_a_row_within_itself(tmp_path: Path) -> None:
    write_csv(pd.DataFrame({"text": ["a\r=1+1", "b\r\n=1+1"]}), tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as stream:
        assert list(csv.reader(stream)) == [["text"], ["a\n=1+1"], ["b\n=1+1"]]


def test_numbers_below_zero_stay_numbers(tmp_path: Path) -> None:
    table = pd.DataFrame({"f": [-0.5, 1.5], "i": pd.array([-3, None], "Int64"), "b": pd.array([True, None], "boolean")})
    write_csv(table.assign(mixed=pd.Series([-1, "-1"], dtype=object)), tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text() == "f,i,b,mixed\n-0.5,-3,True,-1\n1.5,,,'-1\n"


def test_a_name_that_is_not_unicode_is_spelt_out() -> None:
    assert (to_unicode("2-kto-\udcff"), to_unicode("β"), to_unicode(3)) == (r"2-kto-\udcff", "β", 3)
