"""What a run says on the terminal: its plan, answers before and after, and the numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from alignzoo.report.terminal import print_answers, print_plan, print_result

Printed = Callable[..., str]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Printed:
    """Call a function on a terminal of some width, and return what it printed."""

    def call(function: Callable[..., None], *arguments: Any, width: int = 100) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        function(*arguments)
        return capsys.readouterr().out

    return call


def answered(text: str, tokens: int = 3, ended: bool = True) -> dict[str, Any]:
    return {"text": text, "tokens": tokens, "ended": ended}


ROWS = [
    {
        "id": "1",
        "prompt": "What is rain?",
        "before": answered("Water, and so on", 9, False),
        "after": answered("Water."),
    },
    {"id": "2", "prompt": "Why?", "before": answered("Because."), "after": answered("", 0)},
    {"id": "3", "prompt": "Who?", "before": answered("Me."), "after": answered("You.")},
]

BEFORE = {"preference_accuracy": 0.5, "margin": 0.0, "chosen_change": 0.0, "answer_tokens": 69.04, "ended": 0.25}
AFTER = {"preference_accuracy": 0.8125, "margin": 1.234, "chosen_change": -0.0456, "answer_tokens": 31.25, "ended": 1.0}
INTERVALS = {
    "preference_accuracy": [0.68, 0.901],
    "margin": [0.5, 2.0],
    "chosen_change": [-0.1, 0.0],
    "answer_tokens": [29.0, 33.5],
    "ended": [0.926, 1.0],
}
COST = {"steps": 40, "train_seconds": 175.4, "total_seconds": 233.6, "peak_memory_bytes": 4_712_000_000}


def test_answers_stand_side_by_side(printed: Printed) -> None:
    out = printed(print_answers, ROWS, 10)
    assert "3 held-out prompts" in out
    line = next(line for line in out.splitlines() if "What is rain?" in line)
    assert re.search(r"What is rain\? +│ +Water, and so on +│ +Water\. ", line)
    assert re.search(r"\[9 tokens, cut off\] +│ +\[3 tokens\] ", out)
    assert re.search(r"Because\. +│ +\(empty\) ", out)
    assert "[0 tokens]" in out


def test_only_the_first_are_shown(printed: Printed) -> None:
    out = printed(print_answers, ROWS, 2)
    assert "2 held-out prompts" in out
    assert "Why?" in out
    assert "Who?" not in out


@pytest.mark.parametrize(("rows", "shown"), [([], 10), (ROWS, 0)])
def test_without_answers_there_is_no_table(printed: Printed, rows: list[Any], shown: int) -> None:
    assert printed(print_answers, rows, shown) == ""


def test_answers_are_text_and_not_markup(printed: Printed) -> None:
    """Models write [INST], [/b] and links."""
    odd = "[bold]x[/bold] [/INST] [link=http://a]y[/link] :smile: \x1b[31mred"
    rows = [{"id": "1", "prompt": "[red]Why[/red]?", "before": answered(odd), "after": answered(odd)}]
    out = printed(print_answers, rows, 1, width=300)
    assert "[red]Why[/red]?" in out
    assert out.count("[bold]x[/bold] [/INST] [link=http://a]y[/link] :smile:") == 2


def test_long_answers_are_wrapped_and_not_cut(printed: Printed) -> None:
    words = [f"word{n}" for n in range(80)]
    rows = [{"id": "1", "prompt": "Why?", "before": answered(" ".join(words)), "after": answered("Because.")}]
    out = printed(print_answers, rows, 1, width=60)
    assert all(word in out for word in words)
    assert max(map(len, out.splitlines())) <= 60


def test_a_word_without_end_is_shown_whole(printed: Printed) -> None:
    """As models write it that have collapsed."""
    rows = [{"id": "1", "prompt": "Who?", "before": answered("y" * 200), "after": answered("Me.")}]
    assert printed(print_answers, rows, 1, width=60).count("y") == 200


def test_the_numbers_before_and_after(printed: Printed) -> None:
    result = {"before": BEFORE, "after": AFTER, "intervals": INTERVALS, "cost": COST}
    out = printed(print_result, result, Path("outputs/run"))
    head, *lines = [re.split(r"  +", line.strip()) for line in out.splitlines()]
    assert head == ["held-out rows", "before", "after", "95 % interval"]
    assert lines[:5] == [
        ["preference accuracy", "50%", "81%", "68% to 90%"],
        ["margin (nats)", "+0.00", "+1.23", "+0.50 to +2.00"],
        ["chosen log-probability (nats/token)", "+0.000", "-0.046", "-0.100 to +0.000"],
        ["completion length (tokens)", "69.0", "31.2", "29.0 to 33.5"],
        ["completions that end with EOS", "25%", "100%", "93% to 100%"],
    ]
    assert out.splitlines()[6:] == [
        "40 steps in 175 s, 234 s with everything; peak memory 4.7 GB",
        "run folder: outputs/run",
    ]


def test_without_numbers_only_the_cost_is_told(printed: Printed) -> None:
    out = printed(print_result, {"before": {}, "after": {}, "cost": COST}, Path("outputs/run"))
    assert out.splitlines()[0].startswith("40 steps in 175 s")
    assert len(out.splitlines()) == 2


def test_the_planned_peak_stands_beside_the_measured_one(printed: Printed) -> None:
    out = printed(print_result, {"cost": {**COST, "planned_memory_bytes": 4_400_000_000}}, Path("outputs/run"))
    assert "peak memory 4.7 GB, planned 4.4 GB" in out


def test_a_long_run_folder_stays_on_one_line_to_be_copied(printed: Printed) -> None:
    folder = Path("/a/very/long/path") / ("x" * 150) / "run"
    out = printed(print_result, {"cost": COST}, folder, width=60)
    assert out.splitlines()[-1] == f"run folder: {folder}"


def test_a_run_folder_with_brackets_is_shown_whole(printed: Printed) -> None:
    out = printed(print_result, {"cost": COST}, Path("outputs/beta=[a,b]/run"))
    assert out.splitlines()[-1] == "run folder: outputs/beta=[a,b]/run"


@pytest.fixture
def pairs(tmp_path: Path, compose_config: Callable[..., DictConfig]) -> Callable[..., Any]:
    """Prepare twenty pairs, of which one has a role that does not exist, for the tiny model."""
    from alignzoo.config.check import check
    from alignzoo.train.inputs import prepare_run

    def ready(method: str, role: str) -> Any:
        turns = [[{"role": who, "content": f"text {n}"} for n in range(20)] for who in ("user", "assistant")]
        rows = [
            {"prompt": [q], "chosen": [a], "rejected": [{**a, "content": "No."}], "topic": "text"}
            for q, a in zip(*turns, strict=True)
        ]
        rows[7]["prompt"] = [{"role": role, "content": "text"}]
        file = tmp_path / "pairs.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = (f"method={method}", "model=tiny", "dataset=local", f"dataset.path={file}", "dataset.bad_rows=drop")
        return prepare_run(check(compose_config(*words, "dataset.heldout.fraction=0.2")))

    return ready


def test_the_plan_says_what_is_trained_on_and_what_is_left_out(printed: Printed, pairs: Callable[..., Any]) -> None:
    from alignzoo.data.findings import Finding, Level
    from alignzoo.plugin.method import DataFormat

    ready = pairs("kto", "nobody")
    found = [Finding(Level.WARNING, "some", "some text", 2, [3, 4]), Finding(Level.NOTE, "other", "only in the report")]
    out = printed(print_plan, ready.data, DataFormat.UNPAIRED, ready.plan, found, width=60)
    train, held = len(ready.data.train), len(ready.data.heldout)
    assert train + held == 19
    line = next(line for line in out.splitlines() if line.startswith("rows: "))
    assert line.startswith(f"rows: {train} to train on, {held} held out; left out 1: ")
    assert "nobody" in line
    assert "\nnot read: topic\n" in out
    assert "conversion: " in out
    assert "\nwarning: some text (rows 3, 4)\n" in out
    assert "only in the report" not in out
    assert f"plan: {2 * train} rows, " in out


@pytest.mark.parametrize("role", ["[/INST]", "[user]"])
def test_what_the_data_holds_is_text_and_not_markup(printed: Printed, pairs: Callable[..., Any], role: str) -> None:
    from alignzoo.plugin.method import DataFormat

    ready = pairs("dpo", role)
    assert role in printed(print_plan, ready.data, DataFormat.PREFERENCE, ready.plan, [])
