"""Online IPO: IPO on pairs that the policy samples itself, the better one told by a reward.

Calandriello et al., 2024, "Human Alignment of Large Language Models through Online Preference Optimisation",
https://arxiv.org/abs/2403.08635.
"""

from alignzoo import DataFormat, Method, UserError, hookimpl


class OnlineIPO(Method):
    """Online IPO (Calandriello et al., 2024): IPO on two sampled answers, of which the higher reward's is chosen."""

    name = "online_ipo"
    data = DataFormat.PROMPTS
    config = "trl.experimental.online_dpo:OnlineDPOConfig"
    trainer = "trl.experimental.online_dpo:OnlineDPOTrainer"
    needs_reference = True
    uses_rewards = True
    options = frozenset({"num_generations", "max_completion_length"})
    # The core's plan leaves out a last batch that is not full.
    pinned = {"loss_type": "ipo", "remove_unused_columns": False, "dataloader_drop_last": True}
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
        """The margin, 0, is squared as it is away from its aim."""
        return (1 / (2 * cfg.method.beta[0])) ** 2

    def trainer_arguments(self, parts):
        """A batch of answers is half as many prompts."""
        parts.args.per_device_train_batch_size //= 2
        return super().trainer_arguments(parts)


@hookimpl
def alignzoo_methods():
    return [OnlineIPO]


@hookimpl
def alignzoo_config_packages():
    return ["alignzoo_online_ipo.conf"]
