"""A mapping of any names is one word of the command line, which Hydra, a shell and alignzoo read back."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from alignzoo import UserError
from alignzoo.config.mapping_words import read_mapping, write_mapping

KEY = "dataset.columns"

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


def read_back(written: str) -> Any:
    (word,) = shlex.split(written)
    value = OverridesParser.create().parse_override(word).value()
    return read_mapping(OmegaConf.create({"columns": getattr(value, "text", value)}).columns, KEY)


@given(st.dictionaries(NAMES, st.sampled_from(["prompt", "chosen", None]), min_size=1, max_size=3))
def test_any_names_come_back(mapping: dict[str, str | None]) -> None:
    assert read_back(write_mapping(KEY, mapping)) == mapping


@pytest.mark.parametrize(
    "name", ["a:b", "é", "質問", "a'b", 'a"b', "a\\b", "\\", "${x}", "1", "1e3", "true", "Null", "#", " a ", "a  b", ""]
)
def test_names_that_hydra_reads_otherwise_come_back(name: str) -> None:
    assert read_back(write_mapping(KEY, {name: "prompt"})) == {name: "prompt"}


def test_plain_names_stay_readable() -> None:
    assert (
        write_mapping(KEY, {"my question": "prompt", "x": None}) == "'dataset.columns={my question: prompt, x: null}'"
    )


@pytest.mark.parametrize("text", ["question", "[1]", '{"a": ', "3"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"dataset\.columns=.* must be a mapping"):
        read_mapping(text, KEY)


def test_nothing_is_no_mapping() -> None:
    assert read_mapping(None, KEY) == {}
