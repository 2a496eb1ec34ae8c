"""Judges as plugins: the contract, the registry, and what the YAML makes of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
import yaml
from repository import ROOT

from alignzoo import Judge, UserError
from alignzoo.evaluate.judge import build_judge, load_judge, load_judges
from alignzoo.plugin.registry import Registry, registry

JUDGES = ("pairwise_lm", "person", "reward_model", "rule")

#: A third party's judge: the answer with more of a letter wins.
LETTERS = """
from alignzoo import Judge, hookimpl


class Letters(Judge):
    '''More of one letter.'''

    name = "letters"
    silent = frozenset({"pace"})

    def __init__(self, letter, pace=1):
        self.letter = letter

    def __call__(self, prompts, a, b):
        counts = [(x.count(self.letter), y.count(self.letter)) for x, y in zip(a, b)]
        return [0.5 if x == y else float(x > y) for x, y in counts]


@hookimpl
def alignzoo_judges():
    return [Letters]


@hookimpl
def alignzoo_config_packages():
    return ["fake_letters.conf"]
"""

YAML = {"judge/letters.yaml": "name: letters\nletter: ???\npace: 1\n"}


@pytest.mark.parametrize("name", JUDGES)
def test_a_judge_declares_what_can_be_listed(name: str) -> None:
    judge, plugin = registry().judges[name]
    assert issubclass(judge, Judge)
    assert not inspect.isabstract(judge)
    assert str(judge.__doc__).partition("\n")[0]
    assert plugin.module == "alignzoo_plugins.judges"


def test_every_judge_has_a_yaml_and_the_other_way_round() -> None:
    files = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "conf" / "judge").glob("*.yaml")}
    files.pop("none", None)
    assert files.keys() == Registry().judges.keys() == set(JUDGES)
    for name, content in files.items():
        assert content.pop("name") == name
        parameters = inspect.signature(registry().judge(name)).parameters
        assert list(content) == list(parameters)
        for key, value in content.items():
            default = parameters[key].default
            assert value == ("???" if default is inspect.Parameter.empty else default) or key == "options"


@pytest.mark.parametrize("name", JUDGES)
def test_every_key_of_a_judge_has_a_comment_above_it_and_a_description(name: str) -> None:
    lines = (ROOT / "conf" / "judge" / f"{name}.yaml").read_text().splitlines()
    described = (ROOT / "docs" / "reference" / "judges.md").read_text()
    for number, line in enumerate(lines):
        if line and not line.startswith(("#", " ")):
            assert lines[number - 1].startswith("#"), line
            assert f"`judge.{line.partition(':')[0]}`" in described


def test_a_third_partys_judge_is_found_configured_and_asked(fake_package: Callable[..., None]) -> None:
    fake_package("fake_letters", LETTERS, YAML)
    judge = load_judge("letters", ["judge.letter=e"])
    assert judge(["p"] * 3, ["eel", "a", "e"], ["e", "e", "e"]) == [1.0, 0.0, 0.5]
    assert registry().judges["letters"][1].origin == "fake_letters 1.0"


def test_the_identity_has_every_setting_but_the_silent(fake_package: Callable[..., None]) -> None:
    fake_package("fake_letters", LETTERS, YAML)
    letters = registry().judge("letters")
    assert letters("e").identity() == letters(letter="e", pace=7).identity() == {"judge": "letters", "letter": "e"}  # type: ignore[call-arg]
    assert letters("a").identity() != letters("e").identity()  # type: ignore[call-arg]
    assert registry().judge("rule")().identity() == {"judge": "rule", "least": 8, "distinct": 0.9}


def test_two_judges_do_not_share_their_remarks() -> None:
    one, other = (build_judge({"name": "rule"}) for _ in range(2))
    one.remark("odd")
    one.remark("odd")
    assert (dict(one.remarks), dict(other.remarks)) == ({"odd": 2}, {})


def test_an_unknown_judge() -> None:
    with pytest.raises(UserError, match=r"^judge=ruel: no installed plugin adds it\. Did you mean rule\?$"):
        load_judge("ruel", [])


def test_a_key_that_a_judge_does_not_take() -> None:
    with pytest.raises(UserError, match=r"^judge=rule: .*judge\.lest.* It takes: least, distinct\.$"):
        load_judge("rule", ["judge.lest=3"])
    with pytest.raises(
        UserError, match=r"^judge=rule: got an unexpected keyword argument 'lest'\. Did you mean least\?$"
    ):
        build_judge({"name": "rule", "lest": 3})


def test_a_key_that_is_needed(fake_package: Callable[..., None]) -> None:
    fake_package("fake_letters", LETTERS, YAML)
    with pytest.raises(UserError, match=r"^judge\.letter is needed: add --set judge\.letter=VALUE\.$"):
        load_judge("letters", [])


def test_a_judge_without_yaml(fake_package: Callable[..., None]) -> None:
    fake_package("fake_letters", LETTERS)
    with pytest.raises(UserError, match=r"^judge=letters: its plugin ships no judge/letters\.yaml\.$"):
        load_judge("letters", [])


def test_two_plugins_with_one_judge(fake_package: Callable[..., None]) -> None:
    fake_package("fake_letters", LETTERS, YAML)
    fake_package("fake_more", LETTERS)
    with pytest.raises(UserError, match=r"judge 'letters' is added by fake_letters .* and fake_more .*: neither"):
        registry().judge("letters")


def test_a_second_judges_keys_are_told_as_its_own(fake_package: Callable[..., None]) -> None:
    fake_package("fake_letters", LETTERS, YAML)
    first, second = load_judges(["rule", "letters"], ["judge.least=3", "judge.second.letter=e"])
    assert (first.identity()["least"], second.identity()["letter"]) == (3, "e")
    with pytest.raises(UserError, match=r"^judge\.second\.letter is needed: add --set judge\.second\.letter=VALUE\.$"):
        load_judges(["rule", "letters"], [])
    with pytest.raises(UserError, match=r"^--set judge\.second\.letter=e: there is no second judge: add another"):
        load_judges(["rule"], ["judge.second.letter=e"])
    with pytest.raises(UserError, match=r"^the second judge is the first one again \(rule\)"):
        load_judges(["rule", "rule"], [])
