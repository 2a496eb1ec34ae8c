"""Says before a study what it will cost and what it can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alignzoo.report.leaderboard.comparisons import format_size
from alignzoo.study.power import compute_smallest, find_needed_prompts
from alignzoo.study.protocol import Protocol
from alignzoo.study.settings import START
from alignzoo.system.errors import UserError
from alignzoo.system.limits import format_seconds


@dataclass(frozen=True)
class MethodCost:
    """What one run of a method takes, by ``plan``."""

    steps: int
    tokens: int
    """To train on."""

    step_seconds: float | None
    """Of training; None where the device is not this machine's."""

    row_seconds: float | None
    """Of measuring a row; None as of a step."""

    memory: float
    """GiB of one device at the peak."""

    fits: bool

    def sum_seconds(self, measured: int) -> float | None:
        """Return those of a run that measures so many rows, without what comes before its first step."""
        if self.step_seconds is None or self.row_seconds is None:
            return None
        return self.steps * self.step_seconds + measured * self.row_seconds


@dataclass(frozen=True)
class Outlook:
    """What a study will cost and can show."""

    protocol: Protocol
    costs: Mapping[str, MethodCost]
    prompts: int
    """Of the test."""

    validation: int
    """Rows that a trial measures."""

    smallest: float | None
    """Difference to the baseline that it shows in 80 %, in the number's unit; None where it shows none."""

    needed: int | None
    """Test prompts that would show the difference that matters; None: no number would."""

    @property
    def is_blind(self) -> bool:
        """Whether it cannot see the difference that matters."""
        return self.smallest is None or self.smallest > self.protocol.settings.smallest

    @property
    def runs(self) -> dict[str, int]:
        """How many runs each phase has."""
        settings = self.protocol.settings
        count = len(settings.methods)
        return {"tune": count * settings.trials, "test": count * settings.seeds}

    def sum_seconds(self, runs: int, measured: int) -> float | None:
        """Return the time of so many runs of each method that measure so many rows each, one after the other."""
        each = [cost.sum_seconds(measured) for cost in self.costs.values()]
        known = [seconds for seconds in each if seconds is not None]
        return runs * sum(known) if len(known) == len(each) else None


def make_outlook(protocol: Protocol, costs: Mapping[str, MethodCost], prompts: int, validation: int = 0) -> Outlook:
    """Return the outlook of a study with so many test prompts and validation rows."""
    smallest = compute_smallest(protocol.settings, prompts)
    return Outlook(protocol, costs, prompts, validation, smallest, find_needed_prompts(protocol.settings))


def refuse_blind(outlook: Outlook) -> None:
    """Refuse a study that cannot see the difference that matters.

    Raises:
        UserError: it cannot, and ``study.underpowered`` is refuse.
    """
    settings = outlook.protocol.settings
    if outlook.is_blind and settings.underpowered == "refuse":
        matters = format_size(settings.smallest, settings.number)
        advice = f"evaluate.rows={outlook.needed} would" if outlook.needed else "more study.seeds would"
        raise UserError(
            f"this study cannot see a difference of {matters} ({describe_smallest(outlook)}): {advice}; or name a "
            "larger study.difference, or run it all the same with study.underpowered=run."
        )


def describe_smallest(outlook: Outlook) -> str:
    """Return in words what the study can show."""
    settings = outlook.protocol.settings
    if outlook.smallest is None:
        return f"{outlook.prompts} test prompts show none"
    size = format_size(outlook.smallest, settings.number)
    return f"{outlook.prompts} test prompts and {settings.seeds} seeds show {size}"


def describe_outlook(outlook: Outlook) -> list[str]:
    """Return the outlook in lines for the terminal."""
    protocol, runs = outlook.protocol, outlook.runs
    settings = protocol.settings
    against = "the start model" if settings.baseline == START else settings.baseline
    matters, equal = (
        format_size(settings.smallest, settings.number),
        format_size(settings.question.distance or 0.0, settings.number),
    )
    lines = [
        f"study of {', '.join(settings.methods)} by {settings.number}, against {against}",
        "1. losses: each method's trainer beside its paper's equation, at the settings of its trials",
        f"2. tune: {runs['tune']} runs, {settings.trials} quasi-random trials for each method"
        + _format_time(outlook.sum_seconds(settings.trials, outlook.validation)),
        "3. pick: the best trial of each method on the validation rows, of those within the guardrails",
        f"4. test: {runs['test']} runs, {settings.seeds} fresh seeds for each winner"
        + _format_time(outlook.sum_seconds(settings.seeds, outlook.prompts)),
        f"smallest difference: {describe_smallest(outlook)} (80 % power, two-sided 5 %, corrected for "
        f"{_count_comparisons(outlook)}; assumed spreads: study.assume); {matters} matters"
        + (", which it cannot see" if outlook.is_blind else ""),
        f"equal: where the difference is surely below {equal}",
    ]
    return [*lines, *_describe_spaces(protocol), *_describe_costs(outlook)]


def _count_comparisons(outlook: Outlook) -> str:
    settings = outlook.protocol.settings
    count = len(settings.methods) - (settings.baseline != START)
    return f"{count} comparison{'s' if count != 1 else ''}"


def _describe_spaces(protocol: Protocol) -> list[str]:
    lines = []
    for method, knobs in protocol.spaces.items():
        parts = [f"{knob.key} {knob.low:.2g} to {knob.high:.2g}" for knob in knobs]
        own = [knob.key for knob in knobs if not knob.published and knob.key != "learning_rate"]
        note = f" ({', '.join(own)}: no published range, around the method's own value)" if own else ""
        lines.append(f"{method}: {', '.join(parts)}{note}")
    return lines


def _describe_costs(outlook: Outlook) -> list[str]:
    lines = []
    for method, cost in outlook.costs.items():
        rate = ""
        if cost.step_seconds is not None and cost.row_seconds is not None:
            rate = f", {cost.step_seconds:.2g} s a step, {cost.row_seconds:.2g} s a measured row"
        misfit = "" if cost.fits else ", which this device does not have"
        lines.append(f"{method}: {cost.steps:,} steps, {cost.tokens:,} tokens{rate}, {cost.memory:.2f} GiB{misfit}")
    if _differ([cost.tokens for cost in outlook.costs.values()]):
        lines.append("The methods train on different numbers of tokens: train.budget.tokens=N gives all the same.")
    return lines


def _differ(tokens: Sequence[int]) -> bool:
    return bool(tokens) and max(tokens) > 1.05 * min(tokens)


def _format_time(seconds: float | None) -> str:
    return "" if seconds is None else f", about {format_seconds(seconds)}"
