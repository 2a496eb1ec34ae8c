"""Each method that samples computes its paper's loss: agreement, alterations found, limits, one update that helps."""

from __future__ import annotations

import functools
import importlib
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, open_dict
from torch import Tensor

from alignzoo import Batch, UserError
from alignzoo.config.check import check
from alignzoo.config.compose import compose
from alignzoo.plugin.batch import Answers
from alignzoo.plugin.method import import_object
from alignzoo.plugin.registry import registry
from alignzoo.testing.runs import build, isolate_training
from alignzoo.train.losses.compare import compare

FAMILY: Any = importlib.import_module("alignzoo_plugins.online")  # by what the entry point names
METHODS = {method.name: method for method in FAMILY.METHODS}


@functools.cache
def compose_method(name: str) -> DictConfig:
    return compose([f"method={name}"])


def configure(name: str, **settings: Any) -> DictConfig:
    """Return the configuration of ``method=name`` with some keys of ``method.*`` set."""
    cfg = compose_method(name).copy()
    with open_dict(cfg):
        cfg.method.update(settings)
    return cfg


LENGTHS = (3, 9, 7, 2, 12, 6, 4, 5)


def make_batch(change: float = 0.3, lengths: tuple[int, ...] = LENGTHS, groups: int = 2, **given: Any) -> Batch:
    """Return eight sampled completions; tokens' log-ratios to the policy that sampled spread by ``change`` nats."""
    dice = torch.Generator().manual_seed(0)
    mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).float()

    def draw(scale: float) -> Tensor:
        return scale * torch.randn(mask.shape, generator=dice) * mask

    old = -draw(1.0).abs()
    policy = (old + draw(change)).requires_grad_()
    scores = torch.stack([100 * torch.rand(8, generator=dice), torch.rand(8, generator=dice)], 1)
    weights = torch.tensor([1.0, 0.5])
    facts = {
        "rewards": scores @ weights,
        "groups": torch.arange(8) * groups // 8,
        "scores": scores,
        "weights": weights,
        "truncated": torch.arange(8) % 3 == 1,
        "greedy_rewards": torch.full((8,), 50.0),
    }
    answers = Answers(policy, old + draw(0.1), old, mask, (draw(1.0).abs() + policy * 0) * mask)
    return Batch({"completion": answers}, torch.empty(0), **{**facts, **given})


def run_equation(name: str, batch: Batch, **settings: Any) -> Tensor:
    loss = registry().method(name).equation(configure(name, **settings), batch)
    assert loss is not None
    return loss


def slope(loss: Tensor, batch: Batch) -> Tensor:
    """Return the gradient with respect to the tokens' log-probabilities, (rows, tokens)."""
    (found,) = torch.autograd.grad(loss, [batch["completion"].policy])
    return found * batch["completion"].mask


def standardise(rewards: Tensor) -> Tensor:
    """Return the advantages of two groups of four."""
    groups = rewards.view(2, 4)
    return ((groups - groups.mean(1, keepdim=True)) / groups.std(1, keepdim=True)).flatten()


