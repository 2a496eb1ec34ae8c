"""Chooses the next token of each row: the likeliest one, or one drawn by a single random number."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """The random numbers by which the tokens of a batch's completions are drawn.

    A row's numbers are its own, so that its completion does not depend on when other rows end.
    """

    numbers: Tensor
    """Of [0, 1), (rows, tokens), float64, on the CPU: the same ones on every device."""

    sampled: Tensor
    """Which rows are sampled, (rows,); the others take the likeliest token each time."""

    temperature: float = 1.0
    """By which scores are divided before a token is drawn, beside what ``generate`` divides them by."""

    @classmethod
    def draw(cls, rows: int, tokens: int, sampled: bool) -> Draws:
        """Return numbers of torch's generator, whose state a checkpoint holds; none are drawn where none are needed."""
        numbers = torch.rand(rows, tokens if sampled else 0, dtype=torch.float64)
        return cls(numbers, torch.full((rows,), sampled))

    def select(self, rows: Tensor) -> Draws:
        """Return those of some rows, by their places."""
        return Draws(self.numbers[rows], self.sampled[rows], self.temperature)

    def choose(self, scores: Tensor, rows: Tensor, place: int) -> Tensor:
        """Return the token at ``place`` of the completions, (rows,).

        Args:
            scores: logits of the next tokens, (rows, vocabulary), after all that processes them.
            rows: which rows they are, on the CPU.
            place: how many tokens the completions have already.
        """
        sampled = self.sampled[rows]
        if not bool(sampled.any()):
            return scores.argmax(-1)
        if bool(sampled.all()):
            return draw_tokens(scores / self.temperature, self.numbers[rows, place])
        tokens, some = scores.argmax(-1), sampled.nonzero()[:, 0]
        there = some.to(scores.device)
        drawn = draw_tokens(scores[there] / self.temperature, self.numbers[rows[some], place])
        return tokens.index_put((there,), drawn)


def draw_tokens(scores: Tensor, numbers: Tensor) -> Tensor:
    """Return the first token of each row at which the summed probabilities exceed the row's number, (rows,).

    transformers draws each token from as many random numbers as the vocabulary has tokens.

    Raises:
        RuntimeError: a logit is NaN or infinite, as in :func:`torch.multinomial`.
    """
    exact = torch.float32 if scores.device.type == "mps" else torch.float64  # MPS has no float64
    sums = scores.float().softmax(-1).cumsum(-1, dtype=exact)
    if not bool(sums[:, -1].isfinite().all()):
        raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    points = numbers[:, None].to(sums.device, exact) * sums[:, -1:]
    return torch.searchsorted(sums, points, right=True)[:, 0].clamp(max=scores.shape[-1] - 1)
