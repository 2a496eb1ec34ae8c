"""Defines a method on single completions that gives only a loss, trained on the batches of TRL's KTOTrainer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from alignzoo.plugin.completions import Completions
from alignzoo.plugin.method import DataFormat, Method
from alignzoo.plugin.pair_loss import NO_REFERENCE, check_beta
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor

#: What changes TRL's own losses, at values that change nothing, and the blocks in which the core lays out the rows.
FIXED: Mapping[str, Any] = {
    "desirable_weight": 1.0,
    "undesirable_weight": 1.0,
    "train_sampling_strategy": "sequential",
}

#: TRL's loss type that estimates the KL, and the one that does not: whether the loss reads it -> ``loss_type``.
LOSS_TYPES = {True: "kto", False: "apo_zero_unpaired"}


@dataclass(frozen=True)
class Marked(Completions):
    """The completions of a batch, each good or bad; rows are completions.

    Attributes:
        labels: whether the completion is good, (rows,), bool. A batch may hold one kind only.
        kl_log_ratios: of completions to other prompts than their own, the policy's log-probability less the
            reference's, in nats, without gradient, over the rows of all processes; empty without ``needs_kl``. Their
            mean, not below 0, is KTO's estimate of the KL divergence.
        running_mean: ``running_mean("name", values)`` returns the mean of all values given under this name since the
            training began, these included, over all processes, without gradient, a scalar. It is kept over a resume.
            Held-out rows are not added to it.
    """

    labels: Tensor
    kl_log_ratios: Tensor
    running_mean: Callable[[str, Tensor], Tensor]


class AnswerLoss(Method, ABC):
    """A method on single completions that is one function. A plugin gives ``loss`` and ``equation``.

    TRL's KTOTrainer makes the batches, and whatever holds for KTO holds here: shared prefixes, cached references,
    adapters, strategies, resuming, budgets. Without ``needs_reference`` no reference is loaded or computed.
    """

    data = DataFormat.UNPAIRED
    config = "trl:KTOConfig"
    trainer = "trl:KTOTrainer"
    whole_logits = False
    headline: ClassVar[Mapping[str, str]] = {"rewards/margins": "margin"}
    pinned: ClassVar[Mapping[str, Any]] = FIXED

    needs_kl: ClassVar[bool] = False
    """Whether the loss reads ``kl_log_ratios``, which costs another forward pass of policy and reference."""

    def __init_subclass__(cls) -> None:
        """Have TRL compute what the loss reads, and no more."""
        super().__init_subclass__()
        cls.scores_again = cls.needs_kl
        needless = {} if cls.needs_reference else NO_REFERENCE
        cls.pinned = {**cls.pinned, **needless, "loss_type": LOSS_TYPES[cls.needs_kl]}

    @classmethod
    @abstractmethod
    def loss(cls, cfg: DictConfig, rows: Marked) -> Tensor:
        """Return the loss of each completion, (rows,), or of the batch where it is more than their mean, a scalar.

        With gradient, on the device of ``rows``. Import torch inside. It must share no function with ``equation``.
        """

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a beta that reverses the labels, and batches in which no completion has another's prompt."""
        if "beta" in cfg.method:
            check_beta(cfg)
        if cls.needs_kl and cfg.train.per_device_batch_size < 2:
            raise UserError(
                f"train.per_device_batch_size must be at least 2 for {cfg.method.name}: "
                "its KL term pairs each prompt with another's completion."
            )

    @classmethod
    def mean_of_rows(cls, cfg: DictConfig) -> bool:
        """A mean over completions, but for the KL, which is a mean over the batch; a loss of the batch overrides it."""
        return not cls.needs_kl
