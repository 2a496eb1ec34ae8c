"""``python -m alignzoo compare RUN [RUN ...]``: the start model's answers beside those of runs, and what changed."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from alignzoo.plugin.judge import Judge


def main(words: Sequence[str]) -> int:
    """Print the comparison and write the page; return 1 where the judge stopped before its end, else 0."""
    options = _parsed(words)
    from alignzoo.evaluate.comparison import compare, read_run

    runs = [read_run(folder) for folder in options.runs]
    with contextlib.redirect_stdout(sys.stderr):  # what libraries print would stand before the JSON
        report = compare(runs, _judge(options))
    if options.html:
        from alignzoo.report.comparison import write_comparison

        try:
            write_comparison(report, options.html)
        except OSError as error:
            raise UserError(f"--html {options.html} cannot be written: {error.strerror}.") from None
    if options.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        from alignzoo.report.comparison import print_comparison

        print_comparison(report, options.rows)
        if options.html:
            print(f"page: {options.html}")
    return int(any("stopped" in entry for entry in report["wins"]))


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="alignzoo compare", description="What changed in the answers of runs.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    parser.add_argument("--judge", metavar="NAME", help="also count wins: rule, reward_model, pairwise_lm, person")
    parser.add_argument(
        "--set", action="append", default=[], metavar="judge.KEY=VALUE", help="a key of the judge's; may be repeated"
    )
    parser.add_argument("--rows", type=int, default=5, help="prompts to print, the biggest change first (default 5)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write all prompts as a page")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON, and nothing else")
    options = parser.parse_args(words)
    if options.rows < 0:
        parser.error("--rows must be 0 or more")
    if len(options.runs) > 26:
        parser.error("at most 26 runs can be compared at once")
    if options.set and not options.judge:
        parser.error("--set needs --judge")
    if not all(word.lstrip("+~").startswith("judge.") for word in options.set):
        parser.error("--set takes judge.KEY=VALUE")
    return options


def _judge(options: argparse.Namespace) -> Judge | None:
    if not options.judge:
        return None
    from alignzoo.evaluate.judge import named_judge

    return named_judge(options.judge, options.set)
