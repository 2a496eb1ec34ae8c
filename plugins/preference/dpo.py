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

from .aot import AOT
from .apo_down import APODown
from .apo_zero import APOZero
from .discopop import DiscoPOP
from .dpo_norm import DPONorm
from .exo import EXO
from .ipo import square_margins
from .nca import NCA
from .rdpo import RobustDPO
from .rso import RSO
from .sppo import SPPO
from .trl_options import Equation, add_losses, check_options, compare_pairs

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


#: Loss types of TRL's and the methods whose equations, which read no options of TRL's, define them.
PAPERS: dict[str, type[Method]] = {
    "hinge": RSO,
    "exo_pair": EXO,
    "nca_pair": NCA,
    "robust": RobustDPO,
    "sppo_hard": SPPO,
    "aot": AOT,
    "apo_zero": APOZero,
    "apo_down": APODown,
    "discopop": DiscoPOP,
    "sigmoid_norm": DPONorm,
}


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
        """Refuse a beta that reverses preferences, label smoothing where TRL ignores it, and what TRL refuses later."""
        check_beta(cfg)
        smoothing, losses = cfg.method.get("label_smoothing", 0), set(cfg.method.loss_type)
        for loss in losses.difference(LOSSES):
            raise UserError(f"method.loss_type={loss}: DPOTrainer has no such loss. It has {', '.join(LOSSES)}.")
        if smoothing and not losses & SMOOTHED:
            raise UserError(
                f"method.label_smoothing does nothing to the losses {', '.join(sorted(losses))} in TRL 1.16. For wrong "
                "labels use method=cdpo or method=rdpo."
            )
        check_options(cfg, list(cfg.method.loss_type))
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
        """Rafailov et al., 2023, equation 7.

        With other loss types and options, the equations of their papers (:mod:`.trl_options`); None for what TRL has
        from no paper: its loss without BCO's reward shift, and label smoothing of a sorted batch.
        """
        smoothed = bool(cfg.method.get("label_smoothing"))
        papers: dict[str, Equation] = {kind: method.equation for kind, method in PAPERS.items()}
        plain: dict[str, Equation] = {"sigmoid": compare_pairs, "ipo": square_margins, "sft": imitate_chosen}
        equations = {**papers, **plain, "aot_unpaired": transport_unpaired}
        sorted_ = ("aot", "aot_unpaired") if smoothed else ()
        covered = {kind: equation for kind, equation in equations.items() if kind not in sorted_}
        return add_losses(cfg, batch, list(cfg.method.loss_type), covered)


def imitate_chosen(cfg: DictConfig, batch: Batch) -> Tensor:
    """Return the negative log-likelihood of the chosen completions, per token of the batch, a scalar."""
    return -batch["chosen"].policy.sum() / batch["chosen"].lengths.sum()


def transport_unpaired(cfg: DictConfig, batch: Batch) -> Tensor:
    """Return the loss of Melnyk et al., 2024, unpaired: log-ratios of chosen and rejected, sorted apart, a scalar."""
    from torch.nn.functional import logsigmoid

    chosen, rejected = (batch[name].log_ratio.sum(-1).sort().values for name in ("chosen", "rejected"))
    return -logsigmoid(cfg.method.beta * (chosen - rejected)).mean()
