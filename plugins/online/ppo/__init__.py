"""Proximal Policy Optimization with a value head.

Schulman et al., 2017, "Proximal Policy Optimization Algorithms", https://arxiv.org/abs/1707.06347, equations 7 and 9;
Schulman et al., 2016, "High-Dimensional Continuous Control Using Generalized Advantage Estimation",
https://arxiv.org/abs/1506.02438, equation 16; Ouyang et al., 2022, https://arxiv.org/abs/2203.02155, section 3.5 and
appendix C.4; Huang et al., 2024, "The N+ Implementation Details of RLHF with PPO", https://arxiv.org/abs/2403.17031.

Each token is an action. Its reward is a penalty, beta x log(policy / start model), and at the last token the answer's
score too. A linear head on the policy's last hidden state learns what reward is still to come.

Data: prompts, and rewards (`reward=...`). Beta: 0.02 (Ouyang et al.) to 0.05 (Huang et al.). Learning rate: 3e-6 (Huang
et al., 6.9B); the value head has its own. TRL has no PPO since 1.13: the trainer is alignzoo's, on that of RLOO.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch, DataFormat, Method, UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor

#: key -> lowest and highest value, both allowed
RANGES = {
    "gamma": (0.0, 1.0),
    "lam": (0.0, 1.0),
    "beta": (0.0, float("inf")),
    "vf_coef": (0.0, float("inf")),
    "missing_eos_penalty": (0.0, float("inf")),
    "num_iterations": (1, float("inf")),
    "num_generations": (1, float("inf")),
    "generation_batch_size": (2, float("inf")),
}
KL_ESTIMATORS = ("k1", "k2", "k3")
POSITIVE = ("epsilon", "cliprange_value", "temperature", "value_learning_rate")


class PPO(Method):
    """Proximal Policy Optimization (Schulman et al., 2017): a value head says which tokens earned the reward."""

    name = "ppo"
    data = DataFormat.PROMPTS
    config = "alignzoo_plugins.online.ppo.config:PPOConfig"
    trainer = "alignzoo_plugins.online.ppo.trainer:PPOTrainer"
    uses_rewards = True
    pinned = {"mask_truncated_completions": False}  # it would take an unfinished answer's tokens, and its penalty, away
    headline = {
        "reward": "reward",
        "kl": "kl",
        "value_loss": "value loss",
        "clip_fraction": "clipped",
        "explained_variance": "explained variance",
    }

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse values out of range, and rollouts that cannot be cut into mini-batches or groups."""
        method, batch = cfg.method, cfg.train.global_batch_size
        for key, (low, high) in RANGES.items():
            if not low <= method.get(key, low) <= high:
                wanted = f"at least {low}" if high == float("inf") else f"between {low:g} and {high:g}"
                raise UserError(f"method.{key}={method[key]} must be {wanted}.")
        for key in POSITIVE:
            if method.get(key, 1) <= 0:
                raise UserError(f"method.{key}={method[key]} must be above 0.")
        if method.kl_estimator not in KL_ESTIMATORS:
            raise UserError(f"method.kl_estimator={method.kl_estimator} must be one of {', '.join(KL_ESTIMATORS)}.")
        sampled, group = method.generation_batch_size, method.get("num_generations", 1)
        for size, name in ((batch, "train.global_batch_size"), (group, "method.num_generations")):
            if sampled % size:
                raise UserError(f"method.generation_batch_size={sampled} must be a multiple of {name}={size}.")
        if cfg.strategy.processes not in (1, "auto"):
            raise UserError(
                f"strategy.processes={cfg.strategy.processes}: ppo trains in one process, its value head is not shared."
            )

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Schulman et al., 2017, equations 7 and 9, advantages of Schulman et al., 2016, equation 16.

        The value head starts at 0, so the values are 0: an advantage is the discounted sum of the rewards to come. Not
        covered: the KL estimates k2 and k3.
        """
        import torch

        method, answers = cfg.method, batch["completion"]
        if method.kl_estimator != "k1":
            return None
        last = torch.nn.functional.one_hot(answers.lengths.long() - 1, answers.mask.shape[1])
        scores = batch.rewards - method.missing_eos_penalty * batch.truncated
        rewards = scores[:, None] * last - method.beta * (answers.old - answers.reference) * answers.mask
        steps = torch.arange(answers.mask.shape[1])
        ahead = (steps[:, None] - steps[None, :]).clamp(min=0)  # (later token, token): tokens between them
        weights = torch.tril(torch.ones_like(ahead)) * (method.gamma * method.lam) ** ahead
        returns = rewards @ weights.float()
        count = answers.mask.sum()
        mean = (returns * answers.mask).sum() / count
        spread = (((returns - mean) ** 2 * answers.mask).sum() / count).sqrt()
        advantages = (returns - mean) / spread
        ratio, clip = (answers.policy - answers.old).exp(), method.epsilon
        gain = torch.min(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
        loss: Tensor = ((method.vf_coef * returns**2 / 2 - gain) * answers.mask).sum() / count
        return loss
