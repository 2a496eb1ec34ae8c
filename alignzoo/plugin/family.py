"""Names the family of each method: what ``list`` groups by, and what ``-m method=@preference`` runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from alignzoo.plugin.method import DataFormat, Method, ModelKind

if TYPE_CHECKING:
    from collections.abc import Mapping

#: alignzoo's own families, in the order of ``list``, with what each learns from. A plugin may declare others.
FAMILIES: Mapping[str, str] = {
    "preference": "pairs: a chosen and a rejected completion",
    "unpaired": "single completions, marked good or bad",
    "supervised": "good completions",
    "online": "prompts: completions are sampled, and rewarded",
    "distillation": "a teacher",
    "reward_model": "pairs; what comes out scores completions",
}


def find_family(method: type[Method]) -> str:
    """Return the word that the method declares, or else the one that follows from what it trains and learns from."""
    if method.family:
        return method.family
    if method.trains is ModelKind.REWARD_MODEL:
        return "reward_model"
    if method.uses_teacher:
        return "distillation"
    if method.uses_rewards or method.data is DataFormat.PROMPTS:
        return "online"
    return method.data.value


def group_by_family(methods: Iterable[type[Method]]) -> dict[str, list[type[Method]]]:
    """Return families in the order of :data:`FAMILIES`, others behind them, each with its methods by name."""
    found: dict[str, list[type[Method]]] = {}
    for method in sorted(methods, key=lambda method: method.name):
        found.setdefault(find_family(method), []).append(method)
    order = [*FAMILIES, *sorted(found.keys() - FAMILIES.keys())]
    return {family: found[family] for family in order if family in found}
