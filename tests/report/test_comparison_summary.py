"""What changed between two columns, axis by axis, and what so few prompts can and cannot show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignzoo.evaluate.comparison import ComparedRun, compare, read_runs
from alignzoo.evaluate.intervals import count_wins_needed
from alignzoo.plugin.registry import registry
from alignzoo.report.comparison_summary import AxisChange, describe_limits, summarise_pair

LONG = "Rain falls when drops in a cloud grow heavy, and it is of use to people and to plants."
SHORT = "Rain falls when drops in a cloud grow heavy."
REFUSAL = "I'm sorry, but I cannot help with that question about the rain."


def make_run(folder: Path, texts: list[str], start: str = "", rewards: list[float] | None = None) -> ComparedRun:
    """Write and read a run whose completions are ``texts``, the start model's all :data:`LONG`."""
    folder.mkdir()
    lines = []
    for number, text in enumerate(texts):
        measured = {"tokens": 9, "ended": True, "reward": rewards[number] if rewards else None}
        sides = {"before": {"text": LONG, **measured}, "after": {"text": text, **measured}}
        lines.append({"id": f"p{number}", "prompt": f"Why rain {number}?", **sides})
    (folder / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "run.yaml").write_text("reward: {conciseness: {weight: 1.0}}\n")
    result = {"method": folder.name, "start": {"folder": start}, "before": {}, "after": {}, "cost": {}}
    (folder / "result.json").write_text(json.dumps(result))
    return read_runs([folder])[0][0]


def compare_pair(tmp_path: Path, first: list[str], second: list[str], *judges: str) -> dict[str, Any]:
    sft = make_run(tmp_path / "sft", first)
    dpo = make_run(tmp_path / "dpo", second, start=str(sft.folder / "model"))
    return compare([sft, dpo], [registry().judge(name)() for name in judges])


def find(report: dict[str, Any], label: str) -> AxisChange:
    return next(row for row in summarise_pair(report) if row.label == label)


def test_the_change_is_that_from_the_first_run_to_the_second(tmp_path: Path) -> None:
    """Both differ from the start model in the same way, so that nothing changed between them."""
    report = compare_pair(tmp_path, [SHORT] * 10, [SHORT] * 10)
    words = find(report, "words per completion")
    assert (words.before, words.after, words.change, words.verdict) == ("9", "9", "+0", "no change")
    since = next(axis for axis in report["axes"] if axis["key"] == "words")["changes"]
    assert [change and change["value"] for change in since] == [None, -10, -10]


def test_what_is_rounded_to_zero_has_no_sign(tmp_path: Path) -> None:
    longer = [LONG, *[SHORT] * 9]
    words = find(compare_pair(tmp_path, longer, [LONG.removesuffix("plants."), *longer[1:]]), "words per completion")
    assert (words.change, words.verdict) == ("+0", "may be chance")


def test_a_change_on_ten_prompts_is_told_with_its_interval(tmp_path: Path) -> None:
    words = find(compare_pair(tmp_path, [LONG] * 10, [SHORT] * 10), "words per completion")
    assert (words.before, words.after, words.change, words.verdict) == ("19", "9", "-10", "changed")
    low, high = map(float, words.interval.split(" to "))
    assert low < -10 < high < 0


@pytest.mark.parametrize(("refusing", "verdict"), [(1, "may be chance"), (3, "may be chance"), (9, "changed")])
def test_few_refusals_more_may_be_chance(tmp_path: Path, refusing: int, verdict: str) -> None:
    report = compare_pair(tmp_path, [LONG] * 10, [REFUSAL] * refusing + [LONG] * (10 - refusing))
    row = find(report, "begin as a refusal")
    assert (row.group, row.before, row.after) == ("refusal style", "0%", f"{refusing}0%")
    assert (row.change, row.verdict) == (f"+{refusing}0 points", verdict)


def test_the_rule_judges_conciseness_and_helpfulness_is_not_judged(tmp_path: Path) -> None:
    report = compare_pair(tmp_path, [LONG] * 10, [SHORT] * 9 + [LONG], "rule")
    rows = {row.label: row for row in summarise_pair(report)}
    judge = rows["judge rule"]
    assert (judge.group, judge.change, judge.verdict) == ("conciseness", "9 won, 0 lost", "changed")
    assert judge.interval == "66% to 99%", "Wilson's of 9.5 of 10, of the second run"
    assert rows["helpfulness by a judge"].verdict == "not judged"


