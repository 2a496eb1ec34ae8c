"""Says on a leaderboard how far two judges agree on the completions of all its runs."""

from __future__ import annotations

from collections.abc import Sequence

from alignzoo.evaluate.agreement import describe_agreement, is_chance, summarise_agreement
from alignzoo.runs.folder import Run


def describe_judges(runs: Sequence[Run]) -> tuple[list[str], list[str]]:
    """Return what warns of the judges, where their agreement may be chance, and what is only said of them."""
    found = summarise_agreement([line for run in runs for line in run.lines])
    if found is None:
        return [], []
    sentences = list(describe_agreement(found))
    return (sentences, []) if is_chance(found) else ([], sentences)
