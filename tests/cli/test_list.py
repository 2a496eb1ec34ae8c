"""``list``: methods by family, options of each group with their distribution, and what a file can train."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from alignzoo import UserError
from alignzoo.cli import find_command, run_command
from alignzoo.plugin.family import FAMILIES, find_family
from alignzoo.plugin.loading import OWN
from alignzoo.plugin.registry import registry

METHOD = '''
from alignzoo import DataFormat, Method, hookimpl
class Theirs(Method):
    """Their method (Somebody and Other, 2030a): nothing new."""
    name, data = "theirs", DataFormat.{data}
    config, trainer = "trl:DPOConfig", "trl:DPOTrainer"
    {declared}
@hookimpl
def alignzoo_methods(): return [Theirs]
'''


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return what ``list`` and further words print in a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words: str) -> list[str]:
        assert run_command(["list", *words]) == 0
        return capsys.readouterr().out.splitlines()

    return run


def test_all_methods_stand_in_one_screen_by_family(shown: Callable[..., list[str]]) -> None:
    lines = shown()
    assert max(map(len, lines)) <= 80
    headings = [line.split()[0] for line in lines if line.split()[0] in FAMILIES and line[0] != " "]
    assert headings == [family for family in FAMILIES if family in headings]
    words = {word.rstrip("*") for line in lines for word in line.split()}
    own = [name for name, (_, plugin) in registry().methods.items() if plugin.distribution == OWN]
    assert set(own) <= words
    assert len(lines) <= 12 + len(headings) + len(own) / 2
    assert any("dpo " in line and "Rafailov 2023" in line for line in lines)


def test_own_methods_are_of_the_family_of_their_folder() -> None:
    for method, plugin in registry().methods.values():
        if plugin.distribution == OWN:
            assert find_family(method) == plugin.name, method.name


@pytest.mark.parametrize(
    ("data", "declared", "family"),
    [
        ("PREFERENCE", "", "preference"),
        ("UNPAIRED", "", "unpaired"),
        ("PROMPTS", "", "online"),
        ("SUPERVISED", "uses_rewards = True", "online"),
        ("PROMPTS", 'family = "distillation"', "distillation"),
        ("SUPERVISED", 'family = "mine"', "mine"),
    ],
)
def test_a_plugins_method_has_a_family(
    fake_package: Callable[..., None], shown: Callable[..., list[str]], data: str, declared: str, family: str
) -> None:
    fake_package("fake_theirs", METHOD.format(data=data, declared=declared))
    lines, shown_as = shown(), r"\btheirs\* +Somebody 2030 \[fake_theirs 1\.0\]"
    (place,) = (number for number, line in enumerate(lines) if re.search(shown_as, line))
    assert [line for line in lines[: place + 1] if line[0] != " "][-1].startswith(f"{family}  ")
    assert any(line.startswith("* gives no equation") for line in lines)
    assert "plugins of others: fake_theirs 1.0" in lines


def test_a_family_that_is_no_word_leaves_the_method_out(fake_package: Callable[..., None]) -> None:
    fake_package("fake_theirs", METHOD.format(data="PROMPTS", declared='family = "My family"'))
    assert "theirs" not in registry().methods
    assert "whose family 'My family' will not do: take 'my_family'" in str(registry().plugins["fake_theirs"].problem)


def test_options_and_distributions_are_listed_with_versions(
    fake_package: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    code = 'from alignzoo import hookimpl\n@hookimpl\ndef alignzoo_config_packages(): return ["fake_data.conf"]\n'
    fake_package("fake_data", code, {"dataset/theirs.yaml": "# Theirs.\nname: theirs\n", "odd/one.yaml": "a: 1\n"})
    assert run_command(["list", "method", "dataset", "odd", "plugins"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    own = ["alignzoo", importlib.metadata.version("alignzoo")]
    (dpo,) = [row for row in rows if row[:2] == ["dpo", "preference"]]
    (dataset,) = [row for row in rows if row[:1] == ["capybara"]]
    assert dpo[-2:] == dataset[-2:] == own
    assert ["theirs", "Theirs.", "fake_data", "1.0"] in rows
    assert ["one", "fake_data", "1.0"] in rows
    assert ["fake_data", "1.0", "fake_data"] in rows


def test_an_unknown_group_is_answered() -> None:
    with pytest.raises(UserError, match=r"^list metod: no such group\. Did you mean method or model\?"):
        run_command(["list", "metod"])


def test_a_group_and_data_do_not_go_together(tmp_path: Path) -> None:
    context = find_command("list").make_context("list", ["method", "--data", str(tmp_path)])
    with context, pytest.raises(click.UsageError, match="not both: method is a group"):
        find_command("list").invoke(context)


#: What a file holds -> families that it can train, and a part of the reason why the others cannot.
HOLDS = {
    "good answers": ({"completion": "fine"}, {"supervised", "online"}, "it has good answers only"),
    "prompts": ({}, {"online"}, "it has prompts only"),
    "pairs": ({"chosen": "fine", "rejected": "no"}, {*FAMILIES} - {"distillation"}, None),
}


@pytest.mark.parametrize(("row", "families", "reason"), HOLDS.values(), ids=HOLDS)
def test_what_a_file_can_train_is_listed_with_reasons(
    shown: Callable[..., list[str]], tmp_path: Path, row: dict[str, str], families: set[str], reason: str | None
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"number {n}", **row}) + "\n" for n in range(12)))
    said = " ".join(" ".join(shown("--data", str(file))).split())
    can, _, cannot = said.partition("cannot train ")
    own = [method for method, plugin in registry().methods.values() if plugin.distribution == OWN]
    for method in own:
        if find_family(method) in families - {"distillation"} and not method.further_columns.__qualname__.startswith(
            method.__name__
        ):
            assert f" {method.name}" in can, method.name
        elif find_family(method) not in families | {"distillation"}:
            assert f"{method.name}" in cannot
    assert (reason or "") in cannot
    assert bool(cannot) is bool(reason) or "the method trains on a" in cannot


def test_rows_that_a_method_refuses_are_named(shown: Callable[..., list[str]], tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"number {n}", "chosen": "fine", "rejected": "no", "margin": n % 2} for n in range(12)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = " ".join(" ".join(shown("--data", str(file))).split())
    assert "cannot train odpo: odpo takes the logarithm of a pair's margin:" in said
