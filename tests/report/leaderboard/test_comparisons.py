"""What the leaderboard compares: all with the best or with a baseline, what is equal, and who is kept out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from leaderboard_runs import lines, make_run, pairs, write_lines

from alignzoo.report.leaderboard.board import Leaderboard, read_leaderboard
from alignzoo.report.leaderboard.table import describe_difference, format_difference_interval, list_warnings, make_frame
from alignzoo.system.errors import UserError

Read = Callable[..., Leaderboard]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Make runs, (overrides, answers) or (overrides, answers, result), and read them."""

    def make(*runs: tuple[Any, ...], **asked: Any) -> Leaderboard:
        for number, (overrides, answers, *result) in enumerate(runs):
            make_run(tmp_path / f"{number}-run", overrides, answers, (), *result)
        return read_leaderboard([tmp_path], **asked)

    return make


DPO, IPO, KTO = (
    ("method=dpo", lines(pairs(60, 120))),
    ("method=ipo", lines(pairs(64, 120))),
    ("method=kto", lines(pairs(20, 120))),
)


def test_more_settings_widen_every_interval(read: Read, tmp_path: Path) -> None:
    few = read(DPO, KTO).rows[1].difference
    for number in range(2, 9):
        shuffled = pairs(60, 120)[7 * number :] + pairs(60, 120)[: 7 * number]
        make_run(tmp_path / f"{number}-run", f"method=orpo method.beta=0.{number}", lines(shuffled))
    many = next(row for row in read_leaderboard([tmp_path]).rows if row.method == "kto").difference
    assert few is not None
    assert many is not None
    assert many.high - many.low > 1.2 * (few.high - few.low)


def test_against_a_baseline_every_other_is_told_how_it_stands(read: Read) -> None:
    found = read(DPO, IPO, KTO, ("method=orpo", lines(pairs(110, 120))), against="dpo")
    assert found.verdict == (
        "Against dpo in preference accuracy, 50% (41% to 59%): orpo is better; kto is worse; ipo is within noise."
    )
    assert [(row.method, describe_difference(row, found.by)) for row in found.rows] == [
        ("orpo", "+42 points"),
        ("ipo", "+3 points, within noise"),
        ("dpo", "baseline"),
        ("kto", "-33 points"),
    ]
    assert not any(row.best for row in found.rows)
    assert "corrected for 3 comparisons" in found.limits[0]


def test_a_baseline_that_collapsed_is_named_as_such(read: Read) -> None:
    found = read(DPO, ("method=orpo", lines(pairs(110, 120), ended=False)), against="dpo")
    assert found.verdict.endswith("orpo is better. orpo collapsed: completions are cut off.")


REWORDED = "Write a short letter to my landlord in which I ask to repair the {} heating before winter"


def test_reworded_prompts_are_one_prompt(read: Read) -> None:
    """Eight prompts, each in six wordings: near-equal ones are resampled together."""
    words = ["", "old", "oil", "Oil,", "main", "gas"]

    def reword(right: int) -> list[dict[str, Any]]:
        asked = [f"{REWORDED.format(words[n % 6])} {' '.join(f'word{n // 6}{k}' for k in range(9))}" for n in range(48)]
        return [{**line, "prompt": text} for line, text in zip(lines(pairs(right)), asked, strict=True)]

    found = read(("method=dpo", reword(48)), ("method=kto", reword(18)))
    assert "8 prompts" in found.limits[0]


SIDES = {"before": {"preference_accuracy": 0.5}, "intervals": {"preference_accuracy": [0.0, 1.0]}}


def add_selection(side: str, value: float | None = None) -> dict[str, Any]:
    """What result.json has of a run that was selected on these rows, with its value on validation rows."""
    numbers = {} if value is None else {"validation": {**SIDES, "after": {"preference_accuracy": value}}}
    return {"selected_on": side, **numbers}


def test_what_was_selected_on_the_held_out_rows_is_marked(read: Read) -> None:
    found = read((*DPO, add_selection("heldout")), IPO)
    assert found.notes[-1].startswith("Selected on these rows: ")
    assert "dataset.validation.fraction=0.1" in found.notes[-1]
    assert list(make_frame(found)["selected_on"]) == ["", "heldout"]
    assert not any("validation rows" in limit for limit in found.limits)


def test_validation_rows_choose_without_the_held_out_ones(read: Read) -> None:
    found = read((*DPO, add_selection("validation", 0.9)), (*IPO, add_selection("validation", 0.4)))
    assert found.notes[-1] == "Selected on validation rows: the held-out rows took no part in it."
    assert found.limits[-1] == "On the validation rows dpo is the best: its value here, 50%, was not chosen by."
    assert list(make_frame(found)["validation"]) == [0.4, 0.9]


def test_runs_that_nobody_selected_say_nothing_of_it(read: Read) -> None:
    assert not any("elected" in note for note in read(DPO, IPO).notes)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("dp", "no such setting. Did you mean dpo"),
        ("dpo", "name one of 'dpo beta=0.1', 'dpo beta=0.2'."),
        ("grpo", "it cannot be compared: preference_accuracy was not measured."),
    ],
)
def test_a_baseline_that_cannot_be_one_is_refused(read: Read, name: str, told: str) -> None:
    texts = [{**line, "chosen_tokens": None, "rejected_tokens": None} for line in lines(pairs(40))]
    several = name == "dpo"
    first = ("method=dpo method.beta=0.1", lines(pairs(30))) if several else ("method=dpo", lines(pairs(30)))
    second = ("method=dpo method.beta=0.2" if several else "method=grpo", lines(pairs(4)) if several else texts)
    with pytest.raises(UserError, match=told.split(".")[0]):
        read(first, second, against=name)


