"""How much a run trains on: by hand for each format and unit, and as many updates as the plan says in real runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICK
from datasets import Dataset
from inprocess import Outcome, run
from omegaconf import DictConfig, OmegaConf

from alignzoo import DataFormat, UserError
from alignzoo.config.checked import Checked
from alignzoo.plan.budget import Plan, make_plan, measure_mean_length
from alignzoo.plugin.method import Method

P, U, S, Q = DataFormat.PREFERENCE, DataFormat.UNPAIRED, DataFormat.SUPERVISED, DataFormat.PROMPTS

#: A prompt of 3 tokens and answers of 5 and 2: on average 6.5 tokens in a sequence of DPO, 8 in one of SFT.
PROMPT, CHOSEN, REJECTED = [1] * 3, [2] * 5, [3] * 2


def rows(data: DataFormat, count: int) -> Dataset:
    """Return what ``count`` pairs give a method that trains on ``data``."""
    pair = {"prompt_ids": PROMPT, "chosen_ids": CHOSEN, "rejected_ids": REJECTED}
    answers = [{"prompt_ids": PROMPT, "completion_ids": ids} for ids in (CHOSEN, REJECTED)]
    made = {
        P: [pair] * count,
        U: answers * count,
        S: [{"input_ids": PROMPT + CHOSEN, "labels": [-100] * 3 + CHOSEN}] * count,
        Q: [{"prompt": "?"}] * count,
    }
    return Dataset.from_list(made[data])


def config(batch: int = 4, epochs: float = 1, max_steps: int = -1, group: int = 1, **budget: Any) -> DictConfig:
    none = dict.fromkeys(("pairs", "sequences", "tokens"))
    return OmegaConf.create(
        {
            "method": {"name": "this", "num_generations": group, "max_completion_length": 20},
            "train": {
                "global_batch_size": batch,
                "per_device_batch_size": batch,
                "per_device_batch_tokens": None,
                "num_train_epochs": epochs,
                "max_steps": max_steps,
                "budget": none | budget,
            },
            "strategy": {"processes": 1, "nodes": 1, "device": "cpu"},
        }
    )


def checked(cfg: DictConfig, data: DataFormat) -> Checked:
    class This(Method):
        pass

    This.data = data
    return Checked(cfg, This, time_limit=None, patience=0.0)


def plan(data: DataFormat, count: int = 12, **settings: Any) -> Plan:
    return make_plan(checked(config(**settings), data), rows(data, count), prompt_tokens=3.0)


def test_a_gold_completion_is_a_third_sequence_of_a_pair() -> None:
    class Third(Method):
        data = P

        @classmethod
        def further_columns(cls, cfg: DictConfig) -> Mapping[str, bool]:
            return {"gold_ids": True}

    gold = rows(P, 12).add_column("gold_ids", [[4] * 8] * 12)
    found = make_plan(Checked(config(), Third, time_limit=None, patience=0.0), gold, prompt_tokens=3.0)
    assert (found.updates, found.sequences, found.tokens) == (3, 36, 12 * (3 * 3 + 5 + 2 + 8))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # 12 pairs in batches of 4 rows
        (P, Plan(rows=12, updates=3, sequences=24, tokens=24 * 13 // 2, exact=True)),
        (U, Plan(rows=24, updates=6, sequences=24, tokens=24 * 13 // 2, exact=True)),
        (S, Plan(rows=12, updates=3, sequences=12, tokens=12 * 8, exact=True)),
        (Q, Plan(rows=12, updates=3, sequences=12, tokens=12 * 23, exact=False)),
    ],
    ids=str,
)
def test_one_epoch(data: DataFormat, expected: Plan) -> None:
    assert plan(data) == expected


@pytest.mark.parametrize(("data", "updates"), [(P, 9), (U, 18), (S, 9), (Q, 9)])
def test_epochs(data: DataFormat, updates: int) -> None:
    one, three = plan(data), plan(data, epochs=3)
    assert three.updates == updates == 3 * one.updates
    assert three.sequences == 3 * one.sequences
    assert three.tokens == 3 * one.tokens


def test_a_group_is_sampled_for_each_prompt() -> None:
    """A batch of 8 answers holds the groups of 4 of two prompts."""
    assert plan(Q, batch=8, group=4) == Plan(12, updates=6, sequences=48, tokens=48 * 23, exact=False)


@pytest.mark.parametrize(("sampled", "updates"), [(None, 3), (4, 3), (8, 2), (12, 3)])
def test_answers_are_sampled_for_several_updates_at_a_time(sampled: int | None, updates: int) -> None:
    """Of 12 prompts, 8 at a time leave 4 out; the 8 make two updates of 4 answers."""
    cfg = config(batch=4)
    cfg.method.generation_batch_size = sampled
    found = make_plan(checked(cfg, Q), rows(Q, 12), prompt_tokens=3.0)
    assert (found.updates, found.sequences) == (updates, 4 * updates)


@pytest.mark.parametrize(("steps", "updates", "sequences"), [(None, 3, 12), (1, 3, 12), (4, 2, 8), (5, 3, 10)])
def test_answers_are_sampled_for_steps_of_a_process(steps: int | None, updates: int, sequences: int) -> None:
    """An update takes 4 answers in two steps of 2; 5 steps sample 10 of 12, and leave half an update at the end."""
    cfg = config(batch=4)
    cfg.train.per_device_batch_size = 2
    cfg.method.steps_per_generation = steps
    found = make_plan(checked(cfg, Q), rows(Q, 12), prompt_tokens=3.0)
    assert (found.updates, found.sequences) == (updates, sequences)


def test_fewer_prompts_than_are_sampled_at_a_time_are_refused() -> None:
    cfg = config(batch=4)
    cfg.method.generation_batch_size = 16
    with pytest.raises(UserError, match=r"one batch takes 16 \(method.generation_batch_size over"):
        make_plan(checked(cfg, Q), rows(Q, 12), prompt_tokens=3.0)


def test_lengths_are_means_over_the_rows() -> None:
    mixed = Dataset.from_list(
        [
            {"prompt_ids": [1], "chosen_ids": [1] * 4, "rejected_ids": [1] * 6},
            {"prompt_ids": [1] * 3, "chosen_ids": [1] * 2, "rejected_ids": [1] * 8},
        ]
    )
    assert measure_mean_length(mixed, "prompt_ids") == 2
    assert make_plan(checked(config(batch=2), P), mixed, 2.0).tokens == (1 + 4) + (1 + 6) + (3 + 2) + (3 + 8)


def test_length_of_nothing_is_zero() -> None:
    assert measure_mean_length(Dataset.from_list([{"ids": [1]}]).select([]), "ids") == 0


@pytest.mark.parametrize("data", [P, U, S, Q])
def test_max_steps_wins_over_epochs(data: DataFormat) -> None:
    found = plan(data, max_steps=5, epochs=3)
    assert found.updates == 5
    assert found.bound == -1, "the trainer is given train.max_steps itself"


@pytest.mark.parametrize(
    ("data", "unit", "amount", "updates"),
    [
        # batches of 4: 4 pairs, 8 sequences, 52 tokens an update
        (P, "pairs", 8, 2),
        (P, "pairs", 11, 2),
        (P, "sequences", 16, 2),
        (P, "sequences", 23, 2),
        (P, "tokens", 104, 2),
        (P, "tokens", 155, 2),
        # 4 answers are 2 pairs, 4 sequences, 26 tokens
        (U, "pairs", 8, 4),
        (U, "sequences", 16, 4),
        (U, "tokens", 104, 4),
        # 4 answers, each of a pair of its own, 32 tokens
        (S, "pairs", 8, 2),
        (S, "sequences", 16, 4),
        (S, "tokens", 104, 3),
        # 4 sampled answers of at most 23 tokens
        (Q, "sequences", 16, 4),
        (Q, "tokens", 200, 2),
    ],
)
def test_budget(data: DataFormat, unit: str, amount: int, updates: int) -> None:
    found = plan(data, 100, **{unit: amount})
    assert found.updates == found.bound == updates
    used = {"sequences": found.sequences, "tokens": found.tokens}.get(unit, amount)
    assert used <= amount


def test_equal_budgets_of_one_dataset_are_equal_amounts() -> None:
    """One epoch of 12 pairs is 24 sequences for DPO and KTO, 12 for SFT; a budget makes them 16 for all."""
    assert [plan(data).sequences for data in (P, U, S)] == [24, 24, 12]
    bounded = [plan(data, sequences=16) for data in (P, U, S)]
    assert [found.sequences for found in bounded] == [16, 16, 16]
    assert [found.updates for found in bounded] == [2, 4, 4]
    assert bounded[0].tokens == bounded[1].tokens, "the same answers, paired or not"


def test_a_budget_can_be_more_than_one_epoch() -> None:
    assert plan(P, 4, sequences=80).updates == 10


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        (P, {"pairs": 3}, "train.budget.pairs=3 is less than one step, which takes 4 pairs."),
        (U, {"pairs": 1}, "train.budget.pairs=1 is less than one step, which takes 2 pairs."),
        (P, {"sequences": 7}, "train.budget.sequences=7 is less than one step, which takes 8 sequences."),
        (P, {"sequences": 0}, "train.budget.sequences=0 is less than one step, which takes 8 sequences."),
        (P, {"sequences": -8}, "train.budget.sequences=-8 is less than one step, which takes 8 sequences."),
        (S, {"tokens": 31}, "train.budget.tokens=31 is less than one step, which takes 32 tokens."),
        (Q, {"pairs": 100}, "train.budget.pairs: this does not train on pairs. Use train.budget.sequences."),
        (
            *(P, {"pairs": 8, "tokens": 100}),
            "train.budget and train.max_steps: set one of train.budget's units or train.max_steps, not two.",
        ),
        (
            *(P, {"sequences": 8, "max_steps": 2}),
            "train.budget and train.max_steps: set one of train.budget's units or train.max_steps, not two.",
        ),
    ],
    ids=str,
)
def test_mistakes(data: DataFormat, settings: dict[str, int], message: str) -> None:
    with pytest.raises(UserError) as raised:
        plan(data, **settings)
    assert str(raised.value) == message


def test_says_at_most_where_answers_are_sampled() -> None:
    assert str(plan(P, 4000)) == "4,000 rows, 1,000 steps, 8,000 sequences, 52,000 tokens to train on"
    assert str(plan(Q)) == "12 rows, 3 steps, 12 sequences, at most 276 tokens to train on"


@pytest.mark.parametrize(("data", "sequences"), [(P, 20), (S, 10)])
def test_a_short_last_batch_counts_what_it_holds(data: DataFormat, sequences: int) -> None:
    found = plan(data, 10)
    assert found.updates == 3
    assert found.sequences == sequences


def test_a_budget_counts_the_short_last_batch_of_each_epoch() -> None:
    assert plan(P, 10, sequences=48).updates == 7


# --- Real runs -----------------------------------------------------------------------------------------------------

METHODS = ("dpo", "ipo", "orpo", "kto", "grpo", "sft")

LITTLE = (
    *(word for word in QUICK if "dataset.rows" not in word and "evaluate.rows" not in word),
    *("evaluate.rows=2", "evaluate.enabled=false", "train.warmup_steps=0", "method.learning_rate=0.001"),
    *("reward=length", "reward.length.slack=200"),
)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> dict[str, Outcome]:
    """Train all six methods on 8 pairs of `concise`, 16 sequences each; by method."""
    folder = tmp_path_factory.mktemp("sweep")
    words = ("dataset.rows=8", f"method={','.join(METHODS)}", *LITTLE, "train.budget.sequences=16")
    done = run(folder, "-m", *words)
    assert done.code == 0, done.err
    members = {path.name.split("-")[1]: path for path in folder.glob("[0-9]*")}
    return {method: Outcome(members[method], 0, done.out, done.err, set()) for method in METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_the_trainer_takes_the_updates_of_the_plan(sweep: dict[str, Outcome], method: str) -> None:
    result = sweep[method].result()
    assert result["cost"]["steps"] == result["plan"]["updates"] == result["plan"]["bound"]
    assert result["plan"]["updates"] == (2 if method in ("dpo", "ipo", "orpo") else 4)
    assert result["plan"]["sequences"] == 16


@pytest.mark.parametrize("method", METHODS)
def test_the_plan_is_printed(sweep: dict[str, Outcome], method: str) -> None:
    told = Plan(**sweep[method].result()["plan"])
    assert f"plan: {told}" in sweep[method].out
    assert told.exact == (method != "grpo")


def trained_tokens(done: Outcome) -> float:
    """Return the tokens of prompts and answers that TRL counted."""
    return max(line["num_tokens"] for line in done.metrics() if "num_tokens" in line)


@pytest.mark.parametrize("method", ["dpo", "ipo", "sft"])
def test_tokens_are_those_that_trl_counts(sweep: dict[str, Outcome], method: str) -> None:
    """8 pairs in 2 steps, or 8 answers twice: each row is trained on as often as the others."""
    assert trained_tokens(sweep[method]) == sweep[method].result()["plan"]["tokens"]


def test_tokens_of_sampled_answers_are_at_most_the_plans(sweep: dict[str, Outcome]) -> None:
    """The prompts that were drawn may be longer than the mean of all: that much is allowed for."""
    assert 0 < trained_tokens(sweep["grpo"]) <= 1.1 * sweep["grpo"].result()["plan"]["tokens"]


def test_a_run_is_refused_with_the_plans_complaint(tmp_path: Path) -> None:
    done = run(tmp_path / "run", "method=grpo", *LITTLE, "dataset.rows=8", "train.budget.pairs=8")
    assert done.code == 1
    assert done.err.strip() == "alignzoo: train.budget.pairs: grpo does not train on pairs. Use train.budget.sequences."
    assert not done.folder.exists()


@pytest.mark.parametrize(
    "words",
    [
        ("method=dpo", "dataset.rows=10", "train.num_train_epochs=1.5"),
        ("method=grpo", "dataset.rows=5", "train.global_batch_size=8"),
    ],
    ids=" ".join,
)
def test_epochs_that_batches_do_not_divide(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run(tmp_path / "run", *words, *LITTLE)
    assert done.code == 0, done.err
    assert done.result()["cost"]["steps"] == done.result()["plan"]["updates"]


def test_a_budget_without_a_unit_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path / "run", "method=dpo", *LITTLE, "dataset.rows=8", "train.budget=16")
    assert done.code == 1
    assert "train.budget" in done.err


def test_result_holds_the_plan(sweep: dict[str, Outcome]) -> None:
    plan = json.loads((sweep["kto"].folder / "result.json").read_text())["plan"]
    assert plan.keys() == Plan.__dataclass_fields__.keys()
