"""``python -m alignzoo verify-losses``: compares the trainers' losses with those of the papers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from alignzoo.cli.options import json_option, libraries_on_stderr, print_json
from alignzoo.plugin.registry import registry
from alignzoo.system.errors import UserError
from alignzoo.system.tables import plain_table
from alignzoo.train.losses.verdict import BROKEN, DIFFERS, Verdict, advise, reach_verdict, read_trl_version

if TYPE_CHECKING:
    from omegaconf import DictConfig


@click.command
@click.argument("words", nargs=-1, metavar="[METHOD]...")
@json_option
def command(words: Sequence[str], as_json: bool) -> int:
    """Compare loss and gradient of each METHOD's trainer with its paper's equation, on a tiny batch.

    METHOD as after method= (default: all that are installed); or KEY=VALUE as for a run, whose method is then compared
    under the run's settings: method=dpo +method.ld_alpha=0.5

    The exit code is 1 if one differs or is broken.
    """
    with libraries_on_stderr(as_json):
        verdicts = [verify_run(words)] if any("=" in word for word in words) else verify(words)
    _print_json(verdicts) if as_json else _print(verdicts)
    advice = advise(verdicts)
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
    return [reach_verdict(method) for method in methods] + broken


def verify_run(words: Sequence[str]) -> Verdict:
    """Return the verdict on the method of the run that ``words`` compose, under the run's settings.

    Raises:
        UserError: the run would be refused, or a word is the name of a method.
    """
    from alignzoo.config.check import check
    from alignzoo.config.compose import compose

    names = [word for word in words if "=" not in word]
    if names:
        raise UserError(f"{names[0]}: write method={names[0]} beside a run's other words, or methods' names alone.")
    cfg: DictConfig = compose(words)
    return reach_verdict(check(cfg).method, cfg)


def _print_json(verdicts: Sequence[Verdict]) -> None:
    print_json({"trl": read_trl_version(), "methods": [_record(verdict) for verdict in verdicts]})


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
    from alignzoo.train.losses.compare import GRADIENT_TOLERANCE, LOSS_TOLERANCE

    console = make_console()
    columns = ("equation", f"TRL {read_trl_version()}", "equation's", "difference", "gradient's", "verdict")
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
