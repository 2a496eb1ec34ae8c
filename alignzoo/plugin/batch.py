"""Holds what :meth:`alignzoo.Method.equation` is computed from: log-probabilities, and nothing of TRL's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def _make_empty() -> Tensor:
    import torch

    return torch.empty(0)


@dataclass(frozen=True)
class Answers:
    """One column of completions, token by token: log p(token | what precedes it), in nats, 0 behind a completion's end.

    Every tensor is (rows, longest completion), in float32. ``x.policy.sum(-1)`` is a completion's log-probability.

    Attributes:
        policy: under the policy, with gradient.
        reference: under the start model.
        old: under the policy that sampled the completions, a step ago; where none are sampled, the policy's, detached.
        mask: 1 where a completion has a token, 0 behind its end.
        log_sum_squares: the logarithm of the sum over the vocabulary of squared probabilities under the policy, without
            gradient.
        draws: the numbers from 0 to 1 by which a loss with ``draws_tokens`` draws tokens, those that the loss gets.
        entropy: of the policy's distribution over each token, with gradient, in nats; of sampled completions, else
            empty.
        log_ratio: policy's less reference's.
        lengths: tokens of each completion, EOS included, (rows,).
        ids: the tokens themselves, 0 behind a completion's end.
        student_vocabulary: of a method with a teacher, the policy's log-probability of every token that could stand
            there, with gradient, (rows, longest completion, vocabulary). Else empty.
        teacher_vocabulary: the teacher's, without gradient.
    """

    policy: Tensor
    reference: Tensor
    old: Tensor
    mask: Tensor
    log_sum_squares: Tensor = field(default_factory=_make_empty)
    draws: Tensor = field(default_factory=_make_empty)
    entropy: Tensor = field(default_factory=_make_empty)
    ids: Tensor = field(default_factory=_make_empty)
    student_vocabulary: Tensor = field(default_factory=_make_empty)
    teacher_vocabulary: Tensor = field(default_factory=_make_empty)

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
    """All rows of one step. ``batch["chosen"]`` are the completions of a column of the method's format.

    The completions of a column have ``policy``, ``reference``, ``old``, ``mask``, ``log_sum_squares``, ``draws``,
    ``log_ratio`` (tensors of rows times longest completion, in nats) and ``lengths`` (rows).

    Attributes:
        columns: the columns with token ids of :class:`alignzoo.DataFormat`, without ``_ids``. Pairs: ``chosen``,
            ``rejected``, and ``gold`` where the method asks for it. Unpaired: ``completion``, ``KL_completion``.
            Supervised, sampled: ``completion``. All: ``prompt``, whose first token has no probability and is masked.
        labels: of unpaired rows, whether the completion is good, (rows,), bool. Else empty.
        rewards: of sampled rows, each completion's reward, (rows,); their spread is in the hundreds. Else empty.
        groups: of sampled rows, the number of each completion's prompt, (rows,). Else empty.
        margins: of pairs, by how much each chosen completion is better, (rows,), where the method asks for it. Else
            empty.
        scored: of a reward model, which has no ``columns``: the score of each completion of a column, with gradient,
            (rows,). Else empty.
        scores: of sampled rows, what each of two reward functions gives, (rows, functions); ``rewards`` is their sum
            with ``weights``. Else empty.
        weights: of the reward functions, (functions,). Else empty.
        truncated: of sampled rows, whether the completion was cut off at the greatest length, (rows,), bool. Else
            empty.
        greedy_rewards: of sampled rows, the reward of the completion that the policy that sampled finds likeliest,
            token by token, for the same prompt, (rows,). Else empty.
    """

    columns: Mapping[str, Answers]
    labels: Tensor
    rewards: Tensor
    groups: Tensor
    margins: Tensor = field(default_factory=_make_empty)
    scored: Mapping[str, Tensor] = field(default_factory=dict)
    scores: Tensor = field(default_factory=_make_empty)
    weights: Tensor = field(default_factory=_make_empty)
    truncated: Tensor = field(default_factory=_make_empty)
    greedy_rewards: Tensor = field(default_factory=_make_empty)

    def __getitem__(self, column: str) -> Answers:
        return self.columns[column]
