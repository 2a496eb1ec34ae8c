"""Prints the plan of a run, and returns it as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alignzoo.system.tables import plain_table

if TYPE_CHECKING:
    from alignzoo.plan.seconds import Rate, StepTime
    from alignzoo.plan.survey import Need, Survey

GIB = 2**30


def to_json(survey: Survey, time: StepTime | None, rate: Rate | None) -> dict[str, Any]:
    """Return the plan as plain data; memory in bytes, time in seconds."""
    skeleton = survey.passes(survey.cfg.peft.name, survey.target.devices).skeleton
    return {
        "model": survey.cfg.model.name,
        "method": survey.method.name,
        "strategy": survey.chosen.name,
        "peft": survey.cfg.peft.name,
        "parameters": skeleton.parameters,
        "trained": skeleton.trained,
        **vars(survey.target),
        "work": {
            name: vars(size) if hasattr(size, "tokens") else size
            for name, size in vars(survey.passes(survey.cfg.peft.name, survey.target.devices).work).items()
        },
        "table": {
            s: {a: need and _make_entry(survey, need) for a, need in row.items()} for s, row in survey.table.items()
        },
        "update_seconds": time and {"training": time.training, "sampling": time.sampling},
        "rate": rate and vars(rate),
    }


def _make_entry(survey: Survey, need: Need) -> dict[str, Any]:
    return {
        "bytes": need.bytes,
        "fits": survey.fits(need),
        "phase": need.phase.name,
        "held": {**need.phase.held, "fixed": need.fixed},
    }


def print_survey(survey: Survey, time: StepTime | None, rate: Rate | None) -> None:
    """Print the run, what the configured strategy holds, and the table of all strategies."""

    from alignzoo.system.console import make_console

    console = make_console(soft_wrap=True)
    target, peft = survey.target, survey.cfg.peft.name
    passes = survey.passes(peft, target.devices)
    skeleton = passes.skeleton
    console.print(
        f"{survey.cfg.model.name}: {skeleton.parameters:,} parameters, {skeleton.trained:,} of them train (peft={peft})"
    )
    console.print(
        f"{survey.method.name}, {target.precision} on {target.devices} x {target.device} of "
        f"{target.memory / GIB:.0f} GiB, {passes.work.batches} batch(es) of {passes.work.train} per step"
    )
    train = survey.cfg.train
    if survey.lengths.rows is None:
        console.print(
            "an upper bound: all rows as long as train.max_length, no pair sharing its prompt; --data reads them"
        )
    share = max(1, train.global_batch_size // target.devices)
    whole = target.devices * (min(train.per_device_batch_size, share) if train.per_device_batch_tokens is None else 1)
    if survey.cfg.train.global_batch_size % whole:
        console.print(
            f"note: {target.devices} devices need a train.global_batch_size that is a multiple of {whole}; "
            f"it is {survey.cfg.train.global_batch_size}."
        )
    _print_chosen(console, survey)
    _print_table(console, survey)
    if time and rate:
        console.print(_format_time(time, rate, passes.work.sample is not None))


def _print_chosen(console: Any, survey: Survey) -> None:
    """Print what one device holds at the peak of the configured strategy, largest first."""
    need = survey.table[survey.chosen.name][survey.cfg.peft.name]
    if need is None:
        return
    parts = {**need.phase.held, "fixed": need.fixed}
    sizes = ", ".join(f"{name} {size / GIB:.2f}" for name, size in sorted(parts.items(), key=lambda p: -p[1]) if size)
    console.print(
        f"peak with {survey.chosen.name}: {need.bytes / GIB:.2f} GiB, in the phase '{need.phase.name}': {sizes}"
    )


def _print_table(console: Any, survey: Survey) -> None:

    columns = (f"peft={name}" for name in survey.adapters)
    table = plain_table("GiB per device", *columns)
    for strategy, row in survey.table.items():
        name = f"{strategy}{' (this run)' if strategy == survey.chosen.name else ''}"
        table.add_row(name, *(_format_cell(survey, need) for need in row.values()))
    console.print(table)


def _format_cell(survey: Survey, need: Need | None) -> str:
    return "-" if need is None else f"{need.bytes / GIB:.2f} {'fits' if survey.fits(need) else 'too much'}"


def _format_time(time: StepTime, rate: Rate, samples: bool) -> str:
    """Return a line on the seconds of a step."""
    parts = f" ({time.sampling:.2f} s of it sampling)" if samples else ""
    origin = "measured here" if rate.measured else "as given"
    return f"time: about {time.total:.2f} s per step{parts}, at half of {rate.flops / 1e12:.2f} TFLOP/s, {origin}"
