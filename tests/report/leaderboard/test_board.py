"""The leaderboard: rows and seeds, what is noise, which data, who failed, and who may be called the winner."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from leaderboard_runs import COST, WORDS, lines, make_run, pairs, seen, started

from alignzoo.evaluate.intervals import Estimate
from alignzoo.report.leaderboard.board import Leaderboard, read_leaderboard
from alignzoo.report.leaderboard.seeds import fold
from alignzoo.system.errors import UserError

Board = Callable[..., Leaderboard]


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """Make runs, (overrides, answers) or (overrides, answers, result), and read them as a sweep."""

    def read(*runs: tuple[Any, ...], by: str | None = None) -> Leaderboard:
        for number, (overrides, answers, *result) in enumerate(runs):
            method = dict(word.split("=", 1) for word in overrides.split())["method"]
            make_run(tmp_path / f"{number}-{method}-m-d", overrides, answers, (), *result)
        return read_leaderboard([tmp_path], by)

    return read


def names(found: Leaderboard) -> list[str]:
    return [row.name for row in found.rows]


def test_best_first_and_the_objective_is_the_runs_own(board: Board) -> None:
    found = board(("method=ipo", lines(pairs(12))), ("method=dpo", lines(pairs(47))), ("method=kto", lines(pairs(24))))
    assert found.by == "preference_accuracy"
    assert names(found) == ["dpo", "kto", "ipo"]
    assert [row.best for row in found.rows] == [True, False, False]
    assert found.verdict.startswith("dpo wins: preference accuracy 98% (")
    assert found.rows[1].difference is not None
    assert found.rows[1].difference.value == pytest.approx((24 - 47) / 48)
    assert [row.noise for row in found.rows] == [None, False, False]


def test_rewards_that_differ_are_not_compared(board: Board) -> None:
    scored = [lines(pairs(24), {"reward": 0.0}, reward=0.1 * place) for place in range(4)]
    words = ["", "reward.length.words=9", "reward.length.words=9", "reward.length.words=9"]
    found = board(
        *((f"method=m{place} {word}".strip(), scored[place]) for place, word in enumerate(words)), by="reward"
    )
    assert [row.kept_out for row in found.rows] == ["", "", "", "another reward"]


def test_a_low_number_is_better_where_it_is(board: Board) -> None:
    some = lines(pairs(24))
    for line in some[:30]:
        line["after"] = {**line["after"], "text": ""}
    found = board(("method=dpo", some), ("method=ipo", lines(pairs(24))), by="empty")
    assert names(found) == ["ipo", "dpo"]


def test_a_number_without_a_better_way_has_no_winner(board: Board) -> None:
    found = board(("method=dpo", lines([3.0, 2.9])), ("method=ipo", lines([1.0, 1.1])), by="margin")
    assert names(found) == ["dpo", "ipo"]
    assert found.verdict == (
        "dpo has the highest margin (nats), +2.95 (+2.90 to +3.00); which way is better depends, so there is no winner."
    )


def test_settings_are_named_by_what_differs(board: Board) -> None:
    runs = [
        (f"method={m} method.beta={b} train.max_steps=5", lines(pairs(30))) for m in ("dpo", "ipo") for b in (0.1, 0.5)
    ]
    assert sorted(names(board(*runs))) == ["dpo beta=0.1", "dpo beta=0.5", "ipo beta=0.1", "ipo beta=0.5"]


def test_seeds_are_folded(board: Board) -> None:
    runs = [(f"method=dpo seed={seed}", lines(pairs(right, 40))) for seed, right in enumerate((20, 24, 28))]
    (row,) = board(*runs, ("method=ipo seed=0", lines(pairs(4, 40)))).rows[:1]
    assert (row.name, row.seeds) == ("dpo", 3)
    found = row.numbers["preference_accuracy"]
    assert found.value == pytest.approx((0.5 + 0.6 + 0.7) / 3)
    # Seeds: standard deviation 0.1, so 4.3027 x 0.1 / sqrt(3). Prompts: the mean width of the three Wilson intervals.
    seeds = 4.3027 * 0.1 / math.sqrt(3)
    ends = [run.result["intervals"]["preference_accuracy"] for run in row.runs if run.result]
    prompts = sum(value - low for value, (low, _) in zip((0.5, 0.6, 0.7), ends, strict=True)) / 3
    assert found.low == pytest.approx(found.value - math.hypot(seeds, prompts))
    assert row.cost["train_seconds"] == COST["train_seconds"]


def test_fold_by_hand() -> None:
    found = fold("margin", [Estimate(1.0, 0.7, 1.4), Estimate(3.0, 2.9, 3.2)])
    spread = 12.7062 * math.sqrt(2) / math.sqrt(2)
    assert found.value == 2.0
    assert found.low == pytest.approx(2 - math.hypot(0.2, spread))
    assert found.high == pytest.approx(2 + math.hypot(0.3, spread))
    one = Estimate(0.25, 0.125, 0.5)
    assert fold("margin", [one]) == one
    wide = fold("preference_accuracy", [Estimate(0.5, 0.4, 0.6), Estimate(0.9, 0.8, 1.0)])
    assert (wide.low, wide.high) == (0.0, 1.0), "a share stays one"


def test_a_seed_that_ran_twice_is_no_second_seed(board: Board) -> None:
    """Two identical runs are two rows, and equal."""
    same = lines(pairs(30))
    found = board(("method=dpo seed=3", same), ("method=dpo seed=3", same))
    assert [row.seeds for row in found.rows] == [1, 1]
    assert found.rows[1].equal
    assert found.rows[1].noise
    assert found.verdict.startswith("No clear winner: dpo (")
    assert "are equal in preference accuracy, 62% (" in found.verdict


def test_noise_is_told_by_the_paired_difference(board: Board) -> None:
    """46 of 48 against 39: the intervals overlap either way; whether it is noise depends on which prompts differ."""
    found = board(("method=dpo", lines(pairs(46))), ("method=ipo", lines(pairs(39))))
    assert found.rows[0].numbers["preference_accuracy"].low < found.rows[1].numbers["preference_accuracy"].high
    assert found.rows[1].noise is False


def test_the_same_difference_on_more_prompts_that_differ_is_noise(board: Board) -> None:
    shifted = lines(pairs(40)[20:] + pairs(40)[:20])
    assert board(("method=dpo", lines(pairs(45))), ("method=ipo", shifted)).rows[1].noise


def test_within_noise_there_is_no_clear_winner(board: Board) -> None:
    found = board(("method=dpo", lines(pairs(41))), ("method=ipo", lines(pairs(40))), ("method=kto", lines(pairs(4))))
    assert [row.noise for row in found.rows] == [None, True, False]
    assert found.verdict.startswith(
        "No clear winner: dpo and ipo are within noise in preference accuracy, and each may be the best."
    )


@pytest.mark.parametrize(
    ("third", "verdict"),
    [
        (40, "dpo, ipo and kto are within noise in preference accuracy, and each may be the best."),
        (4, "dpo and ipo are within noise in preference accuracy, all 85% ("),
    ],
)
def test_what_is_within_noise_is_never_called_ahead(board: Board, third: int, verdict: str) -> None:
    """Right on other prompts each, so that they are not equal."""
    other = pairs(41)[5:] + pairs(41)[:5]
    found = board(("method=dpo", lines(pairs(41))), ("method=ipo", lines(other)), ("method=kto", lines(pairs(third))))
    assert found.verdict.startswith(f"No clear winner: {verdict}")
    assert "ahead" not in found.verdict


def test_spread_of_seeds_makes_a_difference_noise(board: Board) -> None:
    runs = [("method=dpo seed=0", 46), ("method=dpo seed=1", 26), ("method=ipo seed=0", 28), ("method=ipo seed=1", 27)]
    found = board(*((words, lines(pairs(right))) for words, right in runs))
    # dpo 46 and 26, ipo 28 and 27 of 48: 8.5 / 48 apart, but dpo's seeds are 20 / 48 apart.
    (ipo,) = found.rows[1:]
    assert ipo.difference is not None
    assert ipo.difference.value == pytest.approx(-8.5 / 48)
    spread = 4.3027 * math.sqrt((20**2 / 2 + 1 / 2) / 2) / 48
    assert ipo.difference.high > ipo.difference.value + 0.9 * spread
    assert ipo.noise


def test_prompts_are_shared_by_text_and_not_by_number(board: Board) -> None:
    a, b = lines(pairs(3, 4)), lines(pairs(2, 4))
    for line in b:
        line["prompt"] += " And how?"
    found = board(("method=dpo", a), ("method=ipo", b))
    assert [row.kept_out for row in found.rows] == ["", "other held-out prompts"]


def test_other_held_out_prompts_cannot_be_compared(board: Board) -> None:
    other = [{**line, "prompt": "Who?"} for line in lines(pairs(20))]
    data = {"data": {"train": "t0", "heldout": "h1"}}
    found = board(("method=dpo", lines(pairs(40))), ("method=ipo", other, data))
    assert found.rows[1].other_data == "held-out rows"
    assert found.rows[1].kept_out == "other held-out prompts"
    assert found.verdict.startswith("dpo has nothing to be compared with: ")


def test_other_training_rows_are_marked(board: Board) -> None:
    data = {"data": {"train": "t1", "heldout": "h0"}}
    found = board(
        ("method=dpo", lines(pairs(40)), data), ("method=ipo", lines(pairs(30))), ("method=kto", lines(pairs(4)))
    )
    assert {row.name: row.other_data for row in found.rows} == {"dpo": "training rows", "ipo": "", "kto": ""}
    assert found.notes == ["Not all settings had the same training rows: dpo. `alignzoo manifest RUN RUN` names them."]
    assert found.verdict.endswith("it had other training rows than the others.")


def test_seeds_that_draw_their_rows_are_compared_seed_by_seed(board: Board) -> None:
    runs = [
        (f"method={m} seed={s}", lines(pairs(30)), {"data": {"train": f"t{s}", "heldout": "h0"}})
        for m in ("dpo", "ipo")
        for s in (0, 1)
    ]
    assert board(*runs).notes == []


def test_other_training_rows_of_the_same_seeds_are_marked(board: Board) -> None:
    runs = [
        (f"method={m} seed={s}", lines(pairs(right)), {"data": {"train": f"t{(s + swapped) % 2}", "heldout": "h0"}})
        for m, right, swapped in (("dpo", 40, 0), ("ipo", 30, 0), ("kto", 20, 1))
        for s in (0, 1)
    ]
    assert [row.other_data for row in board(*runs).rows] == ["", "", "training rows"]


def test_the_same_data_is_not_remarked_upon(board: Board) -> None:
    found = board(("method=dpo", lines(pairs(40))), ("method=ipo", lines(pairs(30))))
    assert found.notes == []
    assert {row.other_data for row in found.rows} == {""}


def test_failed_and_unfinished_members_are_listed(board: Board, tmp_path: Path) -> None:
    started(tmp_path / "7-ipo-m-d", "method=ipo seed=2")
    started(tmp_path / "8-kto-m-d", "method=kto seed=0")
    (tmp_path / "8-kto-m-d" / "error.txt").write_text("the loss is not finite\n", encoding="utf-8")
    make_run(tmp_path / "9-orpo-m-d", "method=orpo seed=0", lines(pairs(3)))
    (tmp_path / "9-orpo-m-d" / "result.json").write_text("{", encoding="utf-8")
    (tmp_path / "multirun.yaml").touch()
    (tmp_path / "10-sft-m-d").mkdir()
    found = board(("method=dpo seed=0", lines(pairs(40))))
    assert names(found) == ["dpo"]
    reasons = {failed.name: failed.reason for failed in found.failed}
    assert reasons["ipo seed=2"] == "did not finish"
    assert reasons["kto seed=0"] == "the loss is not finite"
    assert reasons["orpo seed=0"].startswith("result.json cannot be read")
    assert reasons["sft 10-sft-m-d"] == "did not finish"
    assert len(found.runs) == 5


def test_runs_measured_without_intervals_are_listed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "0-dpo", "method=dpo", lines(pairs(3)), (), {"intervals": {}})
    (failed,) = read_leaderboard([tmp_path]).failed
    assert failed.reason == f"its numbers have no intervals: `alignzoo evaluate {run} --save` measures it again"


def test_where_none_finished_there_is_no_winner(tmp_path: Path) -> None:
    started(tmp_path / "0", "method=dpo")
    found = read_leaderboard([tmp_path])
    assert (found.rows, found.verdict) == ([], "No run finished.")
    assert [failed.reason for failed in found.failed] == ["did not finish"]


COLLAPSES = {
    "completions are empty": {"text": "", "tokens": 0},
    "completions are cut off": {"ended": False},
    "completions repeat themselves": {"text": "the rain " * 20},
    "the model is far from its start": {"kl": 11.0},
    "completions refuse": {"text": "I'm sorry, but I cannot say why it rains."},
    "completions are too long": {"tokens": 90},
    "completions are too short": {"tokens": 2},
}


@pytest.mark.parametrize("told", COLLAPSES)
def test_what_collapsed_is_never_the_winner_silently(board: Board, told: str) -> None:
    found = board(
        ("method=dpo", lines(pairs(48), **COLLAPSES[told])),
        ("method=ipo", lines(pairs(40))),
        ("method=kto", lines(pairs(4))),
    )
    dpo, ipo, _ = found.rows
    assert not dpo.best
    assert ipo.best
    assert dpo.collapsed is not None
    assert dpo.collapsed.brief == f"collapsed: {told}"
    assert dpo.collapsed.full.startswith(f"collapsed: preference accuracy is 100%, but {told} (")
    assert found.verdict.startswith("ipo wins of those that did not collapse: preference accuracy 83% (")
    leads = "dpo has the highest preference accuracy, 100% (93% to 100%)"
    assert found.verdict.endswith(f"no other is within noise. {leads}, but collapsed: {told}.")


@pytest.mark.parametrize(
    ("told", "count", "after"),
    [
        ("completions are empty", 5, {"text": ""}),  # 5 of 48 are more than a tenth
        ("completions are cut off", 10, {"ended": False}),  # 10 of 48 are more than a fifth
    ],
)
def test_how_many_answers_are_a_collapse(board: Board, told: str, count: int, after: dict[str, Any]) -> None:
    some = lines(pairs(48))
    for line in some[:count]:
        line["after"] = {**line["after"], **after}
    fewer = [some[-1] | {"id": "p0", "prompt": "Why 0?"}, *some[1:]]
    found = {row.method: row.collapsed for row in board(("method=dpo", some), ("method=ipo", fewer)).rows}
    assert found["dpo"] is not None
    assert found["dpo"].brief == f"collapsed: {told}"
    assert found["ipo"] is None


@pytest.mark.parametrize(("again", "repeats"), [(3, False), (4, True)])
def test_how_much_repetition_is_a_collapse(board: Board, again: int, repeats: bool) -> None:
    """Twelve words are ten triples; three more words repeat one of 13 (8 %), four repeat two of 14 (14 %)."""
    text = " ".join([*WORDS, *WORDS[:again]])
    assert (board(("method=dpo", lines(pairs(48), text=text))).rows[0].collapsed is not None) is repeats


def test_a_collapsed_setting_is_not_a_rival(board: Board) -> None:
    """It is within noise of the best, and keeps it from winning only if its completions are whole."""
    runs = [("method=dpo", lines(pairs(41))), ("method=kto", lines(pairs(4)))]
    found = board(*runs, ("method=ipo", lines(pairs(40), ended=False)))
    assert [(row.name, row.noise) for row in found.rows] == [("dpo", None), ("ipo", True), ("kto", False)]
    assert found.verdict.startswith("dpo wins: preference accuracy 85% (")


def test_where_all_collapsed_the_first_is_shown_with_the_warning(board: Board) -> None:
    found = board(*((f"method={m}", lines(pairs(48), ended=False)) for m in ("dpo", "ipo")))
    assert found.rows[0].best
    assert found.verdict.startswith("No winner: every setting collapsed. dpo has the highest")
    assert found.verdict.endswith("collapsed: completions are cut off.")


def test_one_collapsed_seed_is_enough(board: Board) -> None:
    found = board(
        ("method=dpo seed=0", lines(pairs(48))),
        ("method=dpo seed=1", lines(pairs(48), ended=False)),
        ("method=ipo seed=0", lines(pairs(30))),
    )
    assert found.rows[0].collapsed is not None
    assert found.rows[0].collapsed.brief == "collapsed: completions are cut off (1 of 2 seeds)"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"ended": False}, {"ended": False}),  # the start model was cut off too
        ({"text": "a b c a b c a b c"}, {"text": "a b c a b c a b c"}),
        ({}, {"kl": 9.0}),
    ],
)
def test_what_the_start_model_did_too_is_no_collapse(board: Board, before: Any, after: Any) -> None:
    assert board(("method=dpo", lines(pairs(48), before, **after))).rows[0].collapsed is None


def test_unknown_numbers_are_refused(board: Board) -> None:
    with pytest.raises(UserError, match=r"--by margn: no such number\. Did you mean margin"):
        board(("method=dpo", lines(pairs(3))), by="margn")


def test_a_number_that_none_measured_is_refused(board: Board) -> None:
    with pytest.raises(UserError, match=r"--by win_rate: no run measured it\. Measured: preference_accuracy, "):
        board(("method=dpo", lines(pairs(3))), by="win_rate")


def test_what_lacks_the_number_stands_last(board: Board) -> None:
    texts = [{**line, "chosen_tokens": None, "rejected_tokens": None} for line in lines(pairs(40))]
    found = board(("method=grpo", texts), ("method=dpo", lines(pairs(4))))
    assert names(found) == ["dpo", "grpo"]
    assert found.rows[1].difference is None


def test_runs_with_different_objectives_are_told(board: Board) -> None:
    found = board(("method=dpo", lines(pairs(40))), ("method=ipo", lines(pairs(4)), {"objective": "margin"}))
    assert found.notes[0].startswith("The runs have different objectives (preference_accuracy, margin)")


def test_folders_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no runs: name run folders"):
        read_leaderboard([tmp_path])
    with pytest.raises(UserError, match="is not a folder"):
        read_leaderboard([tmp_path / "nowhere"])


def test_runs_are_found_below_and_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "sweeps" / "today" / "noon" / "0-dpo", "method=dpo", lines(pairs(3)))
    found = read_leaderboard([tmp_path, run, run.parent])
    assert [row.runs[0].folder for row in found.rows] == [run]


def test_members_come_by_number(tmp_path: Path) -> None:
    for number in (10, 9, 2):
        started(tmp_path / f"{number}-dpo", f"method=dpo seed={number}")
    assert [failed.setting for failed in read_leaderboard([tmp_path]).failed] == ["seed=2", "seed=9", "seed=10"]


def test_a_line_makes_what_it_says() -> None:
    assert seen(-1.0, -2.0)["text"].split()[0] == "rain"
    assert [line["after"]["chosen"] for line in lines([1.0, -1.0])] == [-9.0, -11.0]
