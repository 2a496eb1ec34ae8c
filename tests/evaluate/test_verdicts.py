"""Verdicts: asked for once, kept as they come, and never lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignzoo import Judge, UserError
from alignzoo.evaluate.verdicts import JudgeStopped, judge_pairs, verdict_file


class Longer(Judge):
    """The longer answer; notes what it is asked, and stops at the prompt ``bad``."""

    name = "longer"
    silent = frozenset({"batch_size", "at_once"})

    def __init__(self, kind: str = "x", batch_size: int = 1, at_once: int = 1) -> None:
        self.batch_size, self.at_once = batch_size, at_once
        self.seen: list[tuple[str, str, str]] = []
        self.threads: set[int] = set()

    def __call__(self, prompts: list[str], a: list[str], b: list[str]) -> list[float]:
        if "bad" in prompts:
            raise UserError("judge=longer: gone.\nTry again.")
        self.seen += zip(prompts, a, b, strict=True)
        self.threads.add(threading.get_ident())
        return [0.5 if len(x) == len(y) else float(len(x) > len(y)) for x, y in zip(a, b, strict=True)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path))
    return tmp_path


PROMPTS, A, B = ["p", "q", "r"], ["long", "s", "same"], ["l", "short", "emas"]


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("at_once", [1, 3])
def test_a_pair_is_judged_once(batch_size: int, at_once: int) -> None:
    judge = Longer(batch_size=batch_size, at_once=at_once)
    assert judge_pairs(judge, PROMPTS, A, B) == [1.0, 0.0, 0.5]
    assert sorted(judge.seen) == list(zip(PROMPTS, A, B, strict=True))
    again = Longer()
    assert judge_pairs(again, [*PROMPTS[::-1], "new"], [*A[::-1], "a"], [*B[::-1], "bb"]) == [0.5, 0.0, 1.0, 0.0]
    assert (again.seen, again.total) == ([("new", "a", "bb")], 1)


@pytest.mark.parametrize("change", ["kind", "prompt", "a", "b", "order"])
def test_whatever_changes_is_judged_again(change: str) -> None:
    judge_pairs(Longer(), ["p"], ["one"], ["three"])
    judge = Longer("y" if change == "kind" else "x")
    row = {"prompt": "p", "a": "one", "b": "three"}
    if change == "order":
        row |= {"a": "three", "b": "one"}
    elif change in row:
        row[change] += "!"
    judge_pairs(judge, *([text] for text in row.values()))
    assert len(judge.seen) == 1


def test_equal_answers_tie_and_equal_pairs_are_asked_for_once() -> None:
    judge = Longer()
    assert judge_pairs(judge, ["p", "q", "q"], ["same", "aa", "aa"], ["same", "b", "b"]) == [0.5, 1.0, 1.0]
    assert judge.seen == [("q", "aa", "b")]


def test_verdicts_survive_a_judge_that_stops() -> None:
    with pytest.raises(JudgeStopped) as stopped:
        judge_pairs(Longer(), ["p", "q", "bad", "r"], ["aa"] * 4, ["b"] * 4)
    assert stopped.value.verdicts == [1.0, 1.0, None, None]
    assert str(stopped.value).splitlines() == [
        "judge=longer: gone. Try again.",
        "2 of 4 verdicts are cached; the same command resumes there.",
    ]
    judge = Longer()
    assert judge_pairs(judge, ["p", "q", "r"], ["aa"] * 3, ["b"] * 3) == [1.0] * 3
    assert judge.seen == [("r", "aa", "b")]


def test_calls_under_way_are_kept_when_another_fails() -> None:
    begun, failed = threading.Event(), threading.Event()

    class Slow(Longer):
        """``bad`` fails once ``good`` is under way, and ``good`` ends after that."""

        def __call__(self, prompts: list[str], a: list[str], b: list[str]) -> list[float]:
            if prompts == ["good"]:
                begun.set()
                failed.wait(10)
            if prompts == ["bad"]:
                begun.wait(10)
                threading.Timer(0.3, failed.set).start()
            return super().__call__(prompts, a, b)

    judge = Slow(at_once=2)
    with pytest.raises(JudgeStopped) as stopped:
        judge_pairs(judge, ["bad", "good", *map(str, range(2000))], ["aa"] * 2002, ["b"] * 2002)
    assert stopped.value.verdicts[:2] == [None, 1.0]
    kept = [verdict for verdict in stopped.value.verdicts if verdict is not None]
    assert len(verdict_file(judge).read_text().splitlines()) == len(kept) < 2001
    assert threading.get_ident() not in judge.threads


#: What is done to the last line -> how.
HARMS: dict[str, Callable[[str], str]] = {
    "torn": lambda line: line[:-20],
    "another verdict": lambda line: line.replace('"verdict": 0.5', '"verdict": 1.0'),
    "not a verdict": lambda line: line.replace('"verdict": 0.5', '"verdict": "A"'),
    "another pair": lambda line: line.replace('"pair": "', '"pair": "0'),
    "no checksum": lambda line: line.partition(', "sha256')[0] + "}\n",
    "a list": lambda line: "[1]\n",
    "brackets within brackets": lambda line: f"{'[' * 100_000}\n",
    "no text": lambda line: "\ufffd\x85\n",
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_torn_or_changed_line_costs_that_line_only_and_is_named(harm: str, caplog: pytest.LogCaptureFixture) -> None:
    judge = Longer()
    judge_pairs(judge, PROMPTS, A, B)
    file = verdict_file(judge)
    *kept, last = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*kept, HARMS[harm](last)]))
    again = Longer()
    assert judge_pairs(again, PROMPTS, A, B) == [1.0, 0.0, 0.5]
    assert again.seen == [("r", "same", "emas")]
    assert caplog.messages == [f"{file} line 3 is not what was written: that pair is judged again"]
    last_judge = Longer()
    assert judge_pairs(last_judge, PROMPTS, A, B) == [1.0, 0.0, 0.5]
    assert last_judge.seen == []
    assert len(file.read_text().split("\n")) == 5


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ([1.0, 1.0], "2 verdicts for 1"),
        ([0.7], "returned 0.7"),
        ([], "0 ver"),
        (None, "judge=longer returned None: it must return a list of 1 verdicts"),
        ("a", "returned the text 'a': it must"),
        ([None], "returned None; a verdict is"),
        (["A"], "returned A; a verdict is"),
    ],
)
def test_what_is_no_verdict_is_refused(answer: Any, told: str) -> None:
    class Odd(Longer):
        """Says what it is told to."""

        def __call__(self, prompts: list[str], a: list[str], b: list[str]) -> Any:
            return answer

    with pytest.raises(JudgeStopped, match=told):
        judge_pairs(Odd(), ["p"], ["a"], ["b"])


KILLED = """
import os, signal, sys
sys.path.insert(0, {folder!r})
from test_verdicts import Longer
from alignzoo.evaluate.verdicts import judge_pairs

class Killed(Longer):
    def __call__(self, prompts, a, b):
        if prompts == ["r"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(prompts, a, b)

judge_pairs(Killed(), ["p", "q", "r"], ["aa"] * 3, ["b"] * 3)
"""


def test_verdicts_survive_a_process_that_is_killed() -> None:
    code = KILLED.format(folder=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code], env=dict(os.environ), check=False)
    assert done.returncode == -signal.SIGKILL
    judge = Longer()
    judge_pairs(judge, ["p", "q", "r"], ["aa"] * 3, ["b"] * 3)
    assert judge.seen == [("r", "aa", "b")]
