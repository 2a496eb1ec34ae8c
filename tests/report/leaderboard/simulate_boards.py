"""Measures on made-up studies how often the leaderboard's comparisons are wrong; ``nox -s simulation`` prints it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from made_up_studies import Truth, draw_study, separate

from alignzoo.evaluate.intervals import Estimate
from alignzoo.evaluate.simultaneous import Comparisons
from alignzoo.report.leaderboard.comparisons import Question, compare_values
from alignzoo.report.leaderboard.rows import Row
from alignzoo.report.leaderboard.verdict import write_verdict

PILOT = 100  #: studies that find out what a board announces

#: (settings, prompts, seeds, whether the number is a share).
GRID = (
    *((2, 40, 1, True), (2, 200, 1, True), (2, 2000, 1, True), (6, 40, 1, True), (6, 200, 1, True), (6, 500, 1, True)),
    *((6, 2000, 1, True), (12, 200, 1, True), (30, 40, 1, True), (30, 200, 1, True), (30, 500, 1, True)),
    *((2, 200, 2, True), (2, 200, 5, True), (6, 200, 2, True), (6, 200, 5, True), (6, 500, 3, True)),
    *((6, 40, 10, True), (12, 500, 5, True), (6, 40, 1, False), (6, 200, 1, False), (6, 200, 5, False)),
)


@dataclass(frozen=True)
class Found:
    """What one study's board says, beside the truth."""

    marked: float
    """Share of the other settings that it marks as worse than the best, or tells from the baseline."""

    winner: bool
    covered: bool
    """Whether all intervals hold the true differences."""

    smallest: float
    seen: float
    """Share of the other settings that the first is told to be better than."""

    bias: float
    """Of the best's value, beside its true one."""

    bias_elsewhere: float
    """The same on prompts that did not select it."""

    equal: float
    """Share of the other settings that are called equal within the asked difference."""


