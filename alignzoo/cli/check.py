"""``python -m alignzoo check``: shows what is in the data, before any training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alignzoo.cli.options import FILE, json_option, libraries_on_stderr, overrides_argument, print_json
from alignzoo.config.compose import compose

if TYPE_CHECKING:
    from omegaconf import DictConfig


@click.command
@overrides_argument
@json_option
@click.option("--html", type=FILE, default="alignzoo-check.html", show_default=True, help="Where to write the page.")
def command(overrides: Sequence[str], as_json: bool, html: Path) -> int:
    """Show what is in the data, before any training; write it as a page.

    KEY=VALUE as for a run: dataset=local dataset.path=FILE model=... method=...

    The exit code is 1 if an error in the data would stop a training.
    """
    cfg = compose(overrides)
    with libraries_on_stderr(as_json):
        report = check(cfg)
    if as_json:
        print_json({key: value for key, value in report.items() if key not in ("examples", "lengths")})
    else:
        from alignzoo.report.data_check import print_report, write_page

        write_page(report, html)
        print_report(report)
        print(f"page: {html}")
    return int(report["verdict"] == "errors")


def check(cfg: DictConfig) -> dict[str, Any]:
    """Return the summary of the data that ``cfg`` names, with the ``plan`` of a training on it."""
    from alignzoo.config.check import check as check_config
    from alignzoo.data.summary import summarise
    from alignzoo.train.inputs import prepare_run

    checked = check_config(cfg)
    would_stop = cfg.dataset.bad_rows == "stop"
    cfg.dataset.bad_rows = "drop"  # to report them all
    inputs = prepare_run(checked)
    summary = summarise(cfg, checked.method, inputs.data, inputs.tokenizer, inputs.eos_ids, would_stop)
    return {**summary, "plan": str(inputs.plan)}