# --- agreement, and alterations that are found -----------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_trainers_loss_is_the_papers(name: str) -> None:
    found = compare(METHODS[name])
    assert found is not None
    assert found.loss < 1e-5
    assert found.gradient < 1e-4  # a tenth of the limit


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_loss_without_each_completions_first_token_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = import_object(METHODS[name].trainer)
    original = trainer._compute_loss

    def altered(self: Any, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        mask = inputs["completion_mask"].clone()
        mask[..., 0] = 0
        return original(self, model, {**inputs, "completion_mask": mask})

    monkeypatch.setattr(trainer, "_compute_loss", altered)
    found = compare(METHODS[name])
    assert found is not None
    assert not found.agrees


#: Words that change the loss, and that the equations cover.
COVERED = [
    *(f"grpo method.loss_type={kind}" for kind in ("grpo", "bnpo", "dr_grpo", "sapo", "vespo", "luspo")),
    "grpo method.loss_type=cispo +method.epsilon_high=5",
    "grpo method.loss_type=luspo +method.importance_sampling_level=sequence",
    "grpo method.loss_type=grpo +method.importance_sampling_level=sequence",
    "grpo +method.scale_rewards=batch",
    "grpo +method.scale_rewards=none",
    "grpo +method.multi_objective_aggregation=normalize_then_sum",
    "grpo +method.top_entropy_quantile=0.3",
    "grpo +method.delta=1.5",
    "grpo +method.epsilon_high=0.28",
    "grpo +method.mask_truncated_completions=true",
    "grpo +method.mask_truncated_completions=true method.loss_type=grpo +method.top_entropy_quantile=0.3",
    "grpo +method.off_policy_mask_threshold=0.001",
    "grpo +method.entropy_coef=0.1 +method.top_entropy_quantile=0.3",
    "grpo +method.use_bias_correction_kl=false",
    "grpo method.temperature=0.7",
    "rloo +method.normalize_advantages=true",
    "rloo +method.mask_truncated_completions=true",
    "rloo +method.reward_clip_range=[0,400]",
    "rloo +method.epsilon=0.05 +method.epsilon_high=0.01",
    "rloo method.temperature=0.7",
    "dapo method.mask_truncated_completions=false method.beta=0.1",
    "gspo method.beta=0.1",
    "luspo method.beta=0.1",
    "vespo method.beta=0.1",
    "gmpo +method.epsilon_high=0.1",
    "remax method.beta=0",
]


@pytest.mark.slow
@pytest.mark.parametrize("words", COVERED)
def test_equations_cover_the_options_that_change_the_loss(words: str) -> None:
    name, *settings = words.split()
    found = compare(registry().method(name), settings)
    assert found is not None
    assert found.agrees


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("grpo", {"use_vllm": True}),
        ("grpo", {"sync_ref_model": True}),
        ("grpo", {"use_adaptive_entropy": True}),
        ("rloo", {"use_vllm": True}),
        ("rloo", {"sync_ref_model": True}),
    ],
)
def test_what_no_single_batch_tells_is_not_covered(name: str, settings: dict[str, Any]) -> None:
    assert registry().method(name).equation(configure(name, **settings), make_batch()) is None


