"""Each guard stops the run that it is there for, and says why."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import QUICK
from inprocess import Outcome, run

LITTLE = (*(word for word in QUICK if "dataset.rows" not in word), "dataset.rows=8", "train.warmup_steps=0")

#: Changes the policy after the reference's log-probabilities are taken, as a wrongly loaded reference would look.
DISTURB = """
import torch
from transformers import TrainerCallback
from alignzoo import hookimpl


class Disturb(TrainerCallback):
    def on_train_begin(self, args, state, control, model=None, **kwargs):
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in model.parameters():
                weight += SIZE * torch.randn(weight.shape, generator=generator)


@hookimpl
def alignzoo_callbacks(cfg):
    return [Disturb()]
"""

#: Rewards that go wrong, each in its own way.
REWARDS = """
from alignzoo import Reward, hookimpl


class Broken(Reward):
    '''A reward that goes wrong.'''

    name = "broken"

    def __init__(self, how):
        self.how, self.calls = how, 0

    def __call__(self, prompts, completions, **columns):
        self.calls += 1
        if self.how == "solved":
            return [float(self.calls > 2 or number % 2) for number in range(len(completions))]
        if self.how == "count":
            return [0.5] * (len(completions) - 1)
        if self.how == "constant":
            return [0.25] * len(completions)
        return [float(self.how)] + [0.5] * (len(completions) - 1)


@hookimpl
def alignzoo_rewards():
    return [Broken]


@hookimpl
def alignzoo_config_packages():
    return ["fake_rewards.conf"]
