"""Online DPO: DPO on pairs that the policy samples itself, the better one told by a reward.

Guo et al., 2024, "Direct Language Model Alignment from Online AI Feedback", https://arxiv.org/abs/2402.04792,
algorithm 1.
"""

import math

from alignzoo import DataFormat, Method, UserError, hookimpl


class OnlineDPO(Method):
    """Online DPO (Guo et al., 2024): of two sampled answers to a prompt, the one with the higher reward is chosen."""

    name = "online_dpo"
    data = DataFormat.PROMPTS
    config = "trl.experimental.online_dpo:OnlineDPOConfig"
    trainer = "trl.experimental.online_dpo:OnlineDPOTrainer"
    needs_reference = True
    uses_rewards = True
    options = frozenset({"num_generations", "max_completion_length"})
    # The core's plan leaves out a last batch that is not full.
    pinned = {"remove_unused_columns": False, "dataloader_drop_last": True}
    headline = {"objective/scores": "reward", "objective/kl": "KL", "rewards/accuracies": "accuracy"}

    @classmethod
    def check(cls, cfg):
        """Refuse what is not a pair, half a pair, or leaves nothing to learn."""
        if cfg.method.num_generations != 2:
            raise UserError(f"method.num_generations={cfg.method.num_generations} must be 2: it compares two answers.")
        for key in ("global_batch_size", "per_device_batch_size"):
            if cfg.train[key] % 2:
                raise UserError(f"train.{key}={cfg.train[key]} must be even: it counts answers, two to each prompt.")
        if min(cfg.method.beta, default=0) <= 0:
            raise UserError(f"method.beta={cfg.method.beta} must be above 0: at 0 or below it has nothing to learn.")

    @classmethod
    def first_loss(cls, cfg):
        """-log sigmoid(0), where the loss is DPO's."""
        return math.log(2) if cfg.method.get("loss_type", "sigmoid") == "sigmoid" else None

    def trainer_arguments(self, parts):
        """A batch of answers is half as many prompts."""
        parts.args.per_device_train_batch_size //= 2
        return super().trainer_arguments(parts)


@hookimpl
def alignzoo_methods():
    return [OnlineDPO]


@hookimpl
def alignzoo_config_packages():
    return ["alignzoo_online_dpo.conf"]
