"""``python -m alignzoo check dataset=... model=... [method=...]``: what is in the data, before any training."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.config.compose import compose

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(words: Sequence[str]) -> int:
    """Print the report and write it as a page; return 1 if an error would stop a training, else 0."""
    parser = argparse.ArgumentParser(prog="alignzoo check", description="What is in the data, before any training.")
    parser.add_argument(
        "overrides", nargs="*", help="as for a run: dataset=local dataset.path=FILE model=... method=..."
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON, and nothing else")
    parser.add_argument("--html", type=Path, default=Path("alignzoo-check.html"), help="where to write the page")
    options = parser.parse_args(words)
    cfg = compose(options.overrides)
    # What libraries print while they read would stand before the JSON.
    with contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext():
        report = check(cfg)
    if options.json:
        print(json.dumps({key: value for key, value in report.items() if key not in ("examples", "lengths")}, indent=2))
    else:
        from alignzoo.report.data_check import print_report, write_page

        print_report(report)
        write_page(report, options.html)
        print(f"page: {options.html}")
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
