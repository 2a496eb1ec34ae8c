"""DPO-Shift, with a fixed shift.

Yang et al., 2025, "DPO-Shift: Shifting the Distribution of Direct Preference Optimization",
https://arxiv.org/abs/2502.07599. Loss: -log sigmoid(beta x (log-ratio of chosen - lambda x log-ratio of rejected)): the
rejected completion counts less, so that the chosen one's likelihood falls less, or not at all.

Data: pairs. Beta 0.01 and learning rates of 5e-7 in the authors' code (Llama 3 8B, Qwen 2 7B), which tries lambdas from
0.5 to 1 (1 is DPO). It also lets lambda rise or fall along the run, which is not done here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alignzoo import Batch, PairLoss, Pairs, UserError, check_beta

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class DPOShift(PairLoss):
    """DPO-Shift (Yang et al., 2025): the rejected completion counts less, so that the chosen one stays likely."""

    name = "dpo_shift"
    needs_reference = True
    options = frozenset({"shift"})
    relatives = {"dpo": {"shift": 1}}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a weight at which rejected completions become more likely, or count for more than in DPO."""
        check_beta(cfg)
        if not 0 < cfg.method.shift <= 1:
            raise UserError(f"method.shift={cfg.method.shift} must be above 0 and at most 1, which is DPO.")

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """-log sigmoid(0)."""
        return math.log(2)

    @classmethod
    def loss(cls, cfg: DictConfig, pairs: Pairs) -> Tensor:
        """DPO's margin with a part of the rejected completion's log-ratio."""
        from torch.nn.functional import softplus

        margin = pairs.chosen.log_ratio - cfg.method.shift * pairs.rejected.log_ratio
        loss: Tensor = softplus(-cfg.method.beta * margin)
        return loss

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Yang et al., 2025, the loss of DPO-Shift."""
        from torch.nn.functional import logsigmoid

        beta, shift = cfg.method.beta, cfg.method.shift
        policy = batch["chosen"].policy.sum(-1) - shift * batch["rejected"].policy.sum(-1)
        reference = batch["chosen"].reference.sum(-1) - shift * batch["rejected"].reference.sum(-1)
        return -logsigmoid(beta * policy - beta * reference).mean()
