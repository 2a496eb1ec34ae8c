"""On-policy distillation.

Agarwal et al., 2024, "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes",
https://arxiv.org/abs/2306.13649, at a student data fraction of 1: the policy samples the completions, and at each of
their tokens its next-token distribution is drawn to the teacher's. Lu and Thinking Machines Lab, 2025, "On-Policy
Distillation", https://thinkingmachines.ai/blog/on-policy-distillation/, made it a stage of its own with the reverse
KL, TRL's default.

TRL computes the divergence over the whole vocabulary, where Lu et al. take the sampled token's log-ratio alone, and
averages over all tokens of a step, where Agarwal et al. average each completion first (equation 2): `method=gkd` does
so.

Data: prompts, and a teacher (`teacher=...`). Beta: 0 is the forward KL, 1 the reverse KL, between them the generalised
Jensen-Shannon divergence. Learning rates: 5e-5, with LoRA 1e-4 (Lu et al., Qwen3 8B). Start from a model that answers
passably: what it samples is all that the teacher sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch

from .distillation import Distillation, compute_divergence

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class OPD(Distillation):
    """On-policy distillation (Agarwal et al., 2024; Lu et al., 2025): a teacher rates each token the policy samples."""

    name = "opd"

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Agarwal et al., 2024, equation 4.

        With any divergence of section 3, and averaged over all tokens of the batch, as TRL does. A temperature divides
        both models' logits, which these log-probabilities do not show.
        """
        completions = batch["completion"]
        if cfg.method.temperature != 1:
            return None
        divergence = compute_divergence(completions.student_vocabulary, completions.teacher_vocabulary, cfg.method.beta)
        return (divergence * completions.mask).sum() / completions.mask.sum()
