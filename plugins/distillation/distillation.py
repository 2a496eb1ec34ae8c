"""What the methods share that learn from a teacher, on TRL's DistillationTrainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alignzoo import DataFormat, Method, TrainParts, UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor
    from transformers import Trainer

#: Fields with which TRL would load a teacher by itself, past the group ``teacher``.
OWN_TEACHER = ("teacher_model_name_or_path", "teacher_model_revision", "teacher_model_init_kwargs")


class Distillation(Method):
    """A method on TRL's DistillationTrainer, which samples from the policy and compares next-token distributions."""

    data = DataFormat.PROMPTS
    config = "trl:DistillationConfig"
    trainer = "trl:DistillationTrainer"
    whole_logits = False
    uses_teacher = True
    headline = {"entropy": "entropy", "completions/mean_length": "tokens"}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a divergence that is none, and a teacher that TRL would load by itself."""
        given = [key for key in OWN_TEACHER if cfg.method.get(key) is not None]
        if given:
            raise UserError(f"method.{given[0]}: the teacher is a group of its own: use teacher=local teacher.path=...")
        check_share(cfg, "beta")

    def build_trainer(self, parts: TrainParts) -> Trainer:
        """Return TRL's trainer; its backbones are called so that batches can be packed."""
        trainer: Any = super().build_trainer(parts)
        # patch: trl DistillationTrainer.model_kwarg_keys
        trainer.model_kwarg_keys = frozenset()  # else backbones get `logits_to_keep`, which they do not read
        built: Trainer = trainer
        return built


def check_share(cfg: DictConfig, key: str) -> None:
    """Refuse ``method.key`` outside of 0 to 1.

    Raises:
        UserError: it is.
    """
    value = cfg.method.get(key)
    if value is not None and not 0 <= value <= 1:
        raise UserError(f"method.{key}={value} must be from 0 to 1.")


def compute_divergence(student: Tensor, teacher: Tensor, beta: float) -> Tensor:
    """Return the generalised Jensen-Shannon divergence at each position, (rows, longest completion), in nats.

    Agarwal et al., 2024, section 3: ``beta`` KL(p || m) + (1 - ``beta``) KL(q || m) with m = ``beta`` p +
    (1 - ``beta``) q, p the teacher and q the student. At 0 and 1, where it vanishes: KL(p || q) and KL(q || p), its
    limits over ``beta`` and over 1 - ``beta``. For equations: from log-probabilities of the whole vocabulary, (rows,
    longest completion, vocabulary).
    """
    p, q = teacher.exp(), student.exp()
    if beta in (0, 1):
        return (p * (teacher - student)).sum(-1) if beta == 0 else (q * (student - teacher)).sum(-1)
    mixture = (beta * p + (1 - beta) * q).log()
    divergence: Tensor = beta * (p * (teacher - mixture)).sum(-1) + (1 - beta) * (q * (student - mixture)).sum(-1)
    return divergence
