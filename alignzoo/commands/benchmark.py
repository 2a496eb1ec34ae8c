"""``python -m alignzoo benchmark``: what alignzoo costs, measured in one interleaved run.

Three questions. Start: the time of ``--help``, ``list`` and a misspelt key beside ``python -c "import hydra"``. Steps:
the time of one update beside a plain TRL script's, with the losses compared. Data: time and memory of checking pairs,
and how they grow with their number.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

SIZES = (10_000, 100_000, 1_000_000)


def main(words: Sequence[str]) -> int:
    """Measure, print tables, and write ``benchmark.json`` into ``--out``."""
    from alignzoo.benchmark.data import measure_data
    from alignzoo.benchmark.start import measure_start
    from alignzoo.benchmark.steps import measure_steps

    parser = argparse.ArgumentParser(prog="alignzoo benchmark", description="What alignzoo costs, in one run.")
    parser.add_argument("--quick", action="store_true", help="the tiny model and few rows: about a minute")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds; medians are reported (default 5)")
    parser.add_argument("--only", choices=("start", "steps", "data"), help="one of the three")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for benchmark.json (default: this one)")
    options = parser.parse_args(words)
    wanted = {options.only} if options.only else {"start", "steps", "data"}
    models = {"tiny": 20} if options.quick else {"tiny": 20, "bundled": 4}
    result: dict[str, Any] = {}
    if "start" in wanted:
        result["start"] = measure_start(options.rounds)
    if "steps" in wanted:
        result["steps"] = {model: measure_steps(model, options.rounds, steps) for model, steps in models.items()}
    if "data" in wanted:
        model = "tiny" if options.quick else "bundled"
        result["data"] = {f"{rows:,}": measure_data(rows, model) for rows in SIZES[: 1 if options.quick else None]}
    _print(result)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "benchmark.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    tables: dict[str, Callable[[Any], Table]] = {"start": _start, "steps": _steps, "data": _data}
    for name, rows in result.items():
        console.print(tables[name](rows), "")


def _table(*columns: str) -> Table:
    from rich.table import Table

    return Table(*columns, box=None, header_style="bold", pad_edge=False)


def _start(found: dict[str, float]) -> Table:
    from alignzoo.benchmark.start import WITH_PLUGINS

    limit = 3 * found["import hydra"] + 0.2
    table = _table("start", "seconds", "limit: 3 x import hydra + 0.2")
    limits = {"import hydra": "", WITH_PLUGINS: f"{2 * found['--help']:.2f} (2 x --help)"}
    for name, seconds in found.items():
        table.add_row(name, f"{seconds:.2f}", limits.get(name, f"{limit:.2f}"))
    return table


def _steps(found: dict[str, dict[str, float]]) -> Table:
    table = _table("DPO, one update", "alignzoo", "plain TRL", "ratio", "losses differ by at most")
    for name, row in found.items():
        times = f"{row['alignzoo']:.4f} s", f"{row['trl']:.4f} s"
        table.add_row(name, *times, f"{row['ratio']:.3f}", f"{row['loss_difference']:.1e}")
    return table


def _data(found: dict[str, dict[str, float]]) -> Table:
    table = _table("pairs checked", "seconds", "from the cache", "pairs a second", "memory above idle")
    for rows, row in found.items():
        times = f"{row['seconds']:.1f}", f"{row['again']:.1f}"
        table.add_row(rows, *times, f"{row['rows_per_second']:,.0f}", f"{row['memory'] / 2**30:.2f} GiB")
    return table
