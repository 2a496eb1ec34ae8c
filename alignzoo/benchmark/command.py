"""``python -m alignzoo benchmark``: measures what alignzoo costs, in one interleaved run.

Start: the time of ``--help``, ``list`` and a misspelt key beside ``python -c "import hydra"``. Steps: the time of one
step beside TRL's own trainer, without what makes it faster, with the losses compared. Yardstick: the time of
measuring the start and the trained model as a share of a default training. Data: time and memory of checking pairs, and
how they grow with their number. Speed: steps, memory and losses beside a plain TRL script and LLaMA-Factory. Sampling:
GRPO end to end beside that script. Sweep: five betas beside five runs of that script.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from alignzoo.system.errors import UserError
from alignzoo.system.tables import plain_table

if TYPE_CHECKING:
    from rich.table import Table

SIZES = (10_000, 100_000, 1_000_000)

#: Losses that differ by more are another computation, and its time says nothing: nats, in float32.
SAME = 1e-4


@dataclass(frozen=True)
class Options:
    """What the parts are told."""

    quick: bool
    rounds: int
    data: str | None
    cases: str | None
    llamafactory: str | None
    words: tuple[str, ...] = ()


def _differ(rows: Sequence[dict[str, Any]]) -> int:
    """Return 1, and say where, if alignzoo's losses are not TRL's; those in bf16 are only shown."""
    exact = [row for row in rows if row["program"] == "trl" and row["precision"] == "fp32"]
    wrong = [row for row in exact if not row["loss_difference"] <= SAME]  # a NaN too
    for row in wrong:
        print(f"{row['case']}: the losses differ by {row['loss_difference']:.1e}, which is more than {SAME:g}.")
    return int(bool(wrong))


def _measure_start(options: Options) -> dict[str, float]:
    from alignzoo.benchmark.start import measure_start

    return measure_start(options.rounds)


def _measure_steps(options: Options) -> dict[str, dict[str, float]]:
    from alignzoo.benchmark.steps import measure_steps

    models = {"tiny": 10} if options.quick else {"tiny": 20, "bundled": 4}
    return {model: measure_steps(model, options.rounds, steps) for model, steps in models.items()}


def _measure_yardstick(options: Options) -> dict[str, dict[str, float]]:
    from alignzoo.benchmark.yardstick import measure_yardstick

    models = {"tiny": 10} if options.quick else {"bundled": 4}
    return {model: measure_yardstick(model, options.rounds, steps) for model, steps in models.items()}


def _measure_data(options: Options) -> dict[str, dict[str, float]]:
    from alignzoo.benchmark.data import measure_data

    sizes, model = (SIZES[:1], "tiny") if options.quick else (SIZES, "bundled")
    return {f"{rows:,}": measure_data(rows, model) for rows in sizes}


def _measure_speed(options: Options) -> list[dict[str, Any]]:
    from alignzoo.benchmark.case import choose_cases
    from alignzoo.benchmark.peer import find_llamafactory
    from alignzoo.benchmark.speed import measure_speed

    cases = choose_cases(options.quick, options.cases, options.data, options.words)
    return measure_speed(cases, options.rounds, find_llamafactory(options.llamafactory))


def _measure_sweep(options: Options) -> dict[str, float]:
    from alignzoo.benchmark.case import Case
    from alignzoo.benchmark.sweep import measure_sweep

    return measure_sweep(Case("sweep", "tiny" if options.quick else "bundled"), steps=4)


def _measure_sampling(options: Options) -> list[dict[str, Any]]:
    from alignzoo.benchmark.sampling import measure_sampling

    model, limit = ("tiny", 16) if options.quick else ("bundled", 96)
    return measure_sampling(model, options.rounds, limit)


def _print(result: dict[str, Any]) -> None:

    from alignzoo.system.console import make_console

    console = make_console()
    for name, rows in result.items():
        console.print(PARTS[name].table(rows), "")


def _start(found: dict[str, float]) -> Table:
    from alignzoo.benchmark.start import WITH_PLUGINS

    limit = 3 * found["import hydra"] + 0.2
    table = plain_table("start", "seconds", "limit: 3 x import hydra + 0.2")
    limits = {"import hydra": "", WITH_PLUGINS: f"{2 * found['--help']:.2f} (2 x --help)"}
    for name, seconds in found.items():
        table.add_row(name, f"{seconds:.2f}", limits.get(name, f"{limit:.2f}"))
    return table


def _steps(found: dict[str, dict[str, float]]) -> Table:
    table = plain_table("DPO, one step", "alignzoo", "plain TRL", "ratio", "losses differ by at most")
    for name, row in found.items():
        times = f"{row['alignzoo']:.4f} s", f"{row['trl']:.4f} s"
        table.add_row(name, *times, f"{row['ratio']:.3f}", f"{row['loss_difference']:.1e}")
    return table


def _yardstick(found: dict[str, dict[str, float]]) -> Table:
    table = plain_table(
        "the default run", "its steps", "its yardstick", "share", "the start model's", "share of the first"
    )
    for name, row in found.items():
        shares = f"{row['ratio']:.1%}", f"{row['start']:.1f} s", f"{row['first']:.1%}"
        table.add_row(name, f"{row['train']:.1f} s", f"{row['measure']:.1f} s", *shares)
    return table


def _data(found: dict[str, dict[str, float]]) -> Table:
    table = plain_table("pairs checked", "seconds", "from the cache", "pairs a second", "memory above idle")
    for rows, row in found.items():
        times = f"{row['seconds']:.1f}", f"{row['again']:.1f}"
        table.add_row(rows, *times, f"{row['rows_per_second']:,.0f}", f"{row['memory'] / 2**30:.2f} GiB")
    return table


def _speed(found: list[dict[str, Any]]) -> Table:
    from alignzoo.benchmark.chart import speed_table

    return speed_table(found)


def _sampling(found: list[dict[str, Any]]) -> Table:
    from alignzoo.benchmark.chart import sampling_table

    return sampling_table(found)


def _sweep(found: dict[str, float]) -> Table:
    from alignzoo.benchmark.chart import sweep_table

    return sweep_table(found)


class Part(NamedTuple):
    """One question that the benchmark answers."""

    measure: Callable[[Options], Any]
    """Takes the command's options."""

    table: Callable[[Any], Table]

    quick: bool = True
    """Whether ``--quick`` includes it."""


