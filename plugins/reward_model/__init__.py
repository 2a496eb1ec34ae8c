"""Methods that train a reward model and not a policy, one short file each. Rewards are in `rewards.py`."""

from __future__ import annotations

from collections.abc import Iterable

from alignzoo import Method, hookimpl

from .reward import RewardModeling

#: In the order of the alphabet; `list` sorts by name.
METHODS: tuple[type[Method], ...] = (RewardModeling,)


@hookimpl
def alignzoo_methods() -> Iterable[type[Method]]:
    """Return the methods that train a reward model."""
    return METHODS