def read_board(truth: Truth, rng: np.random.Generator, against: bool = False, within: float | None = None) -> Found:
    """Draw one study, and read its board with the report's own functions."""
    values = draw_study(replace(truth, prompts=2 * truth.prompts), rng)
    here, elsewhere = np.split(values, 2, axis=2)
    question = Question("accuracy_sum" if truth.share else "reward", "0" if against else None, within)
    rows = [
        Row(str(place), "", (), {question.by: Estimate(one.mean(), 0.0, 0.0)}, {}, {}, {}, None)
        for place, one in enumerate(here)
    ]
    prompts = [str(place // truth.repeated) for place in range(truth.prompts)]
    told, found = compare_values(rows, list(here), prompts, question, 0 if against else None)
    others = [row for row in told if row.difference is not None]
    best = int(found.means.argmax())
    return Found(
        marked=float(np.mean([not row.noise for row in others])),
        winner=" wins" in write_verdict(sorted(told, key=lambda row: -row.numbers[question.by].value), question),
        covered=_covers(found, truth.values),
        smallest=found.smallest or np.nan,
        seen=float(np.mean([found.subtract(0, other).low > 0 for other in range(1, len(rows))])),
        bias=float(found.means[best] - truth.values[best]),
        bias_elsewhere=float(elsewhere[best].mean() - truth.values[best]),
        equal=float(np.mean([row.equivalent for row in others])),
    )


def _covers(found: Comparisons, values: np.ndarray) -> bool:
    true = values[found.pairs[:, 0]] - values[found.pairs[:, 1]]
    seen = found.means[found.pairs[:, 0]] - found.means[found.pairs[:, 1]]
    return bool((np.abs(seen - true) <= found.critical * found.errors).all())


def read_boards(truth: Truth, studies: int, seed: int, **asked: bool | float) -> list[Found]:
    """Read so many boards of the same truth."""
    rng = np.random.default_rng(seed)
    return [read_board(truth, rng, **asked) for _ in range(studies)]  # type: ignore[arg-type]


def announce(truth: Truth, seed: int, against: bool = False) -> float:
    """Return the smallest difference that boards announce when the first setting is better by it."""
    size = float(np.nanmean([one.smallest for one in read_boards(truth, PILOT, seed, against=against)]))
    better = read_boards(separate(size, truth), PILOT, seed + 1, against=against)
    return float(np.nanmean([one.smallest for one in better]))


def mean(boards: list[Found], name: str, scale: float = 100.0) -> float:
    """Return the mean of what the boards say; of shares in percent."""
    return scale * float(np.nanmean([getattr(one, name) for one in boards]))


def any_marked(boards: list[Found]) -> float:
    """Return in how many boards of a hundred a setting is marked."""
    return 100 * float(np.mean([one.marked > 0 for one in boards]))


def make_row(truth: Truth, studies: int) -> str:
    """Simulate one kind of study without and with a difference, and return its row of the table."""
    none = read_boards(truth, studies, 1)
    size = announce(truth, 2)
    some = read_boards(separate(size, truth), studies, 4)
    unit = 100 if truth.share else 1
    cells = [
        *(len(truth.strengths), f"{truth.prompts:,}", truth.seeds, "share" if truth.share else "mean"),
        *(f"{any_marked(none):.1f}", f"{mean(none, 'winner'):.1f}"),
        *(f"{mean(none, 'covered'):.1f}", f"{mean(some, 'covered'):.1f}"),
        *(f"{unit * size:.{1 if truth.share else 2}f}", f"{mean(some, 'seen'):.0f}"),
        *(f"{mean(none, name, unit):+.{1 if truth.share else 2}f}" for name in ("bias", "bias_elsewhere")),
    ]
    return f"| {' | '.join(map(str, cells))} |"


HEAD = (
    "| settings | prompts | seeds | number | false mark | false winner | coverage | with a difference | smallest "
    "| power | bias | on other prompts |\n|" + " --- |" * 12
)


def make_mixed_row(studies: int) -> str:
    """Simulate studies whose size is drawn anew each time, and return how often they are wrong, in percent."""
    rng = np.random.default_rng(9)
    boards = []
    for _ in range(studies):
        settings, seeds = int(rng.integers(2, 31)), int(rng.integers(1, 11))
        prompts = int(np.exp(rng.uniform(np.log(40), np.log(2000))))
        boards.append(read_board(Truth([0.0] * settings, prompts, seeds, bool(rng.integers(2))), rng))
    told = f"false mark {any_marked(boards):.1f}, false winner {mean(boards, 'winner'):.1f}"
    return f"{told}, coverage {mean(boards, 'covered'):.1f}"


def make_other_rows(studies: int) -> Iterator[str]:
    """Simulate what is not in the grid: a baseline, equality, prompts that occur again, seeds that vary otherwise."""
    alike = [0.0] * 6
    plain = Truth(alike, 200, 1)
    size = announce(plain, 2, against=True)
    yield f"baseline: false mark {any_marked(read_boards(plain, studies, 3, against=True)):.1f}"
    seen = mean(read_boards(separate(size, plain), studies, 4, against=True), "marked")
    yield f"baseline: told from it at the announced {100 * size:.1f} points: {seen:.0f}"
    large = Truth(alike, 1000, 3)
    for apart in (0.0, 0.05):
        truth = separate(apart, large) if apart else large
        boards = read_boards(truth, studies, 5, against=True, within=5.0)
        ever = 100 * float(np.mean([one.equal > 0 for one in boards]))
        each = mean(boards, "equal")
        yield f"equal within 5 points, true difference {100 * apart:.0f}: any {ever:.1f}, each {each:.1f}"
    again = replace(plain, repeated=4)
    yield f"each prompt four times: false mark {any_marked(read_boards(again, studies, 6)):.1f}"
    for seeds in (2, 5):
        unlike = replace(plain, seeds=seeds, seed_spreads=[0.05] * 5 + [0.3])
        marked = any_marked(read_boards(unlike, studies, 7))
        yield f"one setting's seeds vary six times as much, {seeds} seeds: false mark {marked:.1f}"
    one = replace(plain, seed_spreads=[0.05] * 6)
    yield f"one seed, taken as the setting's: false mark {any_marked(read_boards(one, studies, 8)):.1f}"


def main(studies: int) -> None:
    """Print all tables."""
    started = time.time()
    print(HEAD, flush=True)
    for settings, prompts, seeds, share in GRID:
        print(make_row(Truth([0.0] * settings, prompts, seeds, share), studies), flush=True)
    for line in make_other_rows(studies):
        print(line, flush=True)
    print(f"sizes drawn at random: {make_mixed_row(studies)}")
    print(f"{studies} studies a row, {time.time() - started:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
