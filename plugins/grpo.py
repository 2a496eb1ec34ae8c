"""Group Relative Policy Optimization.

Shao et al., 2024, "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models",
https://arxiv.org/abs/2402.03300, equation 3. For each prompt a group of answers is sampled and rewarded; each answer's
advantage is its reward less the group's mean, over the group's standard deviation; PPO's clipped objective follows,
with a KL penalty towards the start model.

Data: prompts, and rewards (`reward=...`). Beta: weight of the KL penalty, 0.04 in the paper, often 0 since (Dr. GRPO,
DAPO). Learning rates: 1e-6 (paper, 7B); 5e-7 to 5e-6. Its loss starts near zero and says little: watch the reward.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from alignzoo import DataFormat, Method, TrainParts, UserError, hookimpl

if TYPE_CHECKING:
    from omegaconf import DictConfig


class GRPO(Method):
    """Group Relative Policy Optimization (Shao et al., 2024): rewards compared within a group of sampled answers."""

    name = "grpo"
    data = DataFormat.PROMPTS
    config = "trl:GRPOConfig"
    trainer = "trl:GRPOTrainer"
    uses_rewards = True
    headline = {"reward": "reward", "reward_std": "spread", "completions/mean_length": "tokens"}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse groups that cannot be compared or do not fill a batch."""
        group = cfg.method.num_generations
        if group < 2:
            raise UserError(f"method.num_generations={group} must be at least 2: an answer is compared with its group.")
        if cfg.train.global_batch_size % group:
            raise UserError(
                f"train.global_batch_size={cfg.train.global_batch_size} must be a multiple of "
                f"method.num_generations={group}: a batch holds whole groups."
            )
        if cfg.method.beta < 0:
            raise UserError(f"method.beta={cfg.method.beta} must be 0 (no KL penalty) or above.")

    def trainer_arguments(self, parts: TrainParts) -> dict[str, Any]:
        """Add the rewards; each has its own name, so that no two share a metric."""
        return super().trainer_arguments(parts) | {"reward_funcs": list(parts.rewards)}


@hookimpl
def alignzoo_methods() -> Iterable[type[Method]]:
    """Return :class:`GRPO`."""
    return [GRPO]
