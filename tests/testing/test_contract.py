"""Each way of breaking the contract that the kit knows, found and answered with what mends it."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignzoo import DataFormat, Method
from alignzoo.plugin.method import TRAINED
from alignzoo.plugin.registry import registry
from alignzoo.testing import NotConforming, contract, keys

Install = Callable[..., None]

TRL = importlib.metadata.version("trl")

#: A method that keeps the contract.
CODE = '''
"""Fake, https://arxiv.org/abs/2309.06657."""
from alignzoo import DataFormat, Method, hookimpl

class Fake(Method):
    """Hinge loss (Liu et al., 2023)."""
    name = "fake_hinge"
    data = DataFormat.PREFERENCE
    needs_reference = True
    config = "trl:DPOConfig"
    trainer = "trl:DPOTrainer"
    pinned = {"loss_type": ["hinge"]}

@hookimpl
def alignzoo_methods():
    return [Fake]

@hookimpl
def alignzoo_config_packages():
    return ["fake_hinge.conf"]
'''

OPTION = """# What it is.
name: fake_hinge

# Strength.
beta: 0.1

# Peak rates.
learning_rates: {full: 1e-6, small: 1e-6, adapter: 1e-6}

learning_rate: ${method.learning_rates.${peft.rate}}
"""


@pytest.fixture
def fake(fake_package: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., type[Method]]:
    """Install the method with this code and this YAML, and return it."""
    monkeypatch.chdir(tmp_path)  # where a fresh interpreter finds it too

    def install(code: str = CODE, option: str = OPTION) -> type[Method]:
        fake_package("fake_hinge", code, {"method/fake_hinge.yaml": option} if option else {})
        return contract.find_method("fake_hinge")

    return install


def changed(old: str, new: str, text: str = CODE) -> str:
    assert old in text
    return text.replace(old, new)


def refusal(check: Callable[[Any], object], method: Any) -> str:
    """Return what the check says, which is one finding and its fix."""
    with pytest.raises(NotConforming) as refused:
        check(method)
    text = str(refused.value)
    assert text.startswith("fake_hinge: ")
    assert text.splitlines()[-1].startswith("Fix: ")
    return text


def test_a_method_that_keeps_the_contract_passes(fake: Callable[..., type[Method]]) -> None:
    method = fake()
    for check in (contract.check_declarations, contract.check_source, contract.check_imports):
        check(method)
    for check in (keys.check_fields, keys.check_comments, keys.check_defaults):
        check(method)


def test_a_method_that_is_not_found(fake_package: Install) -> None:
    with pytest.raises(
        NotConforming, match=r"^fake_hinge: method=fake_hinge: no installed plugin adds it(.|\n)*\nFix: py"
    ):
        contract.find_method("fake_hinge")
    fake_package("fake_hinge", "import nothing_of_that_name")
    with pytest.raises(NotConforming, match="No module named 'nothing_of_that_name'"):
        contract.find_method("fake_hinge")


DECLARED = {
    "no data": (
        "    data = DataFormat.PREFERENCE\n",
        "",
        "whose data is not one of DataFormat.PREFERENCE, DataFormat.UNPAIRED, ",
    ),
    "data as text": ("DataFormat.PREFERENCE", "'preference'", "whose data is not one of DataFormat.PREFERENCE"),
    "data of datasets only": ("DataFormat.PREFERENCE", "DataFormat.SCORED", "whose data is not one of DataFormat."),
    "data of another trainer": (
        "DataFormat.PREFERENCE",
        "DataFormat.SUPERVISED",
        "its data is DataFormat.SUPERVISED, and DPOTrainer reads DataFormat.PREFERENCE.\n",
    ),
    "a config that is not there": (
        "trl:DPOConfig",
        "trl:DPOKonfig",
        f"its config trl:DPOKonfig is not in TRL {TRL}. Did you mean DPOConfig or ",
    ),
    "a trainer that is elsewhere": (
        "trl:DPOTrainer",
        "trl:CPOTrainer",
        f"its trainer trl:CPOTrainer is not in TRL {TRL}. Did you mean trl.experimental.cpo:CPOTrainer?",
    ),
    "a module that is not there": (
        "trl:DPOTrainer",
        "trl.trainers.dpo:DPOTrainer",
        f"not in TRL {TRL}: it has no module trl.trainers.dpo. Did you mean trl:DPOTrainer?",
    ),
    "a package that is not there": (
        "trl:DPOTrainer",
        "trlx_nowhere:DPOTrainer",
        "its trainer trlx_nowhere:DPOTrainer cannot be found: the package trlx_nowhere is not installed.",
    ),
    "a pinned field that is not there": (
        '"loss_type": ["hinge"]',
        '"los_type": 1',
        "its pinned field 'los_type' is not in DPOConfig. Did you mean loss_type",
    ),
    "no trainer": ('    trainer = "trl:DPOTrainer"\n', "", 'whose trainer is not written as "module:Class"'),
    "config without a module": ('"trl:DPOConfig"', '"DPOConfig"', 'whose config is not written as "module:Class"'),
    "a config that is a class": ('"trl:DPOConfig"', "dict", 'whose config is not written as "module:Class"'),
    "a reference that is no bool": (
        "needs_reference = True",
        "needs_reference = 'yes'",
        "whose needs_reference is not a bool",
    ),
    "rewards that are no bool": ("needs_reference = True", "uses_rewards = 1", "whose uses_rewards is not a bool"),
    "pinned that is no dict": ('{"loss_type": ["hinge"]}', '["loss_type"]', "whose pinned is not a Mapping"),
    "not a Method": ("class Fake(Method)", "class Fake", "not a subclass of alignzoo.Method"),
}


@pytest.mark.parametrize(("old", "new", "said"), DECLARED.values(), ids=DECLARED)
def test_a_declaration_of_another_kind_is_refused(
    fake: Callable[..., type[Method]], old: str, new: str, said: str
) -> None:
    """What the registry leaves out is refused with its reason; the kit looks at the rest."""
    told = refusal(lambda code: contract.check_declarations(fake(code)), changed(old, new))
    assert said in told
    assert "pyproject.toml" not in told, "the entry point is right"


def test_a_first_line_without_a_paper_is_refused(fake: Callable[..., type[Method]]) -> None:
    said = refusal(contract.check_source, fake(changed(" (Liu et al., 2023)", "")))
    assert "cites no paper: 'Hinge loss.'" in said


def test_a_docstring_without_an_address_is_refused(fake: Callable[..., type[Method]]) -> None:
    said = refusal(contract.check_source, fake(changed("https://arxiv.org/abs/2309.06657", "a paper")))
    assert "no docstring has the address of the paper" in said
    assert "into the docstring of fake_hinge." in said


@pytest.mark.parametrize("place", ["from alignzoo import", "def alignzoo_methods():\n"])
def test_a_heavy_import_is_named_with_the_step_that_does_it(fake: Callable[..., type[Method]], place: str) -> None:
    inside = place.startswith("def")
    new = f"{place}    import datasets\n" if inside else f"import datasets\n{place}"
    method = fake(changed(place, new))
    said = refusal(contract.check_imports, method)
    assert "`list` imports datasets" in said if inside else "`import fake_hinge` imports datasets" in said
    assert "if TYPE_CHECKING" in said


KEYS = {
    "a key": (OPTION, "beta:", "betta:", "yaml: trl:DPOConfig has no field 'betta'", "Did you mean beta"),
    "no rate": (OPTION, "learning_rate: $", "beta_2: $", "sets no learning_rate", "TRL's own rate"),
    "another name": (OPTION, "name: fake_hinge", "name: fake", "does not say `name: fake_hinge`", "begin it"),
    "no mapping": (OPTION, OPTION, "- fake_hinge", "does not say `name: fake_hinge`", "begin it"),
    "broken YAML": (OPTION, "name:", "name: [", "method/fake_hinge.yaml: ParserError", "fix the YAML"),
}


@pytest.mark.parametrize(("text", "old", "new", "said", "fix"), KEYS.values(), ids=KEYS)
def test_keys_that_no_config_has_are_refused(
    fake: Callable[..., type[Method]], text: str, old: str, new: str, said: str, fix: str
) -> None:
    code, option = (changed(old, new, text) if text is given else given for given in (CODE, OPTION))
    told = refusal(keys.check_fields, fake(code, option))
    assert said in told
    assert fix in told.splitlines()[-1]


def test_a_key_of_the_methods_own_is_one_of_its_options(fake: Callable[..., type[Method]]) -> None:
    keys.check_fields(
        fake(
            changed("    pinned", '    options = frozenset({"betta"})\n    pinned'), changed("beta:", "betta:", OPTION)
        )
    )


def test_a_yaml_that_is_not_there_is_refused(fake: Callable[..., type[Method]]) -> None:
    said = refusal(keys.check_comments, fake(option=""))
    assert "method/fake_hinge.yaml is in no config package (alignzoo_conf, fake_hinge.conf)" in said
    assert "package-data" in said


def test_a_config_package_that_is_not_there_is_refused(fake: Callable[..., type[Method]]) -> None:
    said = refusal(keys.check_comments, fake(changed("fake_hinge.conf", "fake_hinge.config")))
    assert "config package fake_hinge.config: ModuleNotFoundError" in said


@pytest.mark.parametrize("key", ["name", "beta", "learning_rates"])
def test_a_key_without_a_comment_is_named(fake: Callable[..., type[Method]], key: str) -> None:
    lines = OPTION.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith(f"{key}:"))
    option = "\n".join(lines[: place - 1] + lines[place:])
    assert f"no comment stands above '{key}'" in refusal(keys.check_comments, fake(option=option))


def test_a_rate_that_is_not_derived_needs_a_comment(fake: Callable[..., type[Method]]) -> None:
    option = OPTION.replace("${method.learning_rates.${peft.rate}}", "1e-6")
    assert "above 'learning_rate'" in refusal(keys.check_comments, fake(option=option))


def test_defaults_that_the_method_refuses_itself_are_refused(fake: Callable[..., type[Method]]) -> None:
    assert "method.beta=big is text; DPOConfig takes float" in refusal(
        keys.check_defaults, fake(option=OPTION.replace("0.1", "big"))
    )


def test_the_formats_are_those_that_a_plan_can_be_made_for() -> None:
    from alignzoo.plan.budget import SEQUENCES

    assert set(TRAINED) == set(SEQUENCES) == set(DataFormat) - {DataFormat.SCORED}


def test_nothing_of_the_kit_is_imported_by_alignzoo() -> None:
    assert "fake_hinge" not in registry().methods
    assert "alignzoo.testing" in sys.modules