def test_a_setting_is_named_whole_where_its_method_has_several(read: Read) -> None:
    runs = [(f"method=dpo method.beta={beta}", lines(pairs(30))) for beta in (0.1, 0.2)]
    found = read(*runs, against="dpo beta=0.2")
    assert [row.setting for row in found.rows if row.baseline] == ["beta=0.2"]


def test_equal_within_a_distance_that_was_fixed_beforehand(read: Read) -> None:
    found = read(DPO, IPO, within=10)
    assert found.rows[1].equivalent
    assert found.verdict == "No clear winner: ipo and dpo are equal in preference accuracy within \u00b110.0 points."
    assert describe_difference(found.rows[1], found.by) == "-3 points, equal"


def test_not_equal_where_the_prompts_cannot_say_so(read: Read) -> None:
    found = read(DPO, IPO, within=3)
    assert not found.rows[1].equivalent
    assert "within noise" in found.verdict


def test_one_prompt_makes_no_winner(read: Read) -> None:
    found = read(("method=dpo", lines([1.0])), ("method=ipo", lines([-1.0])))
    assert found.rows[1].noise
    assert found.verdict.startswith("No clear winner: dpo and ipo are within noise")
    assert found.limits[0] == (
        "No difference can be told: 1 prompts are too few for 2 settings. At least 6 must differ."
    )


def test_five_prompts_that_all_agree_make_none_either(read: Read) -> None:
    """The exact sign-flip test has p = 1/16 at best."""
    assert read(("method=dpo", lines([1.0] * 5)), ("method=ipo", lines([-1.0] * 5))).rows[1].noise


def test_a_prompt_under_several_ids_is_one_prompt(read: Read) -> None:
    def repeat(right: int) -> list[dict[str, Any]]:
        """Eight prompts, each six times."""
        return [{**line, "prompt": f" why  {place // 6}?"} for place, line in enumerate(lines(pairs(right)))]

    found = read(("method=dpo", repeat(48)), ("method=ipo", repeat(18)))
    assert found.rows[1].noise, "30 rows differ, and 5 prompts"
    assert "8 prompts" in found.limits[0]


def test_the_limits_say_what_can_be_seen_and_of_what_it_holds(read: Read) -> None:
    found = read(DPO, KTO)
    assert found.limits[0].startswith("Smallest difference that 120 prompts show: ")
    assert found.limits[0].endswith(" points (80 % power, two-sided 5 %, one comparison).")
    assert found.limits[1].startswith("One seed each: ")
    assert found.limits[2].startswith("The best was chosen on these prompts")


def test_the_interval_of_a_difference_stands_in_points(read: Read) -> None:
    row = read(DPO, KTO).rows[1]
    assert row.difference is not None
    low, high = (round(100 * end) for end in (row.difference.low, row.difference.high))
    assert format_difference_interval(row, "preference_accuracy") == f"{low:+d} to {high:+d}"


START = {"start": {"folder": "a", "identity": "1"}}
OTHER = {"start": {"folder": "b", "identity": "2"}}


def test_another_start_model_is_kept_out_and_named(read: Read) -> None:
    other = lines(pairs(110, 120))
    for line in other:
        line["before"]["chosen"] -= 5
        line["after"]["chosen"] -= 5
    found = read((*DPO, START), (*KTO, START), ("method=orpo", other, OTHER))
    orpo = found.rows[0]
    assert orpo.kept_out == "another start model"
    assert list_warnings(orpo) == ["kept out of the verdict: another start model"]
    assert describe_difference(orpo, found.by) == "not compared"
    assert found.verdict.startswith("dpo wins: ")


def test_the_same_start_model_of_another_machine_is_not_another(read: Read) -> None:
    assert [row.kept_out for row in read((*DPO, START), (*KTO, OTHER)).rows] == ["", ""]


def test_another_limit_of_tokens_is_kept_out(read: Read) -> None:
    runs = [
        (f"{words} evaluate.max_new_tokens={limit}", said)
        for (words, said), limit in zip((DPO, IPO, KTO), (9, 64, 64), strict=True)
    ]
    assert {row.method: row.kept_out for row in read(*runs).rows} == {
        "dpo": "another evaluate.max_new_tokens",
        "ipo": "",
        "kto": "",
    }


def test_a_result_that_contradicts_its_answers_is_kept_out(read: Read, tmp_path: Path) -> None:
    read(DPO, IPO, KTO)
    file = tmp_path / "0-run" / "result.json"
    result = json.loads(file.read_text(encoding="utf-8"))
    result["after"]["preference_accuracy"] = 0.99
    file.write_text(json.dumps(result), encoding="utf-8")
    found = read_leaderboard([tmp_path])
    assert found.rows[0].kept_out == f"result.json of {tmp_path / '0-run'} contradicts its answers.jsonl"
    assert found.verdict.startswith("ipo wins: ")


def test_a_run_with_a_log_probability_that_is_not_a_number_has_no_result(read: Read, tmp_path: Path) -> None:
    read(DPO, IPO)
    broken = lines(pairs(60, 120))
    broken[3]["after"]["chosen"] = math.nan
    write_lines(tmp_path / "0-run" / "answers.jsonl", broken)
    found = read_leaderboard([tmp_path])
    assert [row.method for row in found.rows] == ["ipo"]
    assert found.failed[0].reason == "answers.jsonl cannot be read: line 4: chosen is nan."


def test_settings_that_do_not_share_all_prompts_are_compared_on_those_they_share(read: Read) -> None:
    found = read(DPO, ("method=kto", lines(pairs(20, 120))[:100]))
    assert [row.kept_out for row in found.rows] == ["", ""]
    assert "100 prompts" in found.limits[0]
    assert found.rows[1].difference is not None
    assert found.rows[1].difference.value == pytest.approx((20 - 60) / 100)
