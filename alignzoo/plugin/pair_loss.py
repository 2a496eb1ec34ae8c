"""Defines a method on preference pairs that gives only a loss, which is trained on the batches of TRL's DPOTrainer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from alignzoo.plugin.completions import Completions
from alignzoo.plugin.method import DataFormat, Method
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor

#: What selects and changes TRL's own losses, at values that select and change nothing.
UNREAD: Mapping[str, Any] = {
    "loss_type": ["sigmoid"],
    "loss_weights": None,
    "ld_alpha": None,
    "f_divergence_type": "reverse_kl",
    "f_alpha_divergence_coef": 0.5,
    "label_smoothing": 0.0,
    "use_weighting": False,
    "discopop_tau": 0.05,
    "sync_ref_model": False,
}

#: What keeps TRL from loading a reference model.
NO_REFERENCE: Mapping[str, Any] = {"precompute_ref_log_probs": True}


@dataclass(frozen=True)
class Scored(Completions):
    """The chosen, the rejected or the gold completions of a batch; rows are pairs.

    Attributes:
        reference_token_log_probs: as ``token_log_probs``, under the start model; 0 without ``draws_tokens``.
        draws: a number from 0 to 1 for each token, drawn from the run's seed, the step and the row, (pairs, positions),
            0 outside the completion; 0 without ``draws_tokens``.
        prompt_log_probs: of the prompts' tokens but the first, under the policy, with gradient, (pairs, positions); 0
            elsewhere, without ``scores_prompts``, and of rejected and gold completions.
        prompt_mask: 1 where ``prompt_log_probs`` has a token, else 0, (pairs, positions).
    """

    reference_token_log_probs: Tensor
    draws: Tensor
    prompt_log_probs: Tensor
    prompt_mask: Tensor


@dataclass(frozen=True)
class Pairs:
    """The pairs of a batch.

    Attributes:
        chosen: the chosen completions.
        rejected: the rejected ones, in the same order.
        gold: third completions, in the same order, if ``further_columns`` names ``gold_ids``; else of 0 positions.
            Their ``reference_log_prob`` is 0.
        margin: by how much each chosen one is better, (pairs,), if ``further_columns`` names it; else 0.
    """

    chosen: Scored
    rejected: Scored
    gold: Scored
    margin: Tensor


class PairLoss(Method, ABC):
    """A method on preference pairs that is one function. A plugin subclasses it and gives ``loss`` and ``equation``.

    TRL's DPOTrainer makes the batches, and whatever holds for DPO holds here: shared prefixes, cached references,
    adapters, strategies, resuming, budgets. Without ``needs_reference`` no reference is loaded or computed.
    """

    data = DataFormat.PREFERENCE
    config = "trl:DPOConfig"
    trainer = "trl:DPOTrainer"
    whole_logits = False
    pinned: ClassVar[Mapping[str, Any]] = UNREAD

    draws_tokens: ClassVar[bool] = False
    """Whether the loss counts tokens that are drawn at random: it gets a number for each token to draw by, and the
    reference token by token, which is computed at each step."""

    scores_prompts: ClassVar[bool] = False
    """Whether the loss reads the log-probabilities of the chosen sequences' prompts too."""

    def __init_subclass__(cls) -> None:
        """Keep TRL from a reference that is not read, from sums where tokens are, and from dropping further columns."""
        super().__init_subclass__()
        if not cls.needs_reference:
            cls.pinned = {**cls.pinned, **NO_REFERENCE}
        elif cls.draws_tokens:
            cls.pinned = {**cls.pinned, "precompute_ref_log_probs": False}
        if "further_columns" in vars(cls):
            cls.pinned = {**cls.pinned, "remove_unused_columns": False}

    @classmethod
    @abstractmethod
    def loss(cls, cfg: DictConfig, pairs: Pairs) -> Tensor:
        """Return the loss of each pair, (pairs,), or of the batch where it is more than their mean, a scalar.

        With gradient, on the device of ``pairs``. Import torch inside. It must share no function with ``equation``.
        """

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a beta that reverses preferences."""
        if "beta" in cfg.method:
            check_beta(cfg)

    @classmethod
    def mean_of_rows(cls, cfg: DictConfig) -> bool:
        """A mean over pairs; a loss of the batch overrides it."""
        return True


def check_beta(cfg: DictConfig) -> None:
    """Refuse ``method.beta`` at 0 or below, and a missing one; for :meth:`Method.check`."""
    if cfg.method.beta <= 0:
        raise UserError(
            f"method.beta={cfg.method.beta} must be above 0: at 0 or below {cfg.method.name} has nothing to learn."
        )
