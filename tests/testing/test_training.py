"""Methods that train wrongly, each found by the check that is there for it, with what mends it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from alignzoo import DataFormat, Method
from alignzoo.data.convert import MEANING
from alignzoo.plugin.registry import registry
from alignzoo.testing import Conformance, NotConforming, conformance, contract, learning, rows, training

Install = Callable[..., type[Method]]

#: A method with this class body, on DPO's trainer unless the body says otherwise.
CODE = '''
from alignzoo import DataFormat, Method, hookimpl

class Fake(Method):
    """Fake (nobody, 2030)."""
    name = "fake_method"
    data = DataFormat.PREFERENCE
    needs_reference = True
    config = "trl:DPOConfig"
    trainer = "trl:DPOTrainer"
{body}

def changed(trainer, loss):
    """Return the trainer with another loss."""
    original = trainer.compute_loss
    trainer.compute_loss = lambda *args, **more: loss(original(*args, **more))
    return trainer

@hookimpl
def alignzoo_methods():
    return [Fake]

@hookimpl
def alignzoo_config_packages():
    return ["fake_method.conf"]
'''

OPTION = "name: fake_method\nlearning_rate: 1e-6\n"


@pytest.fixture
def fake(fake_package: Callable[..., None]) -> Install:
    """Install a method with this body, and return it."""

    def install(body: str = "", option: str = OPTION) -> type[Method]:
        fake_package("fake_method", CODE.format(body=body), {"method/fake_method.yaml": option})
        return registry().method("fake_method")

    return install


def refusal(check: Callable[[], object]) -> str:
    """Return what the check says."""
    with pytest.raises(NotConforming) as refused:
        check()
    text = str(refused.value)
    assert text.startswith("fake_method: ")
    assert text.splitlines()[-1].startswith("Fix: ")
    return text


def built(change: str) -> str:
    """Return a body whose trainer is changed after it is built."""
    return (
        f"    def build_trainer(self, parts):\n        return {change.format(trainer='super().build_trainer(parts)')}\n"
    )


# --- training on each layout -----------------------------------------------------------------------------------------


def test_the_layouts_are_those_that_convert() -> None:
    assert rows.list_layouts(DataFormat.PREFERENCE)[:3] == [
        f"pairs-of-{n}" for n in ("messages", "text", "conversations")
    ]
    assert set(rows.list_layouts(DataFormat.PROMPTS)) == set(rows.LAYOUTS)
    assert "prompts" not in rows.list_layouts(DataFormat.SUPERVISED)
    held = {kind for kind, _ in rows.LAYOUTS.values()}
    assert held == set(DataFormat)
    for wanted in DataFormat:
        kinds = {rows.LAYOUTS[layout][0] for layout in rows.list_layouts(wanted)}
        assert kinds == {kind for kind in held if kind is wanted or (kind, wanted) in MEANING}


@pytest.mark.parametrize("layout", rows.LAYOUTS)
def test_a_layout_is_read_as_what_it_is(
    tmp_path: Path, layout: str, compose_config: Callable[..., object], cache: Path
) -> None:
    from alignzoo.config.check import check
    from alignzoo.train.inputs import prepare_run

    file = rows.write_rows(layout, tmp_path)
    words = ("dataset=local", f"dataset.path={file}", "dataset.heldout.fraction=0", "model=tiny")
    method = ("method=grpo", "reward=length") if layout == "prompts" else ("method=sft",)
    data = prepare_run(check(compose_config(*method, *words))).data  # type: ignore[arg-type]
    assert data.kind is rows.LAYOUTS[layout][0]
    assert len(data.train) >= len(rows.PROMPTS)


#: A reward that every run with it is measured by, also a method's that does not learn from it.
REWARD = """
from alignzoo import Reward

class Broken(Reward):
    "Broken."
    name = "broken_reward"
    def __call__(self, prompts, completions, **columns):
        return [float(columns["not there"])] * len(prompts)

@hookimpl
def alignzoo_rewards():
    return [Broken]
