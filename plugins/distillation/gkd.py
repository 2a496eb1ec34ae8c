"""Generalised knowledge distillation.

Agarwal et al., 2024, "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes",
https://arxiv.org/abs/2306.13649, algorithm 1. At each step, with probability lambda (`method.lmbda`, as TRL spells
it), the completions are sampled from the policy; else they are those of the data. Either way the loss is a generalised
Jensen-Shannon divergence between the teacher's and the policy's next-token distributions, averaged over each
completion (equation 2) and then over completions. The sampling itself gets no gradient.

TRL's GKDTrainer is experimental; this is the paper's loss on the stable DistillationTrainer, which averages over all
tokens instead and knows no lambda. All processes draw the same number at a step, which depends on the seed and the
step alone, so a resumed run draws as an uninterrupted one does.

Data: prompts with a good completion, and a teacher (`teacher=...`). Lambda 0: supervised distillation, 1: `opd`; the
paper compares 0, 0.5 and 1, and 1 is best almost everywhere. Beta: the paper takes the forward KL (0) and, for
translation, 0.1; the reverse KL (1) for instruction tuning. Its students had been fine-tuned on the data before
(`method=sft`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alignzoo import Batch, DataFormat, TrainParts, UserError

from .distillation import Distillation, check_share, compute_divergence

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor
    from transformers import Trainer


class GKD(Distillation):
    """Generalised knowledge distillation (Agarwal et al., 2024): from a teacher, on sampled and given completions."""

    name = "gkd"
    data = DataFormat.SUPERVISED
    trainer = "alignzoo_plugins.distillation.gkd_trainer:GKDTrainer"
    samples = True
    options = frozenset({"lmbda"})

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a share of sampled steps, or a divergence, outside of 0 to 1, and vLLM where steps may not sample."""
        super().check(cfg)
        check_share(cfg, "lmbda")
        if cfg.method.get("use_vllm"):
            raise UserError("method.use_vllm: method=gkd samples by itself. Leave it out, or use method=opd.")

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Agarwal et al., 2024, equation 2 and algorithm 1.

        Of the completions that the step has, sampled or given. A temperature divides both models' logits, which these
        log-probabilities do not show.
        """
        completions = batch["completion"]
        if cfg.method.temperature != 1:
            return None
        divergence = compute_divergence(completions.student_vocabulary, completions.teacher_vocabulary, cfg.method.beta)
        return ((divergence * completions.mask).sum(-1) / completions.lengths).mean()

    def build_trainer(self, parts: TrainParts) -> Trainer:
        """Hand the trainer the share of steps whose completions are sampled."""
        trainer: Any = super().build_trainer(parts)
        trainer.lmbda = float(parts.cfg.method.lmbda)
        built: Trainer = trainer
        return built