#: Methods whose loss GRPO has under TRL's options.
OPTIONS: dict[str, dict[str, Any]] = {
    "cispo": {"loss_type": "cispo", "epsilon_high": 5.0},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28, "mask_truncated_completions": True},
    "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none"},
    "gdpo": {"loss_type": "grpo", "multi_objective_aggregation": "normalize_then_sum"},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
    "lite_ppo": {"loss_type": "dapo", "scale_rewards": "batch"},
    "luspo": {"loss_type": "luspo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
    "sapo": {"loss_type": "sapo"},
    "vespo": {"loss_type": "vespo"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_methods_equation_is_grpos_under_its_options(name: str) -> None:
    batch = make_batch()
    own, grpo = run_equation(name, batch, beta=0.1), run_equation("grpo", batch, beta=0.1, **OPTIONS[name])
    torch.testing.assert_close(own, grpo)
    torch.testing.assert_close(slope(own, batch), slope(grpo, batch))


# --- closed forms and limits -----------------------------------------------------------------------------------------

#: What a token of the policy gradient is divided by, as the policy has not changed since it sampled.
TOKENS = float(sum(LENGTHS))
ON_POLICY: dict[str, Tensor] = {
    "cispo": torch.full((8,), TOKENS),
    "gmpo": 8 * torch.tensor(LENGTHS),
    "gspo": 8 * torch.tensor(LENGTHS),
    "luspo": torch.full((8,), 8.0),
    "sapo": 8 * torch.tensor(LENGTHS),
    "vespo": torch.full((8,), TOKENS),
}


@pytest.mark.parametrize("name", ON_POLICY)
def test_on_policy_each_is_the_policy_gradient(name: str) -> None:
    """They differ in what they do with a policy that has changed, and in how they average."""
    batch = make_batch(change=0.0)
    expected = -standardise(batch.rewards) / ON_POLICY[name]
    found = slope(run_equation(name, batch), batch)
    torch.testing.assert_close(found, expected[:, None] * batch["completion"].mask)


def test_dr_grpo_divides_by_neither_length_nor_spread() -> None:
    batch = make_batch(change=0.0)
    centred = batch.rewards - batch.rewards.view(2, 4).mean(1).repeat_interleave(4)
    found = slope(run_equation("dr_grpo", batch, max_completion_length=12), batch)
    torch.testing.assert_close(found, -centred[:, None] * batch["completion"].mask / (8 * 12))


def test_gmpo_is_gspo_where_a_completions_tokens_change_alike_within_both_clip_ranges() -> None:
    batch = make_batch(change=0.0)
    answers = batch["completion"]
    moved = (answers.old + 1e-4 * answers.mask).requires_grad_()
    alike = Batch({"completion": Answers(moved, answers.reference, answers.old, answers.mask)}, torch.empty(0),
                  batch.rewards, batch.groups)  # fmt: skip
    torch.testing.assert_close(run_equation("gmpo", alike), run_equation("gspo", alike))


def test_luspo_is_gspo_times_the_length_where_all_are_of_one() -> None:
    batch = make_batch(lengths=(5,) * 8)
    torch.testing.assert_close(run_equation("luspo", batch), 5 * run_equation("gspo", batch))


def test_lite_ppo_is_dapo_where_the_batch_is_one_group() -> None:
    batch = make_batch(groups=1)
    dapo = run_equation("dapo", batch, epsilon_high=0.2, mask_truncated_completions=False)
    torch.testing.assert_close(run_equation("lite_ppo", batch), dapo)


def test_gdpo_lets_no_reward_drown_another() -> None:
    """A hundred times a reward changes nothing; GRPO's advantages become that reward's alone."""
    batch = make_batch()
    larger = batch.scores * torch.tensor([100.0, 1.0])
    same = make_batch(scores=larger, rewards=larger @ batch.weights)
    torch.testing.assert_close(run_equation("gdpo", same), run_equation("gdpo", batch), rtol=1e-4, atol=1e-5)
    assert not torch.isclose(run_equation("grpo", same), run_equation("grpo", batch), rtol=1e-3)


def test_dapos_ratio_may_rise_further_than_it_may_fall() -> None:
    """At 1.25 a good completion still gains, at 0.75 a bad one no more; GRPO's range has neither."""
    batch = make_batch(change=0.0, truncated=torch.zeros(8, dtype=torch.bool))
    answers, good = batch["completion"], standardise(batch.rewards)[:, None] > 0
    moved = (answers.old + torch.where(good, math.log(1.25), math.log(0.75)) * answers.mask).requires_grad_()
    far = Batch({"completion": Answers(moved, answers.reference, answers.old, answers.mask)}, torch.empty(0),
                batch.rewards, batch.groups, truncated=batch.truncated)  # fmt: skip
    dapo, grpo = slope(run_equation("dapo", far), far), slope(run_equation("grpo", far, beta=0.0), far)
    assert bool((dapo[good[:, 0]].abs().sum(1) > 0).all())
    assert float(dapo[~good[:, 0]].abs().sum()) == float(grpo.abs().sum()) == 0


def test_dapo_learns_nothing_from_completions_that_were_cut_off() -> None:
    batch = make_batch(truncated=torch.ones(8, dtype=torch.bool))
    loss = run_equation("dapo", batch)
    assert float(loss.detach()) == 0
    assert float(slope(loss, batch).abs().sum()) == 0


def test_cispo_loses_no_token_and_bounds_its_weight() -> None:
    batch = make_batch(change=4.0)
    found = slope(run_equation("cispo", batch), batch) * TOKENS / standardise(batch.rewards)[:, None]
    weights = -found[batch["completion"].mask.bool()]
    assert float(weights.min()) > 0
    assert float(weights.max()) == pytest.approx(5.0)


def test_sapos_gate_closes_on_both_sides() -> None:
    """Its slope is 4 p (1 - p) with p = sigmoid(tau (r - 1)): 1 at r = 1, and 0 far away."""
    batch = make_batch(change=4.0)
    answers, advantages = batch["completion"], standardise(batch.rewards)[:, None]
    ratio = (answers.policy - answers.old).exp().detach()
    tau = torch.where(advantages > 0, 1.0, 1.05)
    gate = torch.sigmoid(tau * (ratio - 1))
    expected = -4 * gate * (1 - gate) * ratio * advantages / answers.lengths[:, None] / 8 * answers.mask
    torch.testing.assert_close(slope(run_equation("sapo", batch), batch), expected, rtol=1e-4, atol=1e-7)


def test_vespos_weight_is_largest_at_k_over_lambda() -> None:
    """W^k exp(lambda (1 - W)) of good completions, with k = 2 and lambda = 3, has its greatest value at 2 / 3."""
    batch, weights = make_batch(change=0.0, lengths=(1,) * 8), []
    answers, best = batch["completion"], int(standardise(batch.rewards).argmax())
    for importance in (0.2, 0.6, 2 / 3, 0.75, 1.0, 4.0):
        moved = (answers.old + math.log(importance)).requires_grad_()
        off = Batch({"completion": Answers(moved, answers.reference, answers.old, answers.mask)}, torch.empty(0),
                    batch.rewards, batch.groups)  # fmt: skip
        weights.append(-float(slope(run_equation("vespo", off), off)[best, 0]))
    assert max(weights) == weights[2]
    assert weights[4] == pytest.approx(float(standardise(batch.rewards)[best]) / 8)
    assert weights[5] < 0.01 * weights[2]


def test_remax_does_not_move_where_the_greedy_completion_earns_as_much() -> None:
    batch = make_batch()
    same = make_batch(greedy_rewards=batch.rewards)
    assert float(slope(run_equation("remax", same, beta=0.0), same).abs().sum()) == 0
    worse = slope(run_equation("remax", batch, beta=0.0), batch)
    expected = -(batch.rewards - 50) / 8
    torch.testing.assert_close(worse, expected[:, None] * batch["completion"].mask)


def test_reinforce_pp_standardises_over_tokens_and_charges_a_token_for_what_follows() -> None:
    batch = make_batch(change=0.0)
    answers, beta = batch["completion"], 10.0
    rows = []
    for row in range(8):
        penalty = beta * (answers.old - answers.reference)[row]
        rows.append([float(batch.rewards[row] - penalty[t:].sum()) for t in range(LENGTHS[row])])
    every = torch.tensor([value for row in rows for value in row])
    found = slope(run_equation("reinforce_pp", batch, beta=beta), batch)[answers.mask.bool()]
    torch.testing.assert_close(found, -(every - every.mean()) / every.std() / TOKENS, rtol=1e-4, atol=1e-6)


def test_online_dpo_starts_at_log_2_and_falls_by_half_of_beta_times_the_margin() -> None:
    batch = make_batch(groups=4)
    groups = batch.groups
    answers = batch["completion"]
    equal = Answers(answers.reference.clone().requires_grad_(), answers.reference, answers.old, answers.mask)
    start = Batch({"completion": equal}, torch.empty(0), batch.rewards, groups)
    first = METHODS["online_dpo"].first_loss(configure("online_dpo"))
    assert first is not None
    assert float(run_equation("online_dpo", start).detach()) == pytest.approx(first)
    ratios, better = answers.log_ratio.sum(-1).view(4, 2), batch.rewards.view(4, 2).argmax(1)
    margin = float((ratios[range(4), better] - ratios[range(4), 1 - better]).mean().detach())
    fallen = first - float(run_equation("online_dpo", batch, beta=1e-3).detach())
    assert fallen / 1e-3 == pytest.approx(margin / 2, rel=0.02)


# --- one update that helps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(METHODS))
def test_one_update_makes_better_completions_likelier_than_worse_ones(name: str, tmp_path: Path) -> None:
    """A small step against the gradient of the first loss, on the batch that it was computed on."""
    words = ["train.global_batch_size=8", "train.per_device_batch_size=8", "++method.max_completion_length=8"]
    words += ["method.mask_truncated_completions=false"] if name == "dapo" else []
    with isolate_training():
        run = build(METHODS[name], "prompts", tmp_path, words)
        trainer = run.trainer
        trainer.current_gradient_accumulation_steps = 1  # the training loop sets it
        trainer.model.train()
        inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
        loss = trainer.compute_loss(trainer.model, inputs)
        loss.backward()
        before = score(trainer, inputs)
        norm = torch.stack([weight.grad.norm() for weight in trainer.model.parameters()]).norm()
        with torch.no_grad():
            for weight in trainer.model.parameters():
                weight -= 1e-2 * weight.grad / norm
        change = score(trainer, inputs) - before
    assert math.isfinite(float(loss.detach()))
    assert float(change @ rank(inputs)) > 0


def score(trainer: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Return the completions' log-probabilities per token, (rows,)."""
    flat = {
        key: inputs[key].flatten(0, -2) for key in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
    }
    mask = flat["completion_mask"]
    with torch.no_grad():
        tokens, *_ = trainer._get_per_token_logps_and_entropies(
            trainer.model,
            torch.cat([flat["prompt_ids"], flat["completion_ids"]], dim=1),
            torch.cat([flat["prompt_mask"], mask], dim=1),
            mask.shape[1],
        )
    return (tokens * mask).sum(1) / mask.sum(1)


def rank(inputs: dict[str, Tensor]) -> Tensor:
    """Return 1 for better and -1 for worse completions of the kit's reward, the share of even token ids, (rows,)."""
    ids, mask = (inputs[key].flatten(0, -2) for key in ("completion_ids", "completion_mask"))
    rewards = ((ids % 2 == 0) * mask).sum(1) / mask.sum(1)
    if inputs["completion_ids"].dim() == 3:  # pairs, chosen first
        return torch.tensor([1.0, -1.0]).repeat(len(rewards) // 2)
    return (rewards - rewards.mean()).sign()


# --- what is refused before a model is loaded ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("dr_grpo +method.scale_rewards=group", r"scale_rewards=group: method=dr_grpo sets it to none\. Leave it out"),
        ("gspo +method.loss_type=dapo", r"loss_type=dapo: method=gspo sets it to grpo\. Leave it out"),
        ("gmpo +method.beta=0.1", r"beta=0\.1: method=gmpo sets it to 0\.0\. Leave it out"),
        ("online_dpo method.num_generations=4", r"num_generations=4: method=online_dpo sets it to 2\. Leave it out"),
        ("cispo method.epsilon_high=0.28", r"epsilon_high=0\.28 must be above 1: it bounds the weight itself"),
        ("dapo method.epsilon=0", r"epsilon=0 must be above 0: it is how far a ratio may move from 1"),
        ("sapo method.sapo_temperature_neg=0", r"sapo_temperature_neg=0 must be above 0"),
        ("vespo method.vespo_lambda_pos=0", r"vespo_lambda_pos=0 must be above 0"),
        ("dr_grpo method.beta=-1", r"beta=-1 must be 0 \(no KL penalty\) or above"),
        ("dapo method.num_generations=1", r"num_generations=1 must be at least 2"),
        ("remax +method.use_vllm=true", r"use_vllm=true: remax decodes greedily too"),
        ("remax method.beta=-1", r"beta=-1 must be 0 \(no KL penalty\) or above"),
        (
            "reinforce_pp method.num_generations=3",
            r"global_batch_size=4 must be a multiple of method.num_generations=3",
        ),
        ("online_dpo train.per_device_batch_size=1", r"per_device_batch_size=1 must be even"),
        ("online_dpo method.beta=0", r"beta=0 must be above 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: str, says: str) -> None:
    name, word = words.split()
    with pytest.raises(UserError, match=says):
        check(compose([f"method={name}", "model=tiny", word]))
