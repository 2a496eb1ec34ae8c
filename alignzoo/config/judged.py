"""Chooses by which win rate the configured judge decides."""

from __future__ import annotations

from alignzoo.plugin.registry import registry


def choose_win_rate(judge: str) -> str | None:
    """Return the number by which the judge of this name decides; None where there is none.

    It is the win rate at equal length, since judges prefer longer completions (Dubois et al., 2024), but for a judge
    whose verdicts are about length: of these nothing would be left.

    Raises:
        UserError: no plugin adds it.
    """
    if judge == "none":
        return None
    return "win_rate" if registry().judge(judge).judges_length else "win_rate_lc"
