"""``python -m alignzoo compare``: shows the start model's completions beside those of runs, and what changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alignzoo.cli.options import FILE, PATH, WORD, json_option, libraries_on_stderr, print_json
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from alignzoo.plugin.judge import Judge


@click.command
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=PATH)
@click.option(
    "--judge",
    type=WORD,
    metavar="NAME",
    help="Also count wins: rule (the shorter of two complete answers), reward_model, pairwise_lm, person.",
)
@click.option("--set", "settings", multiple=True, metavar="judge.KEY=VALUE", help="A key of the judge; repeatable.")
@click.option(
    "--rows", type=click.IntRange(0), default=10, show_default=True, help="Prompts to print, the biggest change first."
)
@click.option("--html", type=FILE, metavar="FILE", help="Write all prompts as a page.")
@json_option
def command(
    runs: Sequence[Path], judge: str | None, settings: Sequence[str], rows: int, html: Path | None, as_json: bool
) -> int:
    """Show what changed in the completions of the run folders RUN.

    The judge rule is conciseness again, as the table counts it; take another to learn whether answers got better.

    The exit code is 1 if a run cannot be compared, or the judge stopped before its end.
    """
    _check(runs, judge, settings)
    from alignzoo.evaluate.comparison import compare, read_runs
    from alignzoo.report.comparison import print_comparison

    read, failed = read_runs(runs)
    with libraries_on_stderr(True):
        report = compare(read, _judge(judge, settings), failed)
    if html:
        _write(report, html)
    if as_json:
        print_json(report, ascii_only=False)
    else:
        print_comparison(report, rows)
        if html:
            print(f"page: {html}")
    return int(bool(failed) or any("stopped" in entry for entry in report["wins"]))


def _check(runs: Sequence[Path], judge: str | None, settings: Sequence[str]) -> None:
    if len(runs) > 26:
        raise click.UsageError("at most 26 runs can be compared at once")
    if settings and not judge:
        raise click.UsageError("--set needs --judge")
    if not all(word.lstrip("+~").startswith("judge.") for word in settings):
        raise click.UsageError("--set takes judge.KEY=VALUE")


def _write(report: dict[str, Any], file: Path) -> None:
    from alignzoo.report.comparison import write_comparison

    try:
        write_comparison(report, file)
    except OSError as error:
        raise UserError(f"--html {file} cannot be written: {error.strerror}.") from None


def _judge(name: str | None, settings: Sequence[str]) -> Judge | None:
    if not name:
        return None
    from alignzoo.evaluate.judge import load_judge

    return load_judge(name, settings)
