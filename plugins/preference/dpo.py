"""Direct Preference Optimization.

Rafailov et al., 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
https://arxiv.org/abs/2305.18290, equation 7. Loss: -log sigmoid(beta x (log-ratio of chosen - log-ratio of rejected)),
each log-ratio summed over the completion's tokens, against the start model.

Data: pairs. Beta: strength of the pull towards the start model; published values 0.01 (Zephyr's best), 0.1 (paper,
dialogue and summaries: 0.1 and 0.5). Learning rates: 5e-7 (Zephyr, Tulu 3) to 5e-6 for full training, ten times that
with adapters. Its rewards scale with beta: compare runs by alignzoo's own measurements, never by these.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alignzoo import Batch, DataFormat, Method, UserError, check_beta

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


#: The losses that TRL 1.16 has; it would name an unknown one at the first step only.
LOSSES = (
    *("sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired"),
    *("apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm"),
)

#: The losses that read ``label_smoothing`` in TRL 1.16; its sigmoid loss does not.
SMOOTHED = {"aot", "aot_unpaired", "exo_pair", "robust"}


class DPO(Method):
    """Direct Preference Optimization (Rafailov et al., 2023): a logistic loss on pairs, against the start model."""

    name = "dpo"
    data = DataFormat.PREFERENCE
    needs_reference = True
    config = "trl:DPOConfig"
    trainer = "trl:DPOTrainer"
    whole_logits = False

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a beta that reverses preferences, and label smoothing where TRL ignores it."""
        check_beta(cfg)
        smoothing, losses = cfg.method.get("label_smoothing", 0), set(cfg.method.loss_type)
        for loss in losses.difference(LOSSES):
            raise UserError(f"method.loss_type={loss}: DPOTrainer has no such loss. It has {', '.join(LOSSES)}.")
        if smoothing and not losses & SMOOTHED:
            raise UserError(
                f"method.label_smoothing does nothing to the losses {', '.join(sorted(losses))} in TRL 1.16. For wrong "
                "labels use method=cdpo or method=rdpo."
            )
        if smoothing >= 0.5 and "robust" in losses:
            raise UserError(f"method.label_smoothing={smoothing} must be below 0.5: it is the share of wrong labels.")

    @classmethod
    def mean_of_rows(cls, cfg: DictConfig) -> bool:
        """All losses but those that sort the margins of a batch, or average over its tokens."""
        return not {"aot", "aot_unpaired", "sft"} & set(cfg.method.loss_type)

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """-log sigmoid(0), where the loss is DPO's own and not weighted."""
        own = list(cfg.method.loss_type) == ["sigmoid"]
        weighted = cfg.method.get("loss_weights") is not None or cfg.method.get("use_weighting")
        return math.log(2) if own and not weighted else None

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Rafailov et al., 2023, equation 7."""
        from torch.nn.functional import logsigmoid

        if list(cfg.method.loss_type) != ["sigmoid"]:
            return None
        margins = batch["chosen"].log_ratio.sum(-1) - batch["rejected"].log_ratio.sum(-1)
        return -logsigmoid(cfg.method.beta * margins).mean()
