"""``python -m alignzoo compare``: shows the start model's completions beside those of runs, and what changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from alignzoo.cli.options import FILE, PATH, WORD, json_option, libraries_on_stderr, print_json
from alignzoo.system.errors import UserError


@click.command
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=PATH)
@click.option(
    "--judge",
    "judges",
    multiple=True,
    type=WORD,
    metavar="NAME",
    help="Also count wins: rule (the shorter of two complete answers), reward_model, pairwise_lm, person. Given twice: "
    "also how far the two agree.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="judge.KEY=VALUE",
    help="A key of the judge, judge.second.KEY=VALUE of the second; repeatable.",
)
@click.option(
    "--rows", type=click.IntRange(0), default=10, show_default=True, help="Prompts to print, the biggest change first."
)
@click.option("--html", type=FILE, metavar="FILE", help="Write all prompts as a page.")
@json_option
def command(
    runs: Sequence[Path], judges: Sequence[str], settings: Sequence[str], rows: int, html: Path | None, as_json: bool
) -> int:
    """Show what changed in the completions of the run folders RUN.

    The judge rule is conciseness again, as the table counts it; take another to learn whether answers got better.

    The exit code is 1 if a run cannot be compared, or the judge stopped before its end.
    """
    _check(runs, judges, settings)
    from alignzoo.evaluate.comparison import compare, read_runs
    from alignzoo.evaluate.judge import load_judges
    from alignzoo.report.comparison import print_comparison

    read, failed = read_runs(runs)
    with libraries_on_stderr(True):
        report = compare(read, load_judges(judges, settings), failed)
    if html:
        _write(report, html)
    if as_json:
        print_json(report, ascii_only=False)
    else:
        print_comparison(report, rows)
        if html:
            print(f"page: {html}")
    return int(bool(failed) or any("stopped" in entry for entry in report["wins"]))


def _check(runs: Sequence[Path], judges: Sequence[str], settings: Sequence[str]) -> None:
    if len(runs) > 26:
        raise click.UsageError("at most 26 runs can be compared at once")
    if len(judges) > 2:
        raise click.UsageError("--judge can be given twice at most")
    if settings and not judges:
        raise click.UsageError("--set needs --judge")
    if not all(word.lstrip("+~").startswith("judge.") for word in settings):
        raise click.UsageError("--set takes judge.KEY=VALUE")


def _write(report: dict[str, Any], file: Path) -> None:
    from alignzoo.report.comparison import write_comparison

    try:
        write_comparison(report, file)
    except OSError as error:
        raise UserError(f"--html {file} cannot be written: {error.strerror}.") from None
