"""Builds the judge that a configuration names, and asks it about a run's completions."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alignzoo.plugin.judge import Judge
from alignzoo.plugin.registry import registry
from alignzoo.system.errors import UserError, explain_arguments

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)


def build_judge(group: Mapping[str, Any]) -> Judge:
    """Return the judge of the group ``judge``: its ``name``, and the other keys for its constructor.

    Raises:
        UserError: no plugin adds it, or it does not take one of its keys.
    """
    name = str(group["name"])
    judge_class = registry().judge(name)
    try:
        return judge_class(**{key: value for key, value in group.items() if key != "name"})
    except TypeError as error:
        raise UserError(f"judge={name}: {explain_arguments(error, judge_class)}") from None


def load_judge(name: str, overrides: Sequence[str]) -> Judge:
    """Return the judge of ``conf/judge/<name>.yaml``, with overrides such as ``judge.least=5``.

    Raises:
        UserError: as :func:`build_judge`, or the YAML is not there or lacks a value.
    """
    return build_judge(_compose_group(name, overrides))


def _compose_group(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf import OmegaConf

    from alignzoo.config.compose import compose
    from alignzoo.config.plain import to_plain

    registry().judge(name)  # before Hydra, whose answer would name files
    try:
        cfg = compose(overrides, name=f"judge/{name}")
    except MissingConfigException:
        raise UserError(f"judge={name}: its plugin ships no judge/{name}.yaml.") from None
    except HydraException as error:
        keys = ", ".join(key for key in inspect.signature(registry().judge(name)).parameters)
        raise UserError(f"judge={name}: {str(error).splitlines()[0]} It takes: {keys or 'no keys'}.") from None
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UserError(f"{missing[0]} is needed: add --set {missing[0]}=VALUE.")
    group: dict[str, Any] = to_plain(cfg)["judge"]
    return group


def build_configured_judge(cfg: DictConfig) -> Judge | None:
    """Return the judge of the group ``judge``, or None where none is chosen.

    Raises:
        UserError: as :func:`build_judge`.
    """
    from alignzoo.config.plain import to_plain

    return None if cfg.name == "none" else build_judge(to_plain(cfg))


def judge_lines(lines: list[dict[str, Any]], judge: Judge | None) -> list[dict[str, Any]]:
    """Return the lines of ``answers.jsonl`` with a verdict on each greedy completion against the start model's.

    A judge that stops costs no run its result: a warning says so, and what it did not judge has no verdict.
    """
    from alignzoo.evaluate.verdicts import JudgeStopped, judge_pairs

    if judge is None or not lines:
        return lines
    prompts = [line["prompt"] for line in lines]
    after, before = ([line[side]["text"] for line in lines] for side in ("after", "before"))
    verdicts: Sequence[float | None]
    try:
        verdicts = judge_pairs(judge, prompts, after, before)
    except JudgeStopped as error:
        log.warning("%s", error)
        verdicts = error.verdicts
    rows = zip(lines, verdicts, strict=True)
    return [
        {**line, "before": {**line["before"], "win": 0.5}, "after": {**line["after"], "win": win}} for line, win in rows
    ]
