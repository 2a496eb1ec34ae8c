"""``python -m alignzoo verify-losses``: compares the trainers' losses with those of the papers."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from typing import Any

import click

from alignzoo.cli.options import json_option, libraries_on_stderr, print_json
from alignzoo.plugin.registry import registry
from alignzoo.system.tables import plain_table
from alignzoo.testing.losses.verdict import BROKEN, DIFFERS, Verdict, judge_loss


@click.command
@click.argument("methods", nargs=-1, metavar="[METHOD]...")
@json_option
def command(methods: Sequence[str], as_json: bool) -> int:
    """Compare loss and gradient of each METHOD's trainer with its paper's equation, on a tiny batch.

    METHOD as after method= (default: all that are installed). The exit code is 1 if one differs or is broken.
    """
    with libraries_on_stderr(as_json):
        verdicts = verify(methods)
    _print_json(verdicts) if as_json else _print(verdicts)
    advice = _advice(verdicts)
    if advice:
        print(advice, file=sys.stderr if as_json else sys.stdout)
    return int(any(verdict.verdict in (DIFFERS, BROKEN) for verdict in verdicts))


def verify(names: Sequence[str]) -> list[Verdict]:
    """Return the verdicts on the methods called ``names``, or on all, with the plugins that are left out as broken.

    Raises:
        UserError: no plugin that works adds one of ``names``.
    """
    found = registry()
    methods = [found.method(name) for name in names or sorted(found.methods)]
    left_out = [p for p in found.plugins.values() if p.problem and "disabled" not in p.problem and not names]
    broken = [Verdict(p.name, BROKEN, reason=f"{p.origin}: {p.problem}") for p in left_out]
    return [judge_loss(method) for method in methods] + broken


def _advice(verdicts: Sequence[Verdict]) -> str:
    """Return what to do about the methods that differ, a line each for TRL's losses and for plugins' own."""
    differing = [verdict for verdict in verdicts if verdict.verdict == DIFFERS]
    theirs = ", ".join(verdict.method for verdict in differing if not verdict.own_loss)
    own = ", ".join(verdict.method for verdict in differing if verdict.own_loss)
    lines = [
        theirs
        and f"TRL {_trl()} computes another loss than the paper's: {theirs}. Train with these only after "
        f"pip install '{_pinned()}', or after mending the equation in the method's plugin.",
        own and f"The plugin's loss is another than its equation: {own}. Train with these only after mending either.",
    ]
    return "\n".join(filter(None, lines))


def _trl() -> str:
    return importlib.metadata.version("trl")


def _pinned() -> str:
    """Return alignzoo's own requirement of TRL."""
    return next(r for r in importlib.metadata.requires("alignzoo") or ["trl"] if r.startswith("trl"))


def _print_json(verdicts: Sequence[Verdict]) -> None:
    print_json({"trl": _trl(), "methods": [_record(verdict) for verdict in verdicts]})


def _record(verdict: Verdict) -> dict[str, Any]:
    said = {
        "method": verdict.method,
        "equation": verdict.equation,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
    }
    found = verdict.found
    if found is None:
        return said
    losses = {"trl_loss": found.trl, "equation_loss": found.equation, "difference": found.loss}
    return {**said, **losses, "gradient_difference": found.gradient}


def _print(verdicts: Sequence[Verdict]) -> None:

    from alignzoo.system.console import make_console
    from alignzoo.testing.losses.compare import GRADIENT_TOLERANCE, LOSS_TOLERANCE

    console = make_console()
    columns = ("equation", f"TRL {_trl()}", "equation's", "difference", "gradient's", "verdict")
    table = plain_table("method", *columns)
    for verdict in verdicts:
        found = verdict.found
        numbers = (
            (f"{found.trl:.6f}", f"{found.equation:.6f}", f"{found.loss:.1e}", f"{found.gradient:.1e}")
            if found
            else [""] * 4
        )
        table.add_row(verdict.method, verdict.equation, *numbers, verdict.verdict)
    console.print(table)
    for verdict in verdicts:
        if verdict.reason:
            console.print(f"{verdict.method}: {verdict.verdict}: {verdict.reason}", soft_wrap=True)
    console.print(
        f"limits: difference {LOSS_TOLERANCE:g} (a share of losses above 1), gradient's {GRADIENT_TOLERANCE:g}"
    )