"""

BROKEN_YAML = {"reward/broken.yaml": "broken:\n  weight: 1.0\n  how: ???\n"}


def stopped(done: Outcome) -> str:
    """Return what a stopped run said: exit code 1, one or two lines, no result, no traceback."""
    assert done.code == 1, done.out
    assert not (done.folder / "result.json").exists()
    assert not (done.folder / "model").exists()
    (line,) = done.err.split("alignzoo: ")[1:]
    assert len(line.strip().splitlines()) <= 2
    return line


@pytest.mark.parametrize(
    ("words", "loss"),
    [
        (("method=dpo",), f"{math.log(2):.4f}"),
        (("method=ipo",), "25.0000"),
        (("method=kto", "train.global_batch_size=8", "train.per_device_batch_size=8"), "0.5000"),
        (("method=dpo", "method.precompute_ref_log_probs=false"), f"{math.log(2):.4f}"),
        (("method=dpo", "method.beta=0.3", "train.per_device_batch_size=2"), f"{math.log(2):.4f}"),
    ],
)
def test_a_wrong_reference_shows_in_the_first_loss(
    tmp_path: Path, fake_package: Callable[..., None], words: tuple[str, ...], loss: str
) -> None:
    fake_package("fake_disturb", DISTURB.replace("SIZE", "0.2"))
    text = stopped(run(tmp_path / "run", *words, *LITTLE))
    if "the first rewards are [" in text:  # KTO's losses of good and bad answers may still add up to the right one
        assert "with the start model as reference they must be 0" in text
    else:
        assert f"with the start model as reference it must be {loss}" in text
        assert "The reference is not the model that training started from" in text


def test_a_wrong_reference_shows_in_the_first_rewards_where_no_loss_is_known(
    tmp_path: Path, fake_package: Callable[..., None]
) -> None:
    fake_package("fake_disturb", DISTURB.replace("SIZE", "0.05"))
    text = stopped(run(tmp_path / "run", "method=dpo", "method.loss_type=[hinge]", *LITTLE))
    assert "the first rewards are [" in text
    assert "must be 0" in text


@pytest.mark.parametrize(
    "words",
    [
        ("method=dpo", "method.loss_type=[hinge]"),
        ("method=dpo", "method.beta=0.3", "train.per_device_batch_size=2"),
        ("method=ipo", "method.beta=0.01", "train.per_device_batch_size=1"),
        ("method=kto", "train.per_device_batch_size=2", "method.undesirable_weight=1.2"),
        ("method=kto", "train.per_device_batch_size=2", "train.logging_steps=4"),
        ("method=orpo", "peft=lora"),
    ],
)
def test_the_right_reference_passes(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run(tmp_path / "run", *words, *LITTLE)
    assert done.code == 0, done.err


def test_a_loss_that_is_nan_ends_the_run_at_once(tmp_path: Path) -> None:
    done = run(tmp_path / "run", "method=dpo", "method.learning_rate=1e30", *LITTLE, "dataset.rows=16")
    text = stopped(done)
    assert "is nan at step 2: the weights are lost" in text
    assert "Lower method.learning_rate" in text
    first, last = done.metrics()
    assert (first["step"], last["step"]) == (1, 2), "the line that shows it is the last"
    assert last["grad_norm"] is None, "JSON has no NaN"
    assert isinstance(first["grad_norm"], float)


def test_weights_lost_in_the_last_step_are_seen(tmp_path: Path) -> None:
    """No further loss shows them."""
    words = ("method=ipo", "method.beta=0.001", "method.learning_rate=3e38", "train.optim=sgd", "train.max_grad_norm=0")
    text = stopped(run(tmp_path / "run", *words, "train.max_steps=1", *LITTLE))
    assert "weights are NaN or infinite after training" in text


def test_a_learning_rate_of_zero_moves_no_weight(tmp_path: Path) -> None:
    text = stopped(run(tmp_path / "run", "method=dpo", "method.learning_rate=0", *LITTLE))
    assert "2 steps moved no weight: method.learning_rate=0" in text


def test_a_learning_rate_of_zero_moves_no_adapter(tmp_path: Path) -> None:
    text = stopped(run(tmp_path / "run", "method=dpo", "peft=lora", "method.learning_rate=0", *LITTLE))
    assert "moved no weight" in text


def test_a_run_of_one_update_moves_weights(tmp_path: Path) -> None:
    words = [word for word in LITTLE if "warmup_steps" not in word]
    done = run(tmp_path / "run", "method=dpo", "method.learning_rate=0.001", "train.max_steps=1", *words)
    assert done.code == 0, done.err


def test_constant_rewards_end_the_run(tmp_path: Path, fake_package: Callable[..., None]) -> None:
    fake_package("fake_rewards", REWARDS, BROKEN_YAML)
    words = ("method=grpo", "reward=broken", "reward.broken.how=constant", "method.max_completion_length=8")
    done = run(tmp_path / "run", *words, *LITTLE, "dataset.rows=16")
    assert "in 10 logged steps all completions of each group had the same reward (0.25)" in stopped(done)
    assert done.metrics()[-1]["step"] == 10


def test_a_solved_task_is_no_mistake(tmp_path: Path, fake_package: Callable[..., None]) -> None:
    """Half of the answers are right in the first two steps, all of them from then on."""
    fake_package("fake_rewards", REWARDS, BROKEN_YAML)
    words = ("method=grpo", "reward=broken", "reward.broken.how=solved", "method.max_completion_length=8")
    done = run(tmp_path / "run", *words, *LITTLE, "dataset.rows=16", "evaluate.enabled=false")
    assert done.code == 0, done.err
    assert done.result()["cost"]["steps"] == 16
    said = "of each group had the same reward (1), which was 0.5 when they first differed. The task is solved if"
    assert (tmp_path / "run" / "alignzoo.log").read_text().count(said) == 1


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("count", "reward=broken returned 3 scores for 4 completions."),
        ("nan", "reward=broken returned nan for the completion "),
        ("inf", "reward=broken returned inf for the completion "),
    ],
)
def test_a_reward_that_goes_wrong_ends_the_run(
    tmp_path: Path, fake_package: Callable[..., None], how: str, reason: str
) -> None:
    fake_package("fake_rewards", REWARDS, BROKEN_YAML)
    words = ("method=grpo", "reward=broken", f"reward.broken.how={how}", "method.max_completion_length=8")
    assert reason in stopped(run(tmp_path / "run", *words, *LITTLE))


@pytest.mark.parametrize("steps", [5, -1])
def test_too_few_prompts_for_one_batch_of_groups(tmp_path: Path, steps: int) -> None:
    """TRL leaves out an incomplete batch; with max_steps it takes no step, and calls that a success."""
    words = ("method=grpo", "reward=length", "train.global_batch_size=16", "train.per_device_batch_size=16")
    text = stopped(run(tmp_path / "run", *words, f"train.max_steps={steps}", *LITTLE, "dataset.rows=3"))
    assert "the dataset has 3 prompts, and one batch takes 4" in text
    assert "method.num_generations" in text
    assert not (tmp_path / "run").exists(), "refused before a model was loaded"


def test_start_weights_that_are_not_finite_are_refused(tmp_path: Path, cache: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from alignzoo.models.tiny import make_tiny

    make_tiny(tmp_path / "start")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "start")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "start")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] = float("nan")
    model.save_pretrained(tmp_path / "broken")
    tokenizer.save_pretrained(tmp_path / "broken")
    text = stopped(run(tmp_path / "run", "method=dpo", *LITTLE, "model=local", f"model.path={tmp_path / 'broken'}"))
    assert "the weight model.layers.1.mlp.up_proj.weight has NaN or infinite values" in text
    assert not (tmp_path / "run").exists(), "nothing was trained: no folder is left"
