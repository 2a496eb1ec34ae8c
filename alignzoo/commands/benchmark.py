"""``python -m alignzoo benchmark``: what alignzoo costs, measured in one interleaved run.

Four questions. Start: the time of ``--help``, ``list`` and a misspelt key beside ``python -c "import hydra"``. Steps:
the time of one update beside a plain TRL script's, with the losses compared. Yardstick: the time of measuring the
start and the trained model as a share of a default training. Data: time and memory of checking pairs, and how they
grow with their number.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from rich.table import Table

SIZES = (10_000, 100_000, 1_000_000)


def main(words: Sequence[str]) -> int:
    """Measure, print tables, and write ``benchmark.json`` into ``--out``."""
    parser = argparse.ArgumentParser(prog="alignzoo benchmark", description="What alignzoo costs, in one run.")
    parser.add_argument("--quick", action="store_true", help="the tiny model and few rows: about a minute")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds; medians are reported (default 5)")
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for benchmark.json (default: this one)")
    options = parser.parse_args(words)
    wanted = [options.only] if options.only else list(PARTS)
    result = {name: PARTS[name].measure(options.rounds, options.quick) for name in wanted}
    _print(result)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "benchmark.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def _measure_start(rounds: int, quick: bool) -> dict[str, float]:
    from alignzoo.benchmark.start import measure_start

    return measure_start(rounds)


def _measure_steps(rounds: int, quick: bool) -> dict[str, dict[str, float]]:
    from alignzoo.benchmark.steps import measure_steps

    models = {"tiny": 20} if quick else {"tiny": 20, "bundled": 4}
    return {model: measure_steps(model, rounds, steps) for model, steps in models.items()}


def _measure_yardstick(rounds: int, quick: bool) -> dict[str, dict[str, float]]:
    from alignzoo.benchmark.yardstick import measure_yardstick

    models = {"tiny": 20} if quick else {"bundled": 4}
    return {model: measure_yardstick(model, rounds, steps) for model, steps in models.items()}


def _measure_data(rounds: int, quick: bool) -> dict[str, dict[str, float]]:
    from alignzoo.benchmark.data import measure_data

    sizes, model = (SIZES[:1], "tiny") if quick else (SIZES, "bundled")
    return {f"{rows:,}": measure_data(rows, model) for rows in sizes}


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    for name, rows in result.items():
        console.print(PARTS[name].table(rows), "")


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


def _yardstick(found: dict[str, dict[str, float]]) -> Table:
    table = _table(
        "the default run", "its updates", "its yardstick", "share", "the start model's", "share of the first"
    )
    for name, row in found.items():
        shares = f"{row['ratio']:.1%}", f"{row['start']:.1f} s", f"{row['first']:.1%}"
        table.add_row(name, f"{row['train']:.1f} s", f"{row['measure']:.1f} s", *shares)
    return table


def _data(found: dict[str, dict[str, float]]) -> Table:
    table = _table("pairs checked", "seconds", "from the cache", "pairs a second", "memory above idle")
    for rows, row in found.items():
        times = f"{row['seconds']:.1f}", f"{row['again']:.1f}"
        table.add_row(rows, *times, f"{row['rows_per_second']:,.0f}", f"{row['memory'] / 2**30:.2f} GiB")
    return table


class Part(NamedTuple):
    """One question that the benchmark answers."""

    measure: Callable[[int, bool], dict[str, Any]]
    """Takes the number of rounds, and whether to be quick."""

    table: Callable[[Any], Table]


PARTS = {
    "start": Part(_measure_start, _start),
    "steps": Part(_measure_steps, _steps),
    "yardstick": Part(_measure_yardstick, _yardstick),
    "data": Part(_measure_data, _data),
}
