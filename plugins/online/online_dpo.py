"""Online DPO: DPO on pairs that the policy samples itself, the better one told by a reward.

Guo et al., 2024, "Direct Language Model Alignment from Online AI Feedback", https://arxiv.org/abs/2402.04792, algorithm
1. Of two completions that are sampled for a prompt, the one with the higher reward counts as chosen, and DPO's loss
follows. The paper asks a language model which is better: a reward (`reward=model`) stands in its place here.

Data: prompts, and rewards (`reward=...`). Beta 0.1, a temperature of 0.9 and a learning rate of 5e-7 in the paper. TRL
has it in `trl.experimental`; here it is DPO's loss on the stable GRPOTrainer's samples. First loss: log 2.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from alignzoo import Batch, TrainParts, UserError, check_beta

from .group_loss import GroupLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class OnlineDPO(GroupLoss):
    """Online DPO (Guo et al., 2024): of two sampled completions to a prompt, the higher reward's is chosen."""

    name = "online_dpo"
    options = frozenset()  # no group of its batch can be replaced
    trainer = "alignzoo_plugins.online.trainers.online_dpo:OnlineDPOTrainer"
    needs_reference = True
    pinned = {**pin(), "num_generations": 2}
    headline = {"reward": "reward", "rewards/accuracies": "accuracy", "kl": "KL", "completions/mean_length": "tokens"}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse half a pair, and a beta that leaves nothing to learn."""
        check_beta(cfg)
        for key in ("global_batch_size", "per_device_batch_size"):
            if cfg.train[key] % 2:
                raise UserError(f"train.{key}={cfg.train[key]} must be even: it counts answers, two to each prompt.")

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """-log sigmoid(0)."""
        return math.log(2)

    def trainer_arguments(self, parts: TrainParts) -> dict[str, Any]:
        """Sample at the configured temperature and train the policy itself: TRL scores at that of its sampling."""
        args = parts.args
        args.generation_kwargs = {"temperature": args.temperature, **(args.generation_kwargs or {})}
        args.temperature = 1.0
        return super().trainer_arguments(parts)

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Guo et al., 2024, DPO's loss on the sampled pairs."""
        import torch
        from torch.nn.functional import softplus

        ratios, losses = batch["completion"].log_ratio.sum(-1), []
        for group in sorted(set(batch.groups.tolist())):
            pair = (batch.groups == group).nonzero()[:, 0]
            better, worse = pair[batch.rewards[pair].argsort(descending=True)]
            losses.append(softplus(cfg.method.beta * (ratios[worse] - ratios[better])))
        return torch.stack(losses).mean()
