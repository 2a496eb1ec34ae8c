"""Studies without a model: settings by hand, and values drawn from a known truth."""

from __future__ import annotations

from typing import Any

from alignzoo.study.settings import Settings


def make_settings(**changes: Any) -> Settings:
    """Return the settings of a study of two methods, with ``changes``."""
    keys: dict[str, Any] = {
        "name": "default",
        "methods": ("dpo", "simpo"),
        "trials": 4,
        "seeds": 3,
        "number": "accuracy_sum",
        "guardrails": {},
        "difference": 5.0,
        "equal_within": 5.0,
        "underpowered": "refuse",
        "rates": (0.2, 5.0),
        "widen": 1.0,
        "assume": {"prompts": 0.5, "seeds": 0.015},
    }
    keys |= changes
    return Settings(**{"baseline": keys["methods"][0], **keys})
