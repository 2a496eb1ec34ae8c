"""Holds what :meth:`alignzoo.Method.equation` is computed from: log-probabilities, and nothing of TRL's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Answers:
    """One column of completions, token by token: log p(token | what precedes it), in nats, 0 behind a completion's end.

    Every tensor is (rows, longest completion), in float32. ``x.policy.sum(-1)`` is a completion's log-probability.
    """

    policy: Tensor
    """Under the policy, with gradient."""

    reference: Tensor
    """Under the start model."""

    old: Tensor
    """Under the policy that sampled the completions, a step ago; where none are sampled, the policy's, detached."""

    mask: Tensor
    """1 where a completion has a token, 0 behind its end."""

    @property
    def log_ratio(self) -> Tensor:
        """Policy's less reference's, (rows, longest completion)."""
        return self.policy - self.reference

    @property
    def lengths(self) -> Tensor:
        """Tokens of each completion, EOS included, (rows,)."""
        return self.mask.sum(-1)


@dataclass(frozen=True)
class Batch:
    """All rows of one step. ``batch["chosen"]`` are the completions of a column of the method's format."""

    columns: Mapping[str, Answers]
    """The columns with token ids of :class:`alignzoo.DataFormat`, without ``_ids``.

    Pairs: ``chosen``, ``rejected``. Unpaired: ``completion``, ``KL_completion``. Supervised, sampled: ``completion``.
    All: ``prompt``, whose first token has no probability and is masked.
    """

    labels: Tensor
    """Unpaired: whether the completion is good, (rows,), bool. Else empty."""

    rewards: Tensor
    """Sampled: each completion's reward, (rows,); their spread is in the hundreds. Else empty."""

    groups: Tensor
    """Sampled: the number of each completion's prompt, (rows,). Else empty."""

    def __getitem__(self, column: str) -> Answers:
        return self.columns[column]