def test_a_judge_who_prefers_the_first_run_counts_against_the_second(tmp_path: Path) -> None:
    judge = find(compare_pair(tmp_path, [SHORT] * 4 + [LONG] * 6, [LONG] * 10, "rule"), "judge rule")
    assert (judge.change, judge.verdict, judge.visible) == ("0 won, 4 lost", "may be chance", "9 won")


def test_another_judge_judges_helpfulness(tmp_path: Path) -> None:
    report = compare_pair(tmp_path, [LONG] * 10, [SHORT] * 10, "rule")
    assert next(describe_limits(report)).startswith("Helpfulness was not judged: ")
    report["judges"][0]["name"] = "pairwise_lm"
    assert not next(describe_limits(report)).startswith("Helpfulness was not judged: ")
    for entry in report["wins"]:
        entry["judge"] = "pairwise_lm"
    assert [row.label for row in summarise_pair(report) if row.group == "helpfulness"] == ["judge pairwise_lm"]


def test_of_one_run_the_change_is_that_since_the_start(tmp_path: Path) -> None:
    words = find(compare([make_run(tmp_path / "dpo", [SHORT] * 10)]), "words per completion")
    assert (words.before, words.after, words.change) == ("19", "9", "-10")


def test_of_three_runs_nothing_is_summarised(tmp_path: Path) -> None:
    assert summarise_pair(compare([make_run(tmp_path / name, [SHORT]) for name in ("sft", "dpo", "ipo")])) == []


@pytest.mark.parametrize("prompts", [6, 10, 40])
def test_the_visible_change_is_larger_than_what_the_interval_leaves_open(tmp_path: Path, prompts: int) -> None:
    """Of a share that did not change: four fifths of such comparisons would show that much, so it lies outside."""
    row = find(compare_pair(tmp_path, [LONG] * prompts, [LONG] * prompts), "begin as a refusal")
    high = float(row.interval.split(" to ")[1])
    assert high < float(row.visible.removesuffix(" points")) <= 100


def test_fewer_than_six_prompts_show_nothing(tmp_path: Path) -> None:
    report = compare_pair(tmp_path, [LONG] * 5, [SHORT] * 5, "rule")
    assert {row.visible for row in summarise_pair(report)} == {"none", ""}
    assert not any(row.verdict == "changed" for row in summarise_pair(report))
    assert list(describe_limits(report))[1:] == [
        "5 prompts cannot tell any change from chance: at least 6 must change."
    ]


def test_what_ten_prompts_can_and_cannot_show_is_said(tmp_path: Path) -> None:
    text = " ".join(describe_limits(compare_pair(tmp_path, [LONG] * 10, [SHORT] * 10, "rule")))
    assert "more than chance from 9 of 10 prompts won" in text
    assert "a share of 0% on 10 prompts may be up to 28%" in text
    assert "none of the 10 changed, chance alone would mark one on up to 50%" in text


def test_wins_that_are_needed_are_those_that_the_sign_test_takes() -> None:
    assert [count_wins_needed(count) for count in (0, 1, 5, 6, 10, 20)] == [None, None, None, 6, 9, 15]


def test_a_run_that_began_with_the_others_model_bears_both_methods(tmp_path: Path) -> None:
    report = compare_pair(tmp_path, [LONG], [SHORT])
    assert [column["method"] for column in report["columns"]] == ["", "sft", "sft + dpo"]


def test_the_reward_is_an_axis_where_all_were_scored_by_the_same(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, [SHORT] * 2, rewards=[0.2, 0.6]) for name in ("sft", "dpo")]
    (axis,) = (axis for axis in compare(runs)["axes"] if axis["group"] == "reward")
    assert (axis["label"], axis["values"][1]["value"]) == ("conciseness", pytest.approx(0.4))
    (runs[1].folder / "run.yaml").write_text("reward: {length: {weight: 1.0}}\n")
    changed = read_runs([run.folder for run in runs])[0]
    assert not any(axis["group"] == "reward" for axis in compare(changed)["axes"])