"""


@pytest.mark.parametrize("layout", ["pairs-of-text", "marked-answers", "scored-answers"])
def test_what_a_run_cannot_be_measured_by_is_found(
    fake_package: Callable[..., None], tmp_path: Path, layout: str
) -> None:
    configs = {"method/fake_method.yaml": OPTION, "reward/broken_reward.yaml": "broken_reward: {}\n"}
    fake_package("fake_method", CODE.format(body="") + REWARD, configs)
    method = registry().method("fake_method")
    words = ("reward=broken_reward",)
    said = refusal(lambda: training.check_training(method, layout, tmp_path, words))
    assert f"measuring the start model on {layout}: KeyError: 'not there'" in said


def test_a_reference_that_the_loss_does_not_have_is_refused(fake: Install, tmp_path: Path) -> None:
    body = """
    config = "trl.experimental.orpo:ORPOConfig"
    trainer = "trl.experimental.orpo:ORPOTrainer"
    pinned = {"remove_unused_columns": False}
"""
    said = refusal(lambda: training.check_training(fake(body), "pairs-of-text", tmp_path))
    assert "with the start model as reference they must be 0" in said


# --- learning --------------------------------------------------------------------------------------------------------


def test_a_loss_without_a_gradient_is_refused(fake: Install, tmp_path: Path) -> None:
    method = fake(built("changed({trainer}, lambda loss: loss * 0)"))
    run = learning.train_on_separable(method, tmp_path)
    assert "moved no weight" in refusal(lambda: learning.check_gradient(method, run))
    assert "the loss rises from 0.0000 to 0.0000" in refusal(lambda: learning.check_learning(method, run))


def test_a_frozen_part_is_named(fake: Install, tmp_path: Path) -> None:
    body = """
    def build_trainer(self, parts):
        parts.model.model.layers[1].requires_grad_(False)
        return super().build_trainer(parts)
"""
    method = fake(body)
    run = learning.train_on_separable(method, tmp_path)
    said = refusal(lambda: learning.check_gradient(method, run))
    assert "9 weights never move, model.layers.1." in said
    learning.check_learning(method, run)


def test_swapped_answers_are_found_though_the_loss_falls(fake: Install, tmp_path: Path) -> None:
    body = """
    def trainer_arguments(self, parts):
        swapped = {"chosen_ids": "rejected_ids", "rejected_ids": "chosen_ids"}
        return super().trainer_arguments(parts) | {"train_dataset": parts.train.rename_columns(swapped)}
"""
    method = fake(body)
    run = learning.train_on_separable(method, tmp_path)
    assert run.losses[-1] < run.losses[0]
    said = refusal(lambda: learning.check_learning(method, run))
    assert "nats ahead of the rejected" in said
    assert "24 steps bring the chosen completion -" in said
    assert "swap chosen and rejected" in said
    assert "conformance(..., ranks=False)" in said
    learning.check_learning(method, run, ranks=False)


def test_prompts_alone_have_nothing_to_rank(fake: Install, tmp_path: Path) -> None:
    """A method on prompts that samples and asks for no reward: its loss is all there is to see."""
    body = """
    data = DataFormat.PROMPTS
    needs_reference = False
    config = "trl:GRPOConfig"
    trainer = "trl:GRPOTrainer"
    def trainer_arguments(self, parts):
        even = lambda completion_ids, **more: [float(sum(i % 2 == 0 for i in ids)) for ids in completion_ids]
        return super().trainer_arguments(parts) | {"reward_funcs": [even]}
"""
    method = fake(body)
    run = learning.train_on_separable(method, tmp_path, ["train.max_steps=1"])
    assert learning._measure_margin(run) is None


def test_a_loss_that_rises_is_refused(fake: Install, tmp_path: Path) -> None:
    method = fake(built("changed({trainer}, lambda loss: loss - 2 * loss.detach())"))
    run = learning.train_on_separable(method, tmp_path)
    assert "the loss rises from -" in refusal(lambda: learning.check_learning(method, run))


REWARDED = """
    data = DataFormat.PROMPTS
    needs_reference = False
    uses_rewards = True
    config = "trl:GRPOConfig"
    trainer = "trl:GRPOTrainer"
    def trainer_arguments(self, parts):
        return super().trainer_arguments(parts) | {{"reward_funcs": {rewards}}}
