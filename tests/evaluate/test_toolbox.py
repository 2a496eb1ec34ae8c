"""Tools and environments of third parties, as TRL takes them, and what is said of those that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from datasets import Dataset

from alignzoo import UserError
from alignzoo.config.check import check
from alignzoo.evaluate.toolbox import build_toolbox, uses_tools
from alignzoo.plugin.registry import Registry, registry

#: A tool and an environment of a third party.
CODE = '''
from alignzoo import Environment, Tool, hookimpl

class Shout(Tool):
    """Shouts."""
    name = "shout"
    def __init__(self, mark="!"):
        self.mark = mark
    def __call__(self, text: str, times: int = 1) -> str:
        """
        Shout a text.

        Args:
            text: What to shout.
            times: How often.
        """
        return text.upper() + self.mark * times

class Lamp(Environment):
    """A lamp."""
    name = "lamp"
    columns = frozenset({"wanted"})
    def __init__(self, bright=1.0):
        self.bright = bright
    def reset(self, wanted, **columns):
        self.wanted, self.on = wanted, False
    def switch(self) -> str:
        """Switch it."""
        self.on = not self.on
        return "on" if self.on else "off"
    def _hidden(self):
        return None
    @property
    def reward(self):
        return self.bright * (self.on == self.wanted)
    @property
    def success(self):
        return self.on == self.wanted
{more}

@hookimpl
def alignzoo_tools():
    return [Shout]

@hookimpl
def alignzoo_environments():
    return [Lamp]

@hookimpl
def alignzoo_config_packages():
    return ["fake_lamp.conf"]
'''

OPTIONS = {
    "tools/shout.yaml": "shout:\n  mark: '?'\n",
    "environment/lamp.yaml": "name: lamp\nbright: 2.0\n",
}

Install = Callable[..., None]


@pytest.fixture
def lamp(fake_package: Install) -> None:
    fake_package("fake_lamp", CODE.replace("{more}", ""), OPTIONS)


def rows(prompt: Any = None, **extra: Any) -> Dataset:
    messages = [{"role": "user", "content": "?"}] if prompt is None else prompt
    return Dataset.from_list([{"prompt": json.dumps(messages), "extra": json.dumps({"wanted": True, **extra})}])


@pytest.mark.usefixtures("lamp")
def test_a_third_partys_tool_and_environment_are_handed_over_with_their_options(compose_config: Any) -> None:
    cfg = compose_config("method=grpo", "tools=[shout,calculator]", "environment=lamp", "tools.shout.mark=.")
    check(cfg)
    box = build_toolbox(cfg, rows())
    assert box is not None
    assert box.environment is not None
    shout, calculator, switch = box.list_functions()
    assert [function.__name__ for function in (shout, calculator, switch)] == ["shout", "calculator", "switch"]
    assert shout("hear", times=2) == "HEAR.."
    assert calculator("6 * 7") == "42"
    assert [schema["function"]["name"] for schema in box.schemas] == ["shout", "calculator", "switch"]
    told = box.schemas[0]["function"]
    assert told["description"] == "Shout a text."
    assert told["parameters"]["required"] == ["text"]
    assert told["parameters"]["properties"]["times"] == {"type": "integer", "description": "How often."}
    one, other = box.environment(), box.environment()
    for made in (one, other):
        made.reset(wanted=True)
    assert one.switch() == "on"  # type: ignore[attr-defined]
    assert (one.reward, other.reward) == (2.0, 0.0), "each completion has its own"
    assert (box.turns, box.turn_tokens) == (8, None), "what an option of a plugin leaves out"


def test_without_either_there_is_none(compose_config: Any) -> None:
    cfg = compose_config("method=grpo")
    assert not uses_tools(cfg)
    assert build_toolbox(cfg, rows()) is None


@pytest.mark.usefixtures("lamp")
@pytest.mark.parametrize(
    ("words", "given", "reason"),
    [
        (["environment=lamp"], rows([{"role": "text", "content": "?"}]), r"plain text: set dataset\.chat=true"),
        (["environment=lamp", "+environment.bulbs=3"], rows(), r"^environment: .*bulbs"),
        (["tools=shout", "+tools.shout.volume=3"], rows(), r"^tools\.shout: .*volume"),
    ],
)
def test_a_mistake_is_named(compose_config: Any, words: list[str], given: Dataset, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        build_toolbox(compose_config("method=grpo", *words), given)


@pytest.mark.usefixtures("lamp")
def test_a_column_that_is_missing_is_named(compose_config: Any) -> None:
    given = Dataset.from_list([{"prompt": json.dumps([{"role": "user", "content": "?"}]), "extra": '{"a": 1}'}])
    with pytest.raises(UserError, match=r"^environment=lamp reads the column wanted, which the dataset lacks .*: a\)"):
        build_toolbox(compose_config("method=grpo", "environment=lamp"), given)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (
            "    def dim(self, level) -> str:\n        '''Dim it.'''\n        return ''\n",
            "its action dim cannot be told",
        ),
        ("    def dim(self) -> str:\n        return ''\n", "its action dim cannot be told"),
        (
            "    async def dim(self) -> str:\n        '''Dim it.'''\n        return ''\n",
            "its action dim is asynchronous: write def",
        ),
    ],
)
def test_an_action_that_no_model_can_be_told_of_is_refused(
    fake_package: Install, compose_config: Any, more: str, reason: str
) -> None:
    fake_package("fake_lamp", CODE.replace("{more}", more), OPTIONS)
    with pytest.raises(UserError, match=rf"^environment=lamp: {reason}"):
        build_toolbox(compose_config("method=grpo", "environment=lamp"), rows())


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (
            "    def switch(self)",
            "    def _switch(self)",
            "Lamp, which has no action: each public method but reset is one",
        ),
        ("    def _hidden(self)", "    def get_reward(self)", "get_reward: alignzoo reads the property reward"),
        ("    def success(self)", "    def successes(self)", "lacks success"),
        ("return [Shout]", "return [Lamp]", "is not a subclass of alignzoo.Tool"),
        ("    def __call__(self, text", "    def call(self, text", "lacks __call__"),
        ('name = "shout"', 'name = "Shout it"', "whose name 'Shout it' will not do"),
    ],
)
def test_a_plugin_that_adds_something_else_is_left_out(fake_package: Install, old: str, new: str, reason: str) -> None:
    fake_package("fake_lamp", CODE.replace("{more}", "").replace(old, new), OPTIONS)
    found = Registry()
    assert "lamp" not in found.environments or "shout" not in found.tools
    assert reason in str(found.plugins["fake_lamp"].problem)


def test_a_name_that_nobody_adds_is_one_line() -> None:
    with pytest.raises(
        UserError, match=r"^environment=tresure: no installed plugin adds it\. Did you mean treasure\?$"
    ):
        registry().environment("tresure")
    with pytest.raises(UserError, match=r"^tools=calculater: no installed plugin adds it\. Did you mean calculator\?$"):
        registry().tool("calculater")


def test_an_option_that_is_missing_is_remarked(fake_package: Install) -> None:
    from alignzoo.config.declared import remark_faults

    fake_package("fake_lamp", CODE.replace("{more}", ""), {"tools/shout.yaml": "shout: {}\n"})
    found = registry()
    remark_faults(found, ours=False)
    (remark,) = found.remarks["fake_lamp"]
    assert remark.startswith("environment=lamp cannot be chosen: no config package has environment/lamp.yaml.")
