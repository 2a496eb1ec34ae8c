"""Scores the completions of TRL's DistillationTrainer token by token, without the logits of a whole batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from trl.kernels import ChunkedLogProbFunction
from trl.kernels.chunked_divergence import VOCAB_CHUNK_SIZE, ChunkedDivergenceFunction

#: Keys of model configs that scale the logits, and whether they divide; a model has one of them at most.
SCALES = {"logit_scale": False, "output_multiplier": False, "lm_head_multiplier": False, "logits_scaling": True}


@dataclass(frozen=True)
class Scored:
    """One model's completions: what its last layer takes, and that layer.

    Attributes:
        hidden: (rows, longest completion, width), at the position before each token.
        weight: (vocabulary, width).
        bias: (vocabulary,), or None.
        scale: what the logits are multiplied by.
        softcap: the bound of their tanh, or None.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    scale: float
    softcap: float | None


def score_completions(trainer: Any, student: Any, inputs: Any) -> tuple[Scored, Scored]:
    """Return the student's completions, with gradient, and the teacher's, as TRL's own loss reads them."""
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    width = inputs["completion_ids"].size(1)
    own = trainer._get_last_hidden_state(student, ids, mask, width)
    teacher = trainer.accelerator.unwrap_model(trainer.teacher_model).eval()
    with torch.no_grad():
        taught = trainer._get_last_hidden_state(teacher, ids, mask, width)
    return _with_head(student, own), _with_head(teacher, taught)


def _with_head(model: Any, hidden: Tensor) -> Scored:
    head, config = model.get_output_embeddings(), model.config.get_text_config()
    scale = 1.0
    for key, divides in SCALES.items():
        value = getattr(config, key, None)
        if value is not None:
            scale = 1 / value if divides and config.model_type != "hyperclovax" else value
            break
    return Scored(hidden, head.weight, head.bias, scale, getattr(config, "final_logit_softcapping", None))


def compute_divergences(student: Scored, teacher: Scored, beta: float, temperature: float) -> tuple[Tensor, Tensor]:
    """Return each token's divergence and the student's entropy, (rows, longest completion), in nats.

    ``beta`` is that of ``trl.kernels.chunked_divergence.ChunkedDivergenceFunction``: 0 forward KL, 1 reverse KL.
    """
    shape = student.hidden.shape[:2]
    found = ChunkedDivergenceFunction.apply(
        *(student.hidden.flatten(0, 1), student.weight, student.bias),
        *(teacher.hidden.flatten(0, 1), teacher.weight, teacher.bias),
        *(beta, temperature, student.scale, student.softcap, teacher.scale, teacher.softcap),
    )
    divergence, entropy = (values.view(shape) for values in found)
    return divergence, entropy


def compute_log_probs(scored: Scored, ids: Tensor) -> Tensor:
    """Return log p of each of ``ids``, (rows, longest completion), in nats, with the gradient of the hidden states."""
    hidden = scored.hidden.flatten(0, 1)
    settings = 1.0, VOCAB_CHUNK_SIZE, scored.softcap, scored.scale, ()
    found: Tensor = ChunkedLogProbFunction.apply(hidden, scored.weight, scored.bias, ids.flatten(), *settings)[0]
    return found.view(ids.shape)


def count_rows(trainer: Any, inputs: Any) -> int:
    """Return the rows of this process in the whole step, whose losses add up over its batches."""
    rows: int = len(inputs["completion_ids"])
    return rows * trainer.current_gradient_accumulation_steps if trainer.model.training else rows
