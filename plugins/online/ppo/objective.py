"""PPO's arithmetic: rewards of tokens, advantages, and the two clipped losses.

Shapes: (answers,) or (answers, longest answer) with a mask that is 1 on an answer's tokens, the one that ends it
included, and 0 behind. What stands behind an answer's end, NaN included, changes nothing. Log-probabilities and KL are
in nats.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def kl_estimate(policy: Tensor, reference: Tensor, kind: str) -> Tensor:
    """Return each sampled token's estimate of KL(policy || reference) from its two log-probabilities.

    Schulman, 2020, "Approximating KL Divergence", http://joschu.net/blog/kl-approx.html: ``k1`` is unbiased and may be
    negative, ``k2`` is biased and varies less, ``k3`` is unbiased, varies less and is never negative.
    """
    ratio = policy - reference
    if kind == "k1":
        return ratio
    return ratio**2 / 2 if kind == "k2" else torch.expm1(-ratio) + ratio


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Return -beta x ``kl`` for every token, plus the answer's score at its last (Ouyang et al., 2022, equation 2)."""
    rewards = torch.where(mask.bool(), -beta * kl, 0.0)
    last = mask.long().sum(-1, keepdim=True) - 1
    return rewards.scatter_add(1, last, scores[:, None])


def estimate_advantages(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """Return generalized advantages (Schulman et al., 2016, equation 16), 0 behind an answer's end.

    ``values[:, t]`` is the value before token t is chosen. An answer's end is terminal, also where it ran into the
    longest length: no value is expected behind it.
    """
    inside = mask.bool()
    values, rewards = torch.where(inside, values, 0.0), torch.where(inside, rewards, 0.0)
    advantage = later = torch.zeros_like(values[:, 0])
    found = []
    for step in reversed(range(values.shape[1])):
        surprise = rewards[:, step] + gamma * later - values[:, step]
        advantage = torch.where(inside[:, step], surprise + gamma * lam * advantage, 0.0)
        later = values[:, step]
        found.append(advantage)
    return torch.stack(found[::-1], dim=1)


def masked_mean(numbers: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over all tokens of all answers, a scalar."""
    return torch.where(mask.bool(), numbers, 0.0).sum() / mask.sum()


def masked_variance(numbers: Tensor, mask: Tensor) -> Tensor:
    """Return the variance over all tokens of all answers, over their number, a scalar."""
    return masked_mean((numbers - masked_mean(numbers, mask)) ** 2, mask)


def whiten(numbers: Tensor, mask: Tensor) -> Tensor:
    """Shift and scale to mean 0 and variance 1 over all tokens, 0 behind an answer's end; constant numbers become 0."""
    white = (numbers - masked_mean(numbers, mask)) * torch.rsqrt(masked_variance(numbers, mask) + 1e-8)
    return torch.where(mask.bool(), white, 0.0)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float | None:
    """Return the share of the returns' variance that the values foretell: 1 all, 0 none, below 0 worse than their mean.

    None where all returns are equal.
    """
    variance = masked_variance(returns, mask)
    return float(1 - masked_variance(returns - values, mask) / variance) if variance > 0 else None


class Clipped(NamedTuple):
    """A loss of each token, and whether clipping decided it, both (answers, longest answer)."""

    loss: Tensor
    clipped: Tensor


def policy_loss(policy: Tensor, old: Tensor, advantages: Tensor, low: float, high: float) -> Clipped:
    """Return the clipped surrogate objective's negative (Schulman et al., 2017, equation 7).

    ``policy`` and ``old`` are log-probabilities, now and when the answers were sampled. The ratio between the two gains
    nothing above 1 + ``high`` where the advantage is positive, nor below 1 - ``low`` where it is negative.
    """
    ratio = torch.exp(policy - old)
    free, bounded = ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages
    return Clipped(-torch.min(free, bounded), bounded < free)


def value_loss(values: Tensor, old: Tensor, returns: Tensor, reach: float) -> Clipped:
    """Return half the squared error, the larger one of ``values`` and of ``values`` within ``reach`` of ``old``.

    Huang et al., 2024, "value function loss clipping", after the code of Schulman et al., 2017.
    """
    free, bounded = (values - returns) ** 2, (old + (values - old).clamp(-reach, reach) - returns) ** 2
    return Clipped(torch.max(free, bounded) / 2, bounded > free)
