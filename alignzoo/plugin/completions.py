"""Holds completions of a batch as a plugin's own loss gets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Completions:
    """Completions of a batch, with their log-probabilities in nats; rows are pairs, or single completions.

    Attributes:
        token_log_probs: under the policy, with gradient, (rows, positions); 0 at positions outside the completion.
        mask: 1 where a position holds a token of the completion, EOS included, else 0, (rows, positions).
        reference_log_prob: of the whole completion under the start model, (rows,); 0 without ``needs_reference``.
    """

    token_log_probs: Tensor
    mask: Tensor
    reference_log_prob: Tensor

    @property
    def log_prob(self) -> Tensor:
        """Of the whole completion under the policy, (rows,)."""
        return self.token_log_probs.sum(-1)

    @property
    def log_ratio(self) -> Tensor:
        """The policy's less the reference's, of the whole completion, (rows,)."""
        return self.log_prob - self.reference_log_prob

    @property
    def lengths(self) -> Tensor:
        """Tokens of each completion, EOS included, (rows,)."""
        return self.mask.sum(-1)

    @property
    def mean_log_prob(self) -> Tensor:
        """Per token under the policy, (rows,)."""
        return self.log_prob / self.lengths
