"""Reads and checks the keys of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alignzoo.config.judged import choose_win_rate
from alignzoo.config.metrics import NUMBERS, choose_objective
from alignzoo.config.plain import to_plain
from alignzoo.config.trl_fields import fits
from alignzoo.plugin.method import ModelKind
from alignzoo.plugin.registry import registry
from alignzoo.report.leaderboard.comparisons import Question
from alignzoo.system.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig

START = "start"  #: as a baseline: the start model

TYPES = {
    "name": "str",
    "methods": "list",
    "trials": "int",
    "seeds": "int",
    "number": "str | None",
    "guardrails": "dict",
    "baseline": "str | None",
    "difference": "float | None",
    "equal_within": "float | None",
    "underpowered": "str",
    "rates": "list",
    "widen": "float",
    "assume": "dict",
}
LEAST = {"trials": 1, "seeds": 2, "widen": 1}
POINTS = 5.0  #: the smallest difference that matters, where none is given: 5 points of a share, 0.05 of other numbers
LIMITS = ("least", "most")  #: of a guardrail


@dataclass(frozen=True)
class Settings:
    """What a study is asked, by the keys of the group ``study``."""

    name: str
    methods: Sequence[str]
    trials: int
    seeds: int
    number: str
    guardrails: Mapping[str, Mapping[str, float]]
    baseline: str
    difference: float
    equal_within: float
    underpowered: str
    rates: tuple[float, float]
    widen: float
    assume: Mapping[str, float]

    @property
    def question(self) -> Question:
        """What the boards of its test are asked."""
        return Question(self.number, self.baseline, self.equal_within)

    @property
    def smallest(self) -> float:
        """The smallest difference that matters, in the number's own unit."""
        return Question(self.number, within=self.difference).distance or 0.0


def read_settings(cfg: DictConfig) -> Settings:
    """Return the study that ``cfg``, composed with the group ``study``, asks for.

    Raises:
        UserError: a key is unknown or has a value that cannot be.
    """
    keys: dict[str, Any] = to_plain(cfg.study)
    for key in keys:
        if key not in TYPES:
            raise UserError(f"study.{key}: unknown key.{did_you_mean(key, TYPES)}")
    for key, annotation in TYPES.items():
        if not fits(keys.get(key), annotation):
            raise UserError(f"study.{key}={keys.get(key)} takes {annotation.replace(' | None', ' or null')}.")
        if key in LEAST and keys[key] < LEAST[key]:
            raise UserError(f"study.{key}={keys[key]} must be at least {LEAST[key]}.")
    _check_methods(keys["methods"])
    rewarded = bool(cfg.reward) or cfg.environment.name != "none"
    number = keys["number"] or choose_objective(cfg.evaluate.objective, rewarded, choose_win_rate(cfg.judge.name))
    _check_number(number)
    if keys["difference"] is None:
        keys["difference"] = POINTS if NUMBERS[number].form.endswith("%}") else 0.01 * POINTS
    _check_guardrails(keys["guardrails"])
    baseline = keys["baseline"] or keys["methods"][0]
    if baseline != START and baseline not in keys["methods"]:
        there = ", ".join([*keys["methods"], START])
        raise UserError(f"study.baseline={baseline} is not one of the methods. It can be {there}.")
    if keys["underpowered"] not in ("refuse", "run"):
        raise UserError(f"study.underpowered={keys['underpowered']} must be refuse or run.")
    _check_sizes(keys)
    within = keys["difference"] if keys["equal_within"] is None else keys["equal_within"]
    rates = float(keys["rates"][0]), float(keys["rates"][1])
    return Settings(**{**keys, "number": number, "baseline": baseline, "equal_within": within, "rates": rates})


def _check_methods(methods: Sequence[str]) -> None:
    if not methods:
        raise UserError("a study compares methods: name them, as method=dpo,simpo,kto.")
    if len(set(methods)) < len(methods):
        raise UserError(f"method={','.join(methods)} names a method twice.")
    for name in methods:
        if registry().method(name).trains is ModelKind.REWARD_MODEL:
            raise UserError(f"method={name} trains a reward model: a study compares policies.")


def _check_number(number: str) -> None:
    if number not in NUMBERS:
        raise UserError(f"study.number={number}: no such number.{did_you_mean(number, NUMBERS)}")
    if not NUMBERS[number].better and not number.startswith("margin"):
        raise UserError(f"study.number={number}: which way is better depends, so that it cannot decide.")


def _check_guardrails(guardrails: Mapping[str, Any]) -> None:
    for key, limits in guardrails.items():
        if key not in NUMBERS:
            raise UserError(f"study.guardrails.{key}: no such number.{did_you_mean(key, NUMBERS)}")
        known = isinstance(limits, dict) and all(name in LIMITS and fits(limits[name], "float") for name in limits)
        if not known:
            raise UserError(f"study.guardrails.{key}={limits} takes {{least: NUMBER}}, {{most: NUMBER}} or both.")


def _check_sizes(keys: Mapping[str, Any]) -> None:
    rates, assume = keys["rates"], keys["assume"]
    if len(rates) != 2 or not all(fits(rate, "float") for rate in rates) or not 0 < rates[0] < rates[1]:
        raise UserError(f"study.rates={rates} takes two factors above 0, the lower one first.")
    for key in ("difference", "equal_within"):
        if keys[key] is not None and keys[key] <= 0:
            raise UserError(f"study.{key}={keys[key]} must be above 0.")
    if set(assume) != {"prompts", "seeds"} or not all(fits(one, "float") and one >= 0 for one in assume.values()):
        raise UserError(f"study.assume={assume} takes prompts and seeds, both at least 0.")
