"""Builds the judges that a configuration names, one or two, and asks them about a run's completions."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
        return judge_class(**{key: value for key, value in group.items() if key not in ("name", "second")})
    except TypeError as error:
        raise UserError(f"judge={name}: {explain_arguments(error, judge_class)}") from None


def load_judges(names: Sequence[str], overrides: Sequence[str]) -> list[Judge]:
    """Return the judges of ``conf/judge/<name>.yaml``, one or two, the first one's keys set by ``judge.least=5``.

    Those of the second are ``judge.second.least=5``.

    Raises:
        UserError: as :func:`build_judge`, or the YAML is not there or lacks a value, or both are the same.
    """
    seconds = [word for word in overrides if word.lstrip("+~").startswith("judge.second.")]
    judges = [load_judge(names[0], [word for word in overrides if word not in seconds])] if names else []
    if len(names) > 1:
        with _naming_second("judge="):
            judges.append(load_judge(names[1], [word.replace("judge.second.", "judge.", 1) for word in seconds]))
    elif seconds:
        raise UserError(f"--set {seconds[0]}: there is no second judge: add another --judge NAME.")
    return _check_different(judges)


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


def build_configured_judges(cfg: DictConfig) -> list[Judge]:
    """Return the judges of the group ``judge``: none, one, or with ``judge.second`` two.

    Raises:
        UserError: as :func:`build_judge`, or both are the same.
    """
    from alignzoo.config.plain import to_plain

    if cfg.name == "none":
        return []
    group, second = to_plain(cfg), to_plain(cfg.get("second")) or {"name": "none"}
    judges = [build_judge(group)]
    if second["name"] != "none":
        with _naming_second("judge@judge.second="):
            judges.append(build_judge(second))
    return _check_different(judges)


@contextmanager
def _naming_second(chosen_by: str) -> Iterator[None]:
    """Let an error of a judge's name the keys of the second one."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace("judge.", "judge.second.").replace("judge=", chosen_by)) from error


def _check_different(judges: list[Judge]) -> list[Judge]:
    if len(judges) == 2 and judges[0].identity() == judges[1].identity():
        raise UserError(f"the second judge is the first one again ({judges[0].name}): choose one of another family.")
    return judges


def name_judges(judges: Sequence[Judge]) -> list[str]:
    """Return what the judges are called: their names, with a number where both have the same."""
    names = [judge.name for judge in judges]
    return names if len(set(names)) == len(names) else [f"{name} {place}" for place, name in enumerate(names, 1)]


#: The verdicts' keys in a line of ``answers.jsonl``, in the order of the judges.
KEYS = ("win", "win_second")


def judge_lines(lines: list[dict[str, Any]], judges: Sequence[Judge]) -> list[dict[str, Any]]:
    """Return the lines of ``answers.jsonl`` with each judge's verdict on each greedy completion against the start's.

    A judge that stops costs no run its result: a warning says so, and what it did not judge has no verdict.
    """
    if not lines or "text" not in lines[0]["after"]:  # a task's items have none
        return lines
    for key, name, judge in zip(KEYS, name_judges(judges), judges, strict=False):
        lines = _judge_lines(lines, key, name, judge)
    return lines


def _judge_lines(lines: list[dict[str, Any]], key: str, name: str, judge: Judge) -> list[dict[str, Any]]:
    from alignzoo.evaluate.verdicts import JudgeStopped, judge_pairs

    prompts = [line["prompt"] for line in lines]
    after, before = ([line[side]["text"] for line in lines] for side in ("after", "before"))
    verdicts: Sequence[float | None]
    try:
        verdicts = judge_pairs(judge, prompts, after, before)
    except JudgeStopped as error:
        log.warning("judge %s: %s", name, error)
        verdicts = error.verdicts
    rows = zip(lines, verdicts, strict=True)
    return [
        {**line, "before": {**line["before"], key: 0.5}, "after": {**line["after"], key: win}} for line, win in rows
    ]
