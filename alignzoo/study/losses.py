"""Compares the losses of a study's methods with their papers' equations, at the very settings of its trials."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignzoo.config.compose import compose
from alignzoo.plugin.registry import registry
from alignzoo.study.protocol import Protocol
from alignzoo.system.files import write_atomically
from alignzoo.system.parsing import parse_file
from alignzoo.train.losses.verdict import AGREES, BROKEN, DIFFERS, OPEN, reach_verdict

FILE = "losses.json"  #: in the study's folder, written once
WORST = (BROKEN, DIFFERS, OPEN, AGREES)


def verify_losses(protocol: Protocol, folder: Path) -> dict[str, dict[str, Any]]:
    """Return for each method the worst verdict on its trials' losses, their equation and the reason; made once.

    The learning rate is no part of a loss: trials that differ in it alone are compared once.
    """
    file = folder / FILE
    if file.is_file():
        return read_losses(folder)
    found = {method: _verify_method(method, protocol.trials[method]) for method in protocol.settings.methods}
    with write_atomically(file) as aside:
        aside.write_text(json.dumps({"protocol": protocol.hash, "methods": found}, indent=2) + "\n", encoding="utf-8")
    return found


def read_losses(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what :func:`verify_losses` wrote; empty before."""
    file = folder / FILE
    return parse_file(file, lambda text: dict(json.loads(text)["methods"])) if file.is_file() else {}


def _verify_method(name: str, trials: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    settings = {tuple((key, value) for key, value in one.items() if key != "learning_rate") for one in trials}
    method = registry().method(name)
    words = [[f"method={name}", *(f"method.{key}={value!r}" for key, value in one)] for one in sorted(settings)]
    verdicts = [reach_verdict(method, compose(one)) for one in words]
    worst = min(verdicts, key=lambda verdict: WORST.index(verdict.verdict))
    return {
        "verdict": worst.verdict,
        "equation": worst.equation,
        "reason": worst.reason,
        "settings": len(verdicts),
        "difference": max((one.found.loss for one in verdicts if one.found), default=None),
    }
