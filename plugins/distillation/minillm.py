"""MiniLLM.

Gu et al., 2024, "MiniLLM: Knowledge Distillation of Large Language Models", https://arxiv.org/abs/2306.08543: the
reverse KL of whole completions, KL(q || p) with q the policy and p the teacher, by policy gradient. Its gradient
(equation 7) has two parts: that of each step's KL over the whole vocabulary, and the sampled token's, weighed by what
its successors come to. Completions are sampled from a mixture of teacher and policy (equation 4), and weighed by
importance (equation 5); the rewards of the successors are their mean (equation 6).

What is here: equations 3 to 7, with algorithm 1's clip. What is not: the language modelling loss on a pretraining
corpus that algorithm 1 adds; several updates on one sample (the paper: 256 completions, four times; here each
completion serves one step); its choice of the start model by validation loss, for which `method=sft` comes first.
Equation 6 divides by T - t - 1, one less than it adds up, which is 0 for the last but one token: here it is the number
of terms. Without the second part the loss is `method=opd` with beta 1, summed over tokens.

Data: prompts, and a teacher (`teacher=...`). Teacher mix: 0.2 in the paper, always. Learning rate: 5e-6, batches of 64
(120M to 13B).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alignzoo import Batch, TrainParts, UserError

from .distillation import Distillation

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor
    from transformers import Trainer


class MiniLLM(Distillation):
    """MiniLLM (Gu et al., 2024): the reverse KL of whole completions to a teacher, by policy gradient."""

    name = "minillm"
    trainer = "alignzoo_plugins.distillation.minillm_trainer:MiniLLMTrainer"
    pinned = {"beta": 1.0, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "use_vllm": False}
    options = frozenset({"teacher_mix", "clip"})

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a mixture from which the policy, whose gradient it is, never samples, and a clip that is none."""
        super().check(cfg)
        if not 0 <= cfg.method.teacher_mix < 1:
            raise UserError(f"method.teacher_mix={cfg.method.teacher_mix} must be at least 0 and below 1.")
        if not cfg.method.clip > 0:
            raise UserError(f"method.clip={cfg.method.clip} must be above 0 (paper: 0.2).")

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Gu et al., 2024, equation 7 and algorithm 1.

        As a loss with that gradient: weights and rewards are constants. Of a batch whose policy samples.
        """
        import torch

        completions, mix, clip = batch["completion"], cfg.method.teacher_mix, cfg.method.clip
        q, p = completions.student_vocabulary, completions.teacher_vocabulary
        mean = torch.zeros(())
        for row, length in enumerate(int(n) for n in completions.lengths):
            tokens, steps = completions.ids[row, :length], torch.arange(length)
            own, taught = q[row, steps, tokens], p[row, steps, tokens]
            ratio = own.exp() / (mix * taught.exp() + (1 - mix) * own.exp()).detach()
            rewards = (taught - own).detach()
            for t in range(length):
                single = (q[row, t].exp() * (p[row, t] - q[row, t])).sum()
                later = rewards[t + 1 :].mean() if t + 1 < length else torch.zeros(())
                clipped = torch.min(ratio[t], ratio[t].clamp(1 - clip, 1 + clip))
                mean = mean - (ratio[t].detach() * single + later * clipped) / len(completions.lengths)
        return mean

    def build_trainer(self, parts: TrainParts) -> Trainer:
        """Hand the trainer the teacher's share of the sampling, and the clip."""
        trainer: Any = super().build_trainer(parts)
        trainer.teacher_mix, trainer.clip = float(parts.cfg.method.teacher_mix), float(parts.cfg.method.clip)
        built: Trainer = trainer
        return built