"""


def test_rewards_that_are_not_handed_over_are_missed(fake: Install, tmp_path: Path) -> None:
    rewards = "[lambda completions, **more: [float(len(str(c)) % 7) for c in completions]]"
    method = fake(REWARDED.format(rewards=rewards))
    run = learning.train_on_separable(method, tmp_path)
    said = refusal(lambda: learning.check_learning(method, run))
    assert "never asks for a reward" in said
    assert '"reward_funcs": list(parts.rewards)' in said


def test_a_reward_that_does_not_rise_is_refused(fake: Install, tmp_path: Path) -> None:
    rewards = "[lambda *args, reward=reward, **more: [-r for r in reward(*args, **more)] for reward in parts.rewards]"
    method = fake(REWARDED.format(rewards=rewards))
    run = learning.train_on_separable(method, tmp_path)
    assert "the mean reward goes from 0." in refusal(lambda: learning.check_learning(method, run))


def test_the_kit_is_told_by_its_call_or_by_a_subclass() -> None:
    class Mine(Conformance):
        ranks = False

    assert not Mine.ranks
    assert not conformance("dpo", ranks=False).ranks
    assert conformance("dpo", "seed=1").ranks


def test_a_reference_that_is_not_declared_is_refused(fake: Install, tmp_path: Path) -> None:
    method = fake("    needs_reference = False")
    run = learning.train_on_separable(method, tmp_path)
    said = refusal(lambda: learning.check_reference(method, run))
    assert "set needs_reference = True" in said


def test_another_first_loss_is_refused(fake: Install, tmp_path: Path) -> None:
    method = fake()
    run = learning.train_on_separable(method, tmp_path)
    learning.check_first_loss(method, run)
    method.first_loss = classmethod(lambda cls, cfg: 0.7)  # type: ignore[method-assign, assignment]
    said = refusal(lambda: learning.check_first_loss(method, run))
    assert "the first loss is 0.6931, first_loss 0.7000" in said


# --- adapters, resuming, the equation --------------------------------------------------------------------------------


def test_an_adapter_that_is_not_handed_over_is_missed(fake: Install, tmp_path: Path) -> None:
    body = """
    def trainer_arguments(self, parts):
        return super().trainer_arguments(parts) | {"peft_config": None}
"""
    said = refusal(lambda: training.check_adapter(fake(body), tmp_path))
    assert "the trainer's model has no adapter" in said
    assert "parts.peft_config" in said


def test_frozen_weights_that_move_are_named(fake: Install, tmp_path: Path) -> None:
    body = """
    def build_trainer(self, parts):
        trainer = super().build_trainer(parts)
        for name, weight in trainer.model.named_parameters():
            weight.requires_grad_("lora_" in name or "norm" in name)
        return trainer
"""
    said = refusal(lambda: training.check_adapter(fake(body), tmp_path))
    assert "moves 5 frozen weights, model.layers.0.input_layernorm.weight first" in said


def test_a_state_that_no_checkpoint_holds_is_found(fake: Install, tmp_path: Path) -> None:
    body = """
    def build_trainer(self, parts):
        trainer, calls = super().build_trainer(parts), []
        def scaled(loss):
            calls.append(1)
            return loss * len(calls)
        trainer.args.max_grad_norm = 0.0
        trainer.args.optim = "sgd"
        return changed(trainer, scaled)
"""
    said = refusal(lambda: training.check_resuming(fake(body), tmp_path))
    assert "resumed after 2 of 4 steps, " in said
    assert "whatever the trainer keeps" in said


def test_a_batch_that_is_more_than_its_rows_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    orpo = contract.find_method("orpo")  # its likelihood is a mean over the tokens of a batch
    monkeypatch.setattr(orpo, "mean_of_rows", classmethod(lambda cls, cfg: True))
    with pytest.raises(NotConforming, match=r"orpo: a step row by row differs by [\d.]+% (.|\n)*`mean_of_rows`"):
        training.check_division(orpo, tmp_path)


EQUATION = """
    @classmethod
    def equation(cls, cfg, batch):
        "Nobody, 2030."
        from torch.nn.functional import logsigmoid
        margins = batch["chosen"].log_ratio.sum(-1) - batch["rejected"].log_ratio.sum(-1)
        return -logsigmoid({beta} * margins).mean()
"""


def test_another_equation_is_refused(fake: Install) -> None:
    method = fake(EQUATION.format(beta=0.2))
    said = refusal(lambda: training.check_equation(method))
    assert "the trainer's loss is 0." in said
    assert "and their gradients " in said


def test_an_equation_that_is_the_losses_passes(fake: Install) -> None:
    assert training.check_equation(fake(EQUATION.format(beta=0.1))) is None


def test_without_an_equation_nothing_is_said(fake: Install) -> None:
    assert "gives no equation" in str(training.check_equation(fake()))


def test_an_equation_that_raises_is_refused(fake: Install) -> None:
    method = fake(EQUATION.format(beta="cfg.method.nothing"))
    assert "equation: " in refusal(lambda: training.check_equation(method))
