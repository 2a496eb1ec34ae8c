"""What the test of a study says: planted truths, drawn without a model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from made_up import make_settings

from alignzoo.evaluate.intervals import Column
from alignzoo.study.answer import write_answer
from alignzoo.study.findings import Findings, compare_methods
from alignzoo.study.settings import START


def draw(shares: Mapping[str, float], prompts: int = 400, seeds: int = 3, seed: int = 0) -> dict[str, Column]:
    """Draw each method's shares, (seeds, prompts), of prompts that are as hard for all."""
    rng = np.random.default_rng(seed)
    hardness = rng.normal(0, 0.2, prompts)
    return {
        name: (rng.uniform(size=(1 if name == START else seeds, prompts)) < share + hardness).astype(float)
        for name, share in shares.items()
    }


def compare(shares: Mapping[str, float], prompts: int = 400, baseline: str = "", seed: int = 0) -> Findings:
    methods = tuple(name for name in shares if name != START)
    settings = make_settings(methods=methods, baseline=baseline or methods[0])
    return compare_methods(draw(shares, prompts, seed=seed), [str(one) for one in range(prompts)], settings)


def verdicts(findings: Findings) -> dict[str, str]:
    return {one.method: one.verdict for one in findings.methods}


def test_a_method_that_is_better_is_told_and_may_be_the_best_alone() -> None:
    found = compare({"dpo": 0.5, "simpo": 0.7, "kto": 0.5})
    assert verdicts(found)["simpo"] == "better"
    assert found.possible_best == ["simpo"]
    answer = write_answer(found, make_settings(methods=("dpo", "simpo", "kto"), baseline="dpo"), True)
    assert answer.startswith("simpo is the best in chosen more likely: it is ahead of each other method")
    assert "Beside dpo: simpo is better" in answer


def test_a_method_that_is_worse_is_told() -> None:
    found = compare({"dpo": 0.6, "simpo": 0.3})
    assert verdicts(found) == {"dpo": "", "simpo": "worse"}
    assert found.possible_best == ["dpo"]


def test_equal_methods_end_as_equal() -> None:
    found = compare({"dpo": 0.5, "other": 0.5}, prompts=4000)
    assert verdicts(found)["other"] == "equal"
    assert sorted(found.possible_best) == ["dpo", "other"]
    answer = write_answer(found, make_settings(methods=("dpo", "other")), True)
    assert "other is equal within ±5.0 points" in answer
    assert "ahead" not in answer


def test_the_same_answers_under_two_names_are_equal() -> None:
    values = draw({"dpo": 0.5})["dpo"]
    found = compare_methods(
        {"dpo": values, "other": values.copy()},
        [str(one) for one in range(400)],
        make_settings(methods=("dpo", "other")),
    )
    assert verdicts(found)["other"] == "equal"


def test_the_same_answers_are_equal_however_much_the_seeds_vary() -> None:
    rng = np.random.default_rng(0)
    values = (rng.uniform(size=(2, 100)) < np.array([[0.3], [0.8]])).astype(float)
    settings = make_settings(methods=("dpo", "other"))
    found = compare_methods({"dpo": values, "other": values}, [str(one) for one in range(100)], settings)
    assert verdicts(found)["other"] == "equal"
    assert found.smallest is None or found.smallest > 0.3  # of two methods that do differ


def test_a_few_prompts_on_which_nothing_differs_are_not_enough_to_call_methods_equal() -> None:
    for number in ("accuracy_sum", "reward"):
        within = 5.0 if number == "accuracy_sum" else 0.05
        settings = make_settings(number=number, methods=("dpo", "other"), equal_within=within)
        verdict = {}
        for prompts in (4, 30, 400):
            values = np.zeros((2, prompts))
            found = compare_methods({"dpo": values, "other": values}, [str(one) for one in range(prompts)], settings)
            verdict[prompts] = verdicts(found)["other"]
        assert (verdict[4], verdict[400]) == ("not distinguished", "equal")
        assert verdict[30] == ("not distinguished" if number == "accuracy_sum" else "equal")


def test_what_cannot_be_told_is_not_called_ahead() -> None:
    found = compare({"dpo": 0.5, "simpo": 0.55}, prompts=40)
    assert verdicts(found)["simpo"] == "not distinguished"
    answer = write_answer(found, make_settings(), True)
    assert answer.startswith("No single best")
    assert "ahead" not in answer


def test_the_start_model_can_be_the_baseline_and_is_never_the_best() -> None:
    found = compare({START: 0.5, "dpo": 0.7, "simpo": 0.7}, baseline=START)
    assert verdicts(found) == {START: "", "dpo": "better", "simpo": "better"}
    assert sorted(found.possible_best) == ["dpo", "simpo"]
    answer = write_answer(found, make_settings(baseline=START), True)
    assert "Beside the start model: " in answer
    assert "are better" in answer


def test_of_a_number_that_is_better_low_less_is_better() -> None:
    settings = make_settings(number="empty")
    found = compare_methods(draw({"dpo": 0.6, "simpo": 0.3}), [str(one) for one in range(400)], settings)
    assert verdicts(found)["simpo"] == "better"
    assert found.possible_best == ["simpo"]


def test_an_unfinished_test_is_provisional() -> None:
    found = compare({"dpo": 0.5, "simpo": 0.7})
    assert write_answer(found, make_settings(), False).startswith("Provisional, as runs of the test are missing: ")
    assert write_answer(None, make_settings(), False) == "The study runs: the test rows were not looked at yet."


def test_equal_methods_are_told_apart_in_at_most_5_percent_of_the_studies() -> None:
    studies, wrong, alone = 200, 0, 0
    for seed in range(studies):
        found = compare({"dpo": 0.5, "simpo": 0.5, "kto": 0.5, "ipo": 0.5}, prompts=100, seed=seed)
        wrong += any(one.verdict in ("better", "worse") for one in found.methods)
        alone += len(found.possible_best) < 4
    assert wrong <= 20  # 5 % is 10, with a standard error of 3.1
    assert alone <= 20
