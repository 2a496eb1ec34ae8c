"""Checks the keys of the group ``generate``: answers that are sampled from a model, and made into training rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alignzoo.config.plain import to_plain
from alignzoo.config.trl_fields import fits
from alignzoo.system.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig

TYPES = {
    "name": "str",
    "samples": "int",
    "temperature": "float",
    "max_new_tokens": "int | None",
    "scored_by": "str",
    "keep": "str",
    "margin": "float",
    "least": "float | None",
    "allow_cut_off": "bool",
}
LEAST = {"samples": 1, "max_new_tokens": 1, "margin": 0}
CHOICES = {"scored_by": ("auto", "reward", "judge"), "keep": ("best_worst", "all_pairs", "best", "all_good")}

#: Values of ``generate.keep`` that make pairs; the others make single good answers.
PAIRED = ("best_worst", "all_pairs")


def check_generation(cfg: DictConfig) -> None:
    """Refuse what cannot work in ``generate``, where ``cfg`` has that group.

    Raises:
        UserError: an unknown key, a value that cannot be, pairs of single answers, or nothing that scores.
    """
    if "generate" not in cfg:
        return
    keys = _read_keys(cfg)
    _check_values(keys)
    if keys["samples"] == 1 and keys["keep"] in PAIRED:
        raise UserError(
            f"generate.samples=1: keep={keys['keep']} makes pairs, which need 2 answers or more. For single good "
            "answers: +generate=good."
        )
    if keys["keep"] == "all_good" and keys["least"] is None:
        raise UserError("generate.keep=all_good needs generate.least=SCORE, from which on an answer is good.")
    choose_scorer(cfg)


def _read_keys(cfg: DictConfig) -> dict[str, Any]:
    keys: Any = to_plain(cfg.generate)
    if not isinstance(keys, dict) or not keys.keys() >= TYPES.keys():
        raise UserError("generate is a group: add +generate=pairs or +generate=good; generate.samples=8 sets a key.")
    return keys


def _check_values(keys: dict[str, Any]) -> None:
    for key, value in keys.items():
        if key not in TYPES:
            raise UserError(f"generate.{key}: unknown key.{did_you_mean(key, TYPES)}")
        if not fits(value, TYPES[key]):
            raise UserError(f"generate.{key}={value} takes {TYPES[key].replace(' | None', ' or null')}.")
        if value is not None and key in LEAST and value < LEAST[key]:
            raise UserError(f"generate.{key}={value} must be at least {LEAST[key]}.")
        if key in CHOICES and value not in CHOICES[key]:
            told = f"generate.{key}={value} must be one of {', '.join(CHOICES[key])}."
            raise UserError(f"{told}{did_you_mean(value, CHOICES[key])}")
    if not keys["temperature"] > 0:
        raise UserError(f"generate.temperature={keys['temperature']} must be above 0: at 0 all answers would be equal.")


def choose_scorer(cfg: DictConfig) -> str:
    """Return what scores the answers: ``reward`` or ``judge``.

    Raises:
        UserError: it is not configured.
    """
    there = {"reward": bool(cfg.reward), "judge": cfg.judge.name != "none"}
    asked = cfg.generate.scored_by
    chosen = next((name for name, found in there.items() if found), "auto") if asked == "auto" else str(asked)
    if not there.get(chosen):
        what = "reward=NAME or judge=NAME" if asked == "auto" else f"{asked}=NAME"
        raise UserError(f"generate.scored_by={asked}: nothing scores the answers: add {what}.")
    return chosen
