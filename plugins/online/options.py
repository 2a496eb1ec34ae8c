"""GRPO's equation under each option that TRL's GRPOTrainer has for it, each from its own paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alignzoo import Batch

from .formulas import (
    average_groups,
    clip_gain,
    compute_ratio,
    compute_sequence_ratio,
    penalise,
    spread_groups,
    standardise_groups,
)

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor

LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo")


def is_covered(cfg: DictConfig) -> bool:
    """Return whether :func:`compute_loss` knows all of the configuration.

    Not covered: vLLM's correction of its own log-probabilities, a reference that moves, and the entropy's weight where
    it follows the entropy: they depend on more than one batch.
    """
    method = cfg.method
    changing = ("use_vllm", "sync_ref_model", "use_adaptive_entropy")
    return method.loss_type in LOSSES and not any(method.get(key) for key in changing)


def compute_loss(cfg: DictConfig, batch: Batch) -> Tensor:
    """Return the loss of a covered configuration."""
    method, completions = cfg.method, batch["completion"]
    advantages = compute_advantages(cfg, batch)[:, None]
    whole = method.get("importance_sampling_level", "token") == "sequence"
    ratio = compute_sequence_ratio(batch) if whole else compute_ratio(batch)
    mask = completions.mask
    if method.get("mask_truncated_completions"):
        mask = mask * ~batch.truncated[:, None]
    kept = _keep_close(cfg, batch, advantages) * _keep_uncertain(cfg, batch, mask)
    losses = penalise(cfg, batch, ratio) - kept * compute_gain(cfg, batch, ratio, advantages)
    return _average(cfg, losses, mask) - _reward_entropy(cfg, batch, mask * _keep_uncertain(cfg, batch, mask))


def compute_advantages(cfg: DictConfig, batch: Batch) -> Tensor:
    """Return each completion's advantage, (rows,).

    Shao et al., 2024, section 4.1.2; without a division, Dr. GRPO (2503.20783); by the batch's standard deviation, Lite
    PPO (2508.08221); of each reward by itself, GDPO (2601.05242).
    """
    rewards, groups = batch.rewards, batch.groups
    if cfg.method.get("multi_objective_aggregation") == "normalize_then_sum":
        summed = standardise_groups(batch.scores, groups) @ batch.weights
        apart: Tensor = (summed - summed.mean()) / (summed.std() + 1e-4)  # what TRL adds, lest it divide by 0
        return apart
    centred = rewards - average_groups(rewards, groups)
    scale = cfg.method.get("scale_rewards", "group")
    if scale in ("none", False):
        return centred
    return centred / (rewards.std() if scale == "batch" else spread_groups(rewards, groups))


def compute_gain(cfg: DictConfig, batch: Batch, ratio: Tensor, advantages: Tensor) -> Tensor:
    """Return what is to be maximised, (rows, tokens) or (rows, 1)."""
    import torch

    method, policy = cfg.method, batch["completion"].policy
    if method.loss_type == "cispo":  # MiniMax, 2025, equations 4 and 5; TRL's bound is that of the weight itself
        return ratio.detach().clamp(max=method.get("epsilon_high") or method.get("epsilon", 0.2)) * advantages * policy
    if method.loss_type == "sapo":  # Gao et al., 2025
        rising, falling = method.get("sapo_temperature_pos", 1.0), method.get("sapo_temperature_neg", 1.05)
        tau = torch.where(advantages > 0, torch.tensor(float(rising)), torch.tensor(float(falling)))
        return 4 / tau * torch.sigmoid(tau * (ratio - 1)) * advantages
    if method.loss_type == "vespo":  # Shen et al., 2026
        return _weigh_by_importance(method, batch, advantages) * advantages * policy
    return clip_gain(cfg, ratio, advantages)


def _weigh_by_importance(method: Any, batch: Batch, advantages: Tensor) -> Tensor:
    """Return W^k exp(lambda (1 - W)) of each completion's ratio W, (rows, 1)."""
    import torch

    logs = (batch["completion"].policy - batch["completion"].old).detach().sum(-1, keepdim=True)
    kernels = [
        power * logs + fade * (1 - logs.exp())
        for power, fade in (
            (method.get("vespo_k_pos", 2.0), method.get("vespo_lambda_pos", 3.0)),
            (method.get("vespo_k_neg", 3.0), method.get("vespo_lambda_neg", 2.0)),
        )
    ]
    weights: Tensor = torch.where(advantages >= 0, kernels[0], kernels[1]).exp()
    return weights


def _keep_close(cfg: DictConfig, batch: Batch, advantages: Tensor) -> Tensor:
    """Return 0 for bad completions that the policy has left behind, else 1, (rows, 1): DeepSeek-V3.2, equation 9."""
    import torch

    bound, completions = cfg.method.get("off_policy_mask_threshold"), batch["completion"]
    if bound is None:
        return torch.ones_like(advantages)
    apart = ((completions.old - completions.policy).detach().sum(-1) / completions.lengths)[:, None]
    kept: Tensor = ((advantages >= 0) | (apart <= bound)).float()
    return kept


def _keep_uncertain(cfg: DictConfig, batch: Batch, mask: Tensor) -> Tensor:
    """Return 1 for the share of tokens with the highest entropy, else 0, (rows, tokens): Wang et al., 2506.01939."""
    import torch

    share, entropy = cfg.method.get("top_entropy_quantile", 1.0), batch["completion"].entropy.detach()
    if share >= 1 or not mask.any():
        return torch.ones_like(mask)
    return (entropy >= torch.quantile(entropy[mask.bool()], 1 - share)).float()


def _reward_entropy(cfg: DictConfig, batch: Batch, mask: Tensor) -> Tensor:
    """Return the entropy bonus: the mean entropy per token, times its weight."""
    weight = cfg.method.get("entropy_coef", 0.0)
    if weight == 0:
        return mask.new_zeros(())
    bonus: Tensor = weight * (batch["completion"].entropy * mask).sum() / mask.sum().clamp(min=1)
    return bonus


def _average(cfg: DictConfig, losses: Tensor, mask: Tensor) -> Tensor:
    """Return the loss of the batch.

    Of completions' means, GRPO and SAPO; of their sums, LUSPO; of their sums over the greatest length, Dr. GRPO; of all
    tokens, the others.
    """
    sums: Tensor = (losses * mask).sum(-1)
    if cfg.method.loss_type in ("grpo", "sapo"):
        return (sums / mask.sum(-1).clamp(min=1)).mean()
    if cfg.method.loss_type == "luspo":
        return sums.mean()
    if cfg.method.loss_type == "dr_grpo":
        return sums.mean() / float(cfg.method.max_completion_length)
    return sums.sum() / mask.sum().clamp(min=1)