PARTS = {
    "start": Part(_measure_start, _start),
    "steps": Part(_measure_steps, _steps),
    "yardstick": Part(_measure_yardstick, _yardstick, quick=False),  # beside a tiny model's steps it says nothing
    "data": Part(_measure_data, _data),
    "speed": Part(_measure_speed, _speed),
    "sampling": Part(_measure_sampling, _sampling, quick=False),
    "sweep": Part(_measure_sweep, _sweep, quick=False),  # seven programs that each import torch
}


@click.command
@click.argument("words", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--quick", is_flag=True, help="The tiny model and few rows: about a minute.")
@click.option("--rounds", default=5, show_default=True, help="Interleaved rounds, whose medians are reported.")
@click.option("--only", type=click.Choice(list(PARTS)), help="One part.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=".", show_default=True, help="Folder for what is written."
)
@click.option("--add", is_flag=True, help="Add to the benchmark.json that is there.")
@click.option("--data", metavar="FILE", help="For speed: your own pairs, in any layout, in place of made-up ones.")
@click.option(
    "--cases", type=click.Choice(("method", "batch", "lengths", "gpu")), help="For speed: only those that vary this."
)
@click.option("--llamafactory", metavar="PYTHON", help="For speed: a Python with LLaMA-Factory (default: this, if so).")
def command(only: str | None, out: Path, add: bool, quick: bool, rounds: int, **more: Any) -> int:
    """Measure what alignzoo costs, print tables, and write benchmark.json and the plot of the speed.

    KEY=VALUE for the part speed, as for a run: dataset.bad_rows=drop train.max_length=512

    The exit code is 1 if a loss differs from TRL's in the part speed.
    """
    options = Options(quick, min(3, rounds) if quick else rounds, **more)
    wanted = [only] if only else [name for name, part in PARTS.items() if part.quick or not quick]
    if options.words and "speed" not in wanted:
        raise UserError(f"benchmark {options.words[0]}: such words are for the part speed, not for --only {only}.")
    out.mkdir(parents=True, exist_ok=True)
    file = out / "benchmark.json"
    earlier = json.loads(file.read_text(encoding="utf-8")) if add and file.exists() else {}
    result = {name: PARTS[name].measure(options) for name in wanted}
    _print(result)
    if "speed" in result:
        result["speed"] = [*earlier.get("speed", []), *result["speed"]]
        from alignzoo.benchmark.chart import write_speed

        write_speed(result["speed"], out)
    file.write_text(json.dumps({**earlier, **result}, indent=2) + "\n", encoding="utf-8")
    return _differ(result.get("speed", []))
