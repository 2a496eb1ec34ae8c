"""SamPO: DPO on down-sampled log-ratios.

Lu et al., 2024, "Eliminating Biased Length Reliance of Direct Preference Optimization via Down-Sampled KL Divergence",
https://arxiv.org/abs/2406.10957. Loss: DPO's, with the log-ratios summed over as many tokens of the longer completion,
drawn anew at each step without replacement, as the shorter one has.

Data: pairs. Beta 0.1 (0.5 for Pythia 2.8B) and learning rates of 1e-6 (4e-7 for Llama 3 8B Instruct) in the authors'
code. There the policy's tokens and the reference's are drawn apart; here a log-ratio is of one token under both. What
is drawn depends on the run's seed, the step and the pair alone, so that a resumed run draws the same. The reference is
computed at each step, token by token.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alignzoo import Batch, PairLoss, Pairs

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class SamPO(PairLoss):
    """SamPO (Lu et al., 2024): DPO on as many tokens of the longer completion as the shorter one has."""

    name = "sampo"
    needs_reference = True
    draws_tokens = True

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """-log sigmoid(0)."""
        return math.log(2)

    @classmethod
    def loss(cls, cfg: DictConfig, pairs: Pairs) -> Tensor:
        """DPO's margin, over the tokens with the smallest numbers."""
        from torch.nn.functional import softplus

        sums = []
        for side, other in ((pairs.chosen, pairs.rejected), (pairs.rejected, pairs.chosen)):
            draws = side.draws.masked_fill(side.mask == 0, math.inf)
            place = draws.argsort(dim=-1).argsort(dim=-1)  # of each token, were they sorted by their numbers
            kept = (place < other.lengths[:, None]) & (side.mask != 0)
            sums.append(((side.token_log_probs - side.reference_token_log_probs) * kept).sum(-1))
        loss: Tensor = softplus(cfg.method.beta * (sums[1] - sums[0]))
        return loss

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Lu et al., 2024, DPO with down-sampled log-ratios."""
        import torch
        from torch.nn.functional import logsigmoid

        margins = []
        for row, pair in enumerate(zip(batch["chosen"].lengths, batch["rejected"].lengths, strict=True)):
            tokens = int(min(pair))
            ratios = []
            for length, answers in zip(pair, (batch["chosen"], batch["rejected"]), strict=True):
                drawn = answers.draws[row, : int(length)].topk(tokens, largest=False).indices
                ratios.append(answers.log_ratio[row, drawn].sum())
            margins.append(ratios[0] - ratios[1])
        return -logsigmoid(cfg.method.beta * torch.stack(margins)).mean()
