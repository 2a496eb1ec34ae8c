"""Reads the curves of a run and explains what people ask about, where it happened.

Each rule is a function of a run's history (lines of ``metrics.jsonl``) and result (``result.json``) to a
:class:`Reading`, or None where it does not apply.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignzoo.config.metrics import NUMBERS
from alignzoo.runs.contents import is_number

History = Sequence[Mapping[str, Any]]
Result = Mapping[str, Any]

LEAST_POINTS = 6  #: logged steps below which a curve has no trend
NEAR_ZERO = 0.1  #: mean size of a loss that looks like zero on a plot
HALF = 0.5  #: relative change of the completions' length that is worth a reading
FLAT = 0.02  #: rise of the accuracy that counts as none
ALIKE = 0.5  #: share of GRPO's groups without a difference from which on most of the sampling is wasted


@dataclass(frozen=True)
class Reading:
    """One thing that happened: what people ask, the answer, the numbers of this run, and the curve to look at."""

    question: str
    answer: str
    seen: str
    label: str
    """Of the curve's y axis."""

    points: tuple[tuple[float, float], ...]
    """(step, value); (0, before) and (1, after) where no curve was logged."""

    logged: bool = True


def find_readings(history: History, result: Result) -> list[Reading]:
    """Return the readings of a finished run."""
    return [found for rule in RULES if (found := rule(history, result)) is not None]


def chosen_falls(history: History, result: Result) -> Reading | None:
    """Held-out chosen completions became less likely, and the interval is sure of it."""
    change = result.get("after", {}).get("chosen_change")
    if change is None or result["intervals"]["chosen_change"][1] >= 0:
        return None
    metric = "rewards/chosen" if read_curve(history, "rewards/chosen") else "logps/chosen"
    return Reading(
        "The chosen log-probability falls: is that normal?",
        "Yes, with losses that reward only the gap to the rejected answer (DPO, IPO): both may fall as long as the "
        "rejected one falls further. It is called likelihood displacement (Razin et al., 2024). It is harmless while "
        "completions stay whole; where they get repetitive or cut off, take a higher beta or a lower learning rate.",
        f"{change:+.3f} nats/token on the held-out chosen completions",
        metric if read_curve(history, metric) else NUMBERS["chosen_change"].label,
        *_curve_or_ends(history, metric, (0.0, change)),
    )


def grpo_loss_near_zero(history: History, result: Result) -> Reading | None:
    """GRPO logs a loss around zero from the first step on."""
    losses, rewards = (read_curve(history, metric) for metric in ("loss", "reward"))
    if not losses or not rewards or not read_curve(history, "reward_std"):
        return None
    size = statistics.fmean(abs(value) for _, value in losses)
    if size > NEAR_ZERO:
        return None
    first, last, _ = trend(rewards)
    return Reading(
        "GRPO's loss is near zero: does it learn?",
        "The loss says nothing here. Advantages are rewards less their group's mean, so they add up to zero, and so "
        "does the loss at each step. What it learns is in the reward.",
        f"mean size of the loss {size:.3f}; reward {first:.2f} at first, {last:.2f} at the end",
        "reward",
        rewards,
    )


def groups_alike(history: History, result: Result) -> Reading | None:
    """Most of GRPO's groups had one reward for all their completions."""
    shares = read_curve(history, "frac_reward_zero_std")
    mean = statistics.fmean(value for _, value in shares) if shares else 0.0
    if mean < ALIKE:
        return None
    return Reading(
        "Most groups have no difference in reward: what does that cost?",
        "Where all completions of a prompt get the same reward, nothing is learnt from it and its sampling is "
        "wasted. A finer reward, a higher temperature, more generations or harder prompts help.",
        f"{mean:.0%} of the groups",
        "groups without a difference",
        shares,
    )


def margins_without_accuracy(history: History, result: Result) -> Reading | None:
    """The reward margin rises and the reward accuracy does not."""
    margins, accuracies = (read_curve(history, f"rewards/{name}") for name in ("margins", "accuracies"))
    if min(len(margins), len(accuracies)) < LEAST_POINTS:
        return None
    first, last, sure = trend(margins)
    before, after, _ = trend(accuracies)
    if last <= first or not sure or after - before >= FLAT:
        return None
    return Reading(
        "Margins rise while accuracy does not: is it learning?",
        "It grows surer of the pairs that it already tells apart, and tells no more of them apart. More steps of "
        "this kind move the model away from its start and gain nothing; look at the KL, and at other data.",
        f"margin {first:.2f} to {last:.2f}, accuracy {before:.0%} to {after:.0%}",
        "reward margin",
        margins,
    )


def completions_changed_length(history: History, result: Result) -> Reading | None:
    """Greedy completions are shorter or longer by half than the start model's."""
    before, after = (result.get(side, {}).get("answer_tokens") for side in ("before", "after"))
    if not before or after is None or abs(after / before - 1) < HALF:
        return None
    shorter = after < before
    answer = (
        "Where the chosen answers of the data are shorter, it was taught so. If not, look at the share that is empty."
        if shorter
        else "A judge or a reward may like length for its own sake, and preference data often does: compare win rates "
        "only beside the length, and look at the share that ends with EOS."
    )
    return Reading(
        f"Completions got {'shorter' if shorter else 'longer'} by half or more: is that wanted?",
        answer,
        f"{before:.0f} to {after:.0f} tokens",
        "completions/mean_length" if read_curve(history, "completions/mean_length") else NUMBERS["answer_tokens"].label,
        *_curve_or_ends(history, "completions/mean_length", (before, after)),
    )


RULES: tuple[Callable[[History, Result], Reading | None], ...] = (
    chosen_falls,
    grpo_loss_near_zero,
    groups_alike,
    margins_without_accuracy,
    completions_changed_length,
)

Points = tuple[tuple[float, float], ...]


def read_curve(history: History, metric: str) -> Points:
    """Return the (step, value) pairs at which ``metric`` was logged as a number."""
    return tuple((line["step"], line[metric]) for line in history if "step" in line and is_number(line.get(metric)))


def trend(points: Points) -> tuple[float, float, bool]:
    """Return the means of the first and the last third, and whether they differ by more than two standard errors."""
    values = [value for _, value in points]
    third = max(1, len(values) // 3)
    first, last = values[:third], values[-third:]
    error = math.sqrt(sum(statistics.variance(part) / len(part) for part in (first, last) if len(part) > 1))
    before, after = statistics.fmean(first), statistics.fmean(last)
    return before, after, abs(after - before) > 2 * error


def _curve_or_ends(history: History, metric: str, ends: tuple[float, float]) -> tuple[Points, bool]:
    """Return the metric's curve, or the numbers before and after where it was not logged."""
    logged = read_curve(history, metric)
    return (logged, True) if logged else (tuple(enumerate(ends)), False)
