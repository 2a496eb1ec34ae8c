"""Asks a judge for verdicts and caches them as they come, so that no pair is judged, or paid for, twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

from alignzoo.evaluate.returned import read_list, read_number
from alignzoo.system import cache
from alignzoo.system.checked_lines import CheckedLines, hash_json
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from alignzoo.plugin.judge import Judge

VERDICTS = (0.0, 0.5, 1.0)

Row = tuple[str, str, str]


class JudgeStopped(UserError):
    """The judge stopped midway; ``verdicts`` has the verdicts so far, None for the rest."""

    def __init__(self, text: str, verdicts: list[float | None]) -> None:
        super().__init__(text)
        self.verdicts = verdicts


def judge_pairs(judge: Judge, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> list[float]:
    """Return one verdict per prompt: 1.0 where A wins, 0.0 where B wins, 0.5 for a tie; their mean is A's win rate.

    The judge is asked only for pairs that it has not judged before; two equal answers are a tie, and not asked for.

    Raises:
        JudgeStopped: the judge could not go on, or returned something that is not a verdict.
    """
    rows = list(zip(prompts, a, b, strict=True))
    keys = [hash_json(row) for row in rows]
    cached = CheckedLines(verdict_file(judge), "pair", "verdict", "that pair is judged again")
    known = cached.read() | {key: 0.5 for key, row in zip(keys, rows, strict=True) if row[1] == row[2]}
    asked = {key: row for key, row in zip(keys, rows, strict=True) if key not in known}
    judge.total = len(asked)
    try:
        for verdicts in _ask_judge(judge, asked):
            cached.append(verdicts)
            known |= verdicts
    except UserError as error:
        found = [known.get(key) for key in keys]
        kept = (
            f"{sum(v is not None for v in found)} of {len(rows)} verdicts are cached; the same command resumes there."
        )
        raise JudgeStopped(f"{' '.join(str(error).splitlines())}\n{kept}", found) from error
    return [known[key] for key in keys]


def verdict_file(judge: Judge) -> Path:
    """Return the file of this judge with these settings: one JSON object a line, in the order of judging."""
    return cache.make_folder("verdicts") / f"{judge.name}-{hash_json(judge.identity())[:16]}.jsonl"


def _ask_judge(judge: Judge, rows: dict[str, Row]) -> Iterator[dict[str, float]]:
    """Yield verdicts as they come, by key."""
    keys = list(rows)
    parts = [keys[start : start + judge.batch_size] for start in range(0, len(keys), judge.batch_size)]

    def ask(part: list[str]) -> dict[str, float]:
        return dict(zip(part, _check_verdicts(judge, [rows[key] for key in part]), strict=True))

    if judge.at_once == 1:
        yield from map(ask, parts)
    else:
        yield from _ask_in_threads(ask, parts, judge.at_once)


def _ask_in_threads(
    ask: Callable[[list[str]], dict[str, float]], parts: list[list[str]], at_once: int
) -> Iterator[dict[str, float]]:
    """Ask side by side. After a failure no further call begins, but those under way are waited for and cached."""
    stop = threading.Event()
    failed: BaseException | None = None

    def guarded(part: list[str]) -> dict[str, float]:
        try:
            return {} if stop.is_set() else ask(part)
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(at_once) as pool:
        running = [pool.submit(guarded, part) for part in parts]
        try:
            for done in as_completed(running):
                error = done.exception()
                if error is None:
                    yield done.result()
                else:
                    failed = failed or error
        finally:
            stop.set()
    if failed:
        raise failed


def _check_verdicts(judge: Judge, rows: list[Row]) -> list[float]:
    prompts, a, b = (list(column) for column in zip(*rows, strict=True))
    found = read_list(f"judge={judge.name}", judge(prompts, a, b), len(rows), "verdicts")
    verdicts = [read_number(verdict) for verdict in found]
    for verdict, said in zip(verdicts, found, strict=True):
        if verdict not in VERDICTS:
            raise UserError(f"judge={judge.name} returned {said}; a verdict is 1.0 (A), 0.0 (B) or 0.5 (a tie).")
    return [verdict for verdict in verdicts if verdict is not None]
