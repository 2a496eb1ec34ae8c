"""``describe``: an option's keys with what the YAML and TRL say of them, on the terminal and in the reference."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from repository import ROOT

from alignzoo import UserError
from alignzoo.cli import run_command
from alignzoo.cli.describe import list_own_methods
from alignzoo.cli.describe.meaning import describe
from alignzoo.cli.describe.page import render_markdown
from alignzoo.cli.describe.trl_docs import read_own_fields, read_parameters
from alignzoo.cli.describe.yaml_comments import read_heading, read_keys
from alignzoo.config.options import config_options
from alignzoo.config.trl_fields import read_config_fields
from alignzoo.plugin.registry import registry

OWN = list_own_methods()


@pytest.mark.parametrize("word", OWN)
def test_a_page_of_the_reference_is_what_describe_says(word: str) -> None:
    page = ROOT / "docs" / "reference" / "methods" / f"{word.partition('=')[2]}.md"
    assert page.read_text(encoding="utf-8") == render_markdown(describe(word)), "run `nox -s reference`"


def test_the_reference_has_no_page_of_another_method() -> None:
    pages = {f"method={page.stem}" for page in (ROOT / "docs" / "reference" / "methods").glob("*.md")}
    assert pages == set(OWN)


@pytest.mark.parametrize("word", OWN)
def test_every_key_of_a_method_is_there_and_explained(word: str) -> None:
    found = describe(word)
    written = yaml.safe_load(found.option.text)
    assert {key.path.split(".")[1] for key in found.keys} == written.keys() - {"name"}
    own = read_own_fields(registry().method(found.option.name).config)
    for key in found.keys:
        name = key.path.removeprefix("method.")
        assert key.trl == (own[name].text if name in own else "")
    assert re.search(r"https://(arxiv\.org|ericmitchell\.ai)/", found.text)
    assert not {f"method.{name}" for name in found.more} & {key.path for key in found.keys}
    assert found.more.keys() <= read_config_fields(registry().method(found.option.name).config).keys()
    teacher = " teacher=smollm2-360m" if registry().method(found.option.name).uses_teacher else ""
    assert found.examples[0] == f"python -m alignzoo {word}{teacher}"


def test_dpo_is_described_by_its_yaml_its_module_and_trl(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["describe", "method=dpo"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "method.beta 0.2 Strength of the pull towards the start model" in out
    assert "TRL: Parameter controlling the deviation from the reference model" in out
    assert "https://arxiv.org/abs/2305.18290" in out
    assert "trl.DPOTrainer, filled from trl.DPOConfig" in out
    assert "+method.ld_alpha None" in out


@pytest.mark.parametrize("group", ["method", "model", "dataset", "reward", "judge", "peft", "train", "experiment"])
def test_every_option_can_be_described(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["describe", *(f"{group}={name}" for name in config_options()[group])]) == 0
    out = capsys.readouterr().out
    assert all(f"{group}={name}" in out for name in config_options()[group])


def test_a_key_that_every_model_has_is_explained_by_the_whole_configuration() -> None:
    (key,) = describe("model=qwen1.5b").keys
    assert (key.path, key.default) == ("model.path", "Qwen/Qwen2.5-1.5B-Instruct")
    assert key.text.startswith("Hub id")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("dpo", "dpo: no option. Did you mean method=dpo?"),
        ("nonsense", "Write group=option"),
        ("metod=dpo", "no such group. Did you mean method or model?"),
        ("method=dqo", "method=dqo: no installed plugin adds it. Did you mean dpo?"),
        ("dataset=hhh", "dataset=hhh: no such option. Did you mean hh?"),
    ],
)
def test_a_mistake_is_answered(word: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        describe(word)
    assert said in str(refused.value)


def test_a_plugins_method_is_described_as_ours_are(fake_package: Callable[..., None]) -> None:
    code = '''"""Theirs.

Somebody, 2030.
"""
from alignzoo import DataFormat, Method, hookimpl
class Theirs(Method):
    "Their method (Somebody, 2030)."
    name, data = "theirs", DataFormat.UNPAIRED
    config, trainer = "trl:KTOConfig", "trl:KTOTrainer"
    pinned = {"loss_type": "kto"}
@hookimpl
def alignzoo_methods(): return [Theirs]
@hookimpl
def alignzoo_config_packages(): return ["fake_theirs.conf"]
'''
    fake_package("fake_theirs", code, {"method/theirs.yaml": "# Theirs.\nname: theirs\n\n# 0 to 1.\nbeta: 0.3\n"})
    found = describe("method=theirs")
    assert (found.option.origin, found.summary) == ("fake_theirs 1.0", "Their method (Somebody, 2030).")
    assert [(key.path, key.default, key.text) for key in found.keys] == [("method.beta", "0.3", "0 to 1.")]
    assert found.facts["fixed"] == "loss_type=kto"
    assert "single completions" in found.facts["data"]


def test_the_comment_above_a_key_is_its_meaning() -> None:
    top = "# A file.\n# Of two lines.\nname: x\n\n"
    text = f"{top}# One.\n# More.\na: [1, 2]  # not this\n\nb:\n  # Below.\n  c: 'd'\n\n  e: 1\n"
    assert read_heading(text) == "A file. Of two lines."
    assert [(key.path, key.value, key.comment) for key in read_keys(text)][1:] == [
        ("a", "[1, 2]", "One. More."),
        ("b", "", ""),
        ("b.c", "'d'", "Below."),
        ("b.e", "1", ""),
    ]


@pytest.mark.parametrize("file", sorted((ROOT / "conf").rglob("*.yaml")), ids=lambda file: file.stem)
def test_the_keys_are_those_that_yaml_reads(file: Path) -> None:
    def paths(tree: object, above: str = "") -> set[str]:
        if not isinstance(tree, dict):
            return set()
        return {above + str(key) for key in tree}.union(
            *(paths(value, f"{above}{key}.") for key, value in tree.items())
        )

    text = file.read_text()
    assert {key.path for key in read_keys(text)} == paths(yaml.safe_load(text))


def test_a_docstring_is_taken_apart() -> None:
    lines = ["A config.", "", "Parameters:", "    > Group", "", "    a (`int`, *optional*):", "        One"]
    lines += ["        [`~x.Y`].", "    b(`str`):", "        Two.", "", "    > [!NOTE]", "    > c:", ""]
    assert read_parameters("\n".join(lines)) == {"a": "One Y.", "b": "Two."}


def test_writing_pages(tmp_path: Path) -> None:
    assert run_command(["describe", "--write", str(tmp_path / "new"), "method=kto"]) == 0
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["kto.md"]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        run_command(["describe", "--write", str(tmp_path / "file"), "method=kto"])


def test_a_file_whose_method_is_missing_is_refused_with_the_plugins_reason(fake_package: Callable[..., None]) -> None:
    code = 'from alignzoo import hookimpl\n@hookimpl\ndef alignzoo_config_packages(): return ["fake_yaml.conf"]\n'
    fake_package("fake_yaml", code, {"method/lost.yaml": "name: lost\n"})
    fake_package("fake_lost", "import nothing_of_that_name")
    with pytest.raises(UserError, match=r"^method=lost: no installed plugin adds it.*\nPlugin fake_lost .*ModuleNotF"):
        describe("method=lost")
