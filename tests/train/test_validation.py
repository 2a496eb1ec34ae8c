"""A run with rows to select on: both kinds of rows are measured in the same way, and sweeps see these alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from inprocess import Outcome, call, run
from omegaconf import DictConfig, open_dict

from alignzoo.config.check import check
from alignzoo.runs.folder import Run
from alignzoo.system.errors import UserError

WORDS = (
    *("model=tiny", "dataset.rows=8", "evaluate.rows=3", "evaluate.max_new_tokens=4", "method.learning_rate=0.001"),
    "evaluate.objective=preference_accuracy",
)
VALIDATION = "dataset.validation.fraction=0.2"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """One run with validation rows."""
    outcome = run(tmp_path_factory.mktemp("runs") / "run", *WORDS, VALIDATION)
    assert outcome.code == 0, outcome.err
    return outcome


def read_lines(folder: Path, name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_both_kinds_of_rows_are_measured_alike(done: Outcome) -> None:
    result = done.result()
    assert result["validation"].keys() == {"before", "after", "intervals"}
    assert all(result["validation"][side].keys() == result[side].keys() for side in ("before", "after", "intervals"))
    held, validation = (read_lines(done.folder, f"{name}.jsonl") for name in ("answers", "validation"))
    assert len(held) == len(validation) == 3
    assert [line.keys() for line in held] == [line.keys() for line in validation]
    assert not {line["prompt"] for line in held} & {line["prompt"] for line in validation}
    assert result["rows"]["validation"] > 10
    assert result["data"].keys() == {"train", "heldout", "validation"}
    assert "for validation" in done.out
    assert "validation rows" in done.out


def test_who_selects_gets_the_number_of_the_validation_rows(done: Outcome) -> None:
    found = done.result()
    assert Run(done.folder).objective == found["validation"]["after"][found["objective"]]


def test_the_run_is_measured_again_on_both(done: Outcome, tmp_path: Path) -> None:
    shutil.copytree(done.folder, tmp_path / "run")
    again = call("evaluate", str(tmp_path / "run"), "evaluate.rows=2", "--save", folder=tmp_path / "run")
    assert again.code == 0, again.err
    assert [len(read_lines(again.folder, f"{name}.jsonl")) for name in ("answers", "validation")] == [2, 2]
    assert again.result()["validation"]["after"]["margin"] != done.result()["validation"]["after"]["margin"]


def test_a_run_without_validation_rows_says_nothing_of_them(tmp_path: Path) -> None:
    """So does one of an older version."""
    outcome = run(tmp_path / "run", *WORDS, "dataset.rows=4")
    assert outcome.code == 0, outcome.err
    result = outcome.result()
    assert "validation" not in result
    assert result["data"].keys() == {"train", "heldout"}
    assert not (tmp_path / "run" / "validation.jsonl").exists()
    assert Run(tmp_path / "run").objective == result["after"][result["objective"]]


BEST = (
    *("+train.load_best_model_at_end=true", "+train.eval_strategy=steps", "+train.eval_steps=1"),
    *("train.save_strategy=steps", "train.save_steps=1", "train.max_steps=2"),
)


@pytest.mark.parametrize(
    ("words", "side", "told"),
    [((), "heldout", "Selected on these rows: "), ((VALIDATION,), "validation", "Selected on validation rows: ")],
)
def test_a_run_that_chooses_among_its_checkpoints_says_by_which_rows(
    tmp_path: Path, words: tuple[str, ...], side: str, told: str
) -> None:
    outcome = run(tmp_path / "run", *WORDS, *BEST, *words)
    assert outcome.code == 0, outcome.err
    assert outcome.result()["selected_on"] == side
    assert told in outcome.out


def test_the_configuration_of_an_older_run_gets_the_new_groups(compose_config: Callable[..., DictConfig]) -> None:
    cfg, now = compose_config(*WORDS), compose_config(*WORDS)
    with open_dict(cfg):
        del cfg["prune"], cfg["average"], cfg.dataset["validation"]
    assert check(cfg).cfg == now


@pytest.mark.parametrize(
    ("damaged", "problem"),
    [
        ([], "its validation is a list"),
        ({"before": {}, "after": {"kl": 1.0}}, "its before lacks kl"),
        ({"before": {"kl": 0.0}, "after": {"kl": None}}, "kl after is missing"),
    ],
)
def test_damaged_numbers_on_validation_rows_are_refused(tmp_path: Path, damaged: object, problem: str) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"before": {}, "after": {}, "validation": damaged}))
    with pytest.raises(UserError, match=problem):
        Run(tmp_path).read_result()
