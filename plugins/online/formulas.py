"""Terms that the equations of several on-policy methods have in common, written from the papers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


def average_groups(values: Tensor, groups: Tensor) -> Tensor:
    """Return, for each row, the mean of ``values`` over its group, (rows,) or (rows, functions)."""
    import torch

    return torch.stack([values[groups == group].mean(0) for group in groups])


def spread_groups(values: Tensor, groups: Tensor) -> Tensor:
    """Return, for each row, the standard deviation of ``values`` within its group, of the shape of ``values``."""
    import torch

    return torch.stack([values[groups == group].std(0) for group in groups])


def standardise_groups(values: Tensor, groups: Tensor) -> Tensor:
    """Return each value less its group's mean, over its group's standard deviation: Shao et al., 2024, 4.1.2."""
    return (values - average_groups(values, groups)) / spread_groups(values, groups)


def compute_ratio(batch: Batch) -> Tensor:
    """Return each token's probability now over that when it was sampled, (rows, tokens)."""
    completions = batch["completion"]
    return (completions.policy - completions.old).exp()


def compute_sequence_ratio(batch: Batch) -> Tensor:
    """Return the geometric mean of each completion's ratios, (rows, 1): Zheng et al., 2025 (GSPO)."""
    completions = batch["completion"]
    logs = (completions.policy - completions.old).sum(-1) / completions.lengths
    return logs.exp()[:, None]


def clip_gain(cfg: DictConfig, ratio: Tensor, advantages: Tensor) -> Tensor:
    """Return PPO's clipped gain, to be maximised: Schulman et al., 2017, equation 7, with DAPO's two bounds.

    ``delta`` is INTELLECT-2's (2505.07291): a bound for ratios of negative advantages, which PPO's clip leaves without.
    """
    import torch

    low, delta = cfg.method.get("epsilon", 0.2), cfg.method.get("delta")
    high = cfg.method.get("epsilon_high") or low
    bounded = ratio if delta is None else ratio.clamp(max=delta)
    return torch.min(bounded * advantages, ratio.clamp(1 - low, 1 + high) * advantages)


def penalise(cfg: DictConfig, batch: Batch, ratio: Tensor) -> Tensor:
    """Return each token's KL penalty, (rows, tokens), and 0 without one.

    Shao et al., 2024, equation 4; since the paper TRL weighs it by the ratio too (DeepSeek-V3.2, section 3.1).
    """
    import torch

    completions, beta = batch["completion"], cfg.method.get("beta", 0.0)
    if beta == 0:
        return torch.zeros_like(completions.mask)
    apart = -completions.log_ratio
    kl = apart.exp() - apart - 1
    weighed: Tensor = beta * (kl * ratio if cfg.method.get("use_bias_correction_kl", True) else kl)
    return weighed


def average_tokens(batch: Batch, losses: Tensor) -> Tensor:
    """Return the mean over all tokens of the batch: Yu et al., 2025 (DAPO)."""
    mask = batch["completion"].mask
    mean: Tensor = (losses * mask).sum() / mask.sum()
    return mean


def average_completions(batch: Batch, losses: Tensor) -> Tensor:
    """Return the mean over completions of the means over their tokens: Shao et al., 2024, equation 3."""
    completions = batch["completion"]
    mean: Tensor = ((losses * completions.mask).sum(-1) / completions.lengths).mean()
    return mean
