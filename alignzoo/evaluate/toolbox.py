"""Builds the configured tools and environment, as TRL takes them."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig

from alignzoo.config.plain import to_plain
from alignzoo.evaluate.rewards import refuse_missing_columns
from alignzoo.plugin.environment import find_actions
from alignzoo.plugin.registry import registry
from alignzoo.system.errors import UserError, explain_arguments

if TYPE_CHECKING:
    from datasets import Dataset

    from alignzoo.plugin.environment import Environment
    from alignzoo.plugin.tool import Tool

#: Keys of the group ``environment`` that are not the constructor's.
OWN_KEYS = ("name", "weight", "turns", "turn_tokens")


class Toolbox(NamedTuple):
    """What a policy can call in a run, and how often."""

    tools: list[Callable[..., str]]
    """Functions of the group ``tools``."""

    environment: Callable[[], Environment] | None
    """Makes an environment of the group ``environment``."""

    turns: int
    """Turns with calls in a completion, at most."""

    turn_tokens: int | None
    """Tokens of one turn, at most; None: as many as the completion has left."""

    @property
    def schemas(self) -> list[dict[str, Any]]:
        """What a chat template tells the model of each tool and action, as JSON schemas."""
        from transformers.utils import get_json_schema

        return [get_json_schema(function) for function in self.list_functions()]

    def list_functions(self, environment: Environment | None = None) -> list[Callable[..., Any]]:
        """Return the tools and the actions of ``environment``, or of a new one, in TRL's order."""
        found: Any = environment or (self.environment and self.environment())
        return [*self.tools, *(getattr(found, name) for name in (find_actions(type(found)) if found else ()))]


def uses_tools(cfg: DictConfig) -> bool:
    """Tell whether a run has tools or an environment."""
    return bool(cfg.tools) or cfg.environment.name != "none"


def build_toolbox(cfg: DictConfig, rows: Dataset) -> Toolbox | None:
    """Return what the groups ``tools`` and ``environment`` name; None where both are empty.

    Args:
        cfg: the run's configuration.
        rows: prepared rows.

    Raises:
        UserError: the prompts are plain text, a column is missing, or a tool or action does not take a key or cannot be
            told to a model.
    """
    if not uses_tools(cfg):
        return None
    columns: set[str] = set()
    if len(rows):
        columns = set(json.loads(rows[0]["extra"]))
        if json.loads(rows[0]["prompt"])[0]["role"] == "text":
            raise UserError("tools are called in conversations, and the prompts are plain text: set dataset.chat=true.")
    name = str(cfg.environment.name)
    tools = [_name_tool(_make(f"tools.{key}", registry().tool(str(key)), value)) for key, value in cfg.tools.items()]
    if name != "none":
        refuse_missing_columns(f"environment={name}", registry().environment(name).columns, columns)
    factory = make_factory(cfg) if name != "none" else None
    box = Toolbox(tools, factory, cfg.environment.turns, cfg.environment.turn_tokens)
    for function in box.list_functions():
        check_function(function, f"environment={name}: its action" if function not in tools else "tools:")
    return box


def make_factory(cfg: DictConfig) -> Callable[[], Environment]:
    """Return what makes the environment of the group ``environment``, which is not ``none``."""
    options: dict[str, Any] = to_plain(cfg.environment)
    given = {key: value for key, value in options.items() if key not in OWN_KEYS}
    return functools.partial(_make, "environment", registry().environment(options["name"]), given)


def _make(where: str, kind: type[Any], options: Mapping[str, Any] | None) -> Any:
    try:
        return kind(**(to_plain(options) or {}))
    except TypeError as error:
        raise UserError(f"{where}: {explain_arguments(error, kind)}") from None


def _name_tool(tool: Tool) -> Callable[..., str]:
    """Return the tool as a function of its name, which is how TRL and the model call it."""

    @functools.wraps(tool.__call__)
    def function(*args: Any, **kwargs: Any) -> str:
        return tool(*args, **kwargs)

    function.__name__ = tool.name
    return function


def check_function(function: Callable[..., Any], what: str) -> None:
    """Refuse a function of which no schema can be made, as transformers' chat templates need it.

    Raises:
        UserError: with what to write; it begins with ``what``.
    """
    from transformers.utils import get_json_schema
    from transformers.utils.chat_template_utils import DocstringParsingException, TypeHintParsingException

    name = getattr(function, "__name__", "")
    if inspect.iscoroutinefunction(inspect.unwrap(function)):
        raise UserError(f"{what} {name} is asynchronous: write def in place of async def.")
    try:
        get_json_schema(function)
    except (DocstringParsingException, TypeHintParsingException) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{what} {name} cannot be told to a model: {reason}\nWrite a docstring with a line under Args: for each "
            "argument, and a type for each."
        ) from None
