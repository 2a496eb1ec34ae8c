"""Computes the least work of a step, and what the machine computes at best."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alignzoo.models.pretrained import RemoteCode, build_model, read_config

if TYPE_CHECKING:
    from alignzoo.benchmark.steps import Side


@dataclass(frozen=True)
class Work:
    """One step's, on average over the steps."""

    tokens: float
    """Of all sequences without padding; a prompt counts with each of its answers."""

    flops: float
    """Operations on the distinct tokens: 6 a weight and token (Kaplan et al., 2020), 2 where nothing is learnt."""

    peak_flops: float
    """Operations a second of large matrix products on this machine, in this precision."""

    precision: str
    """fp32, bf16 or fp16."""


def compute_work(side: Side, groups: Sequence[dict[str, Any]], steps: int) -> Work:
    """Return the work of a step of these rows, or for GRPO groups; embeddings count once where they are tied."""
    tokens, learnt, scored = count_tokens(groups or side.inputs.rows.to_list())
    precision = side.inputs.checked.precision
    flops = count_parameters(side) * (6 * learnt + 2 * scored)
    return Work(tokens / steps, flops / steps, _peak(side.inputs.checked.device, precision), precision)


def count_tokens(rows: Sequence[dict[str, Any]]) -> tuple[int, int, int]:
    """Return tokens of all sequences, distinct ones that are learnt from, and distinct ones that are only scored."""
    tokens = learnt = scored = 0
    for row in rows:
        names = ("chosen_ids", "rejected_ids", "completion_ids")
        answers = row["answers"] if "answers" in row else [row[name] for name in names if name in row]
        prompt, total = len(row["prompt" if "answers" in row else "prompt_ids"]), sum(map(len, answers))
        tokens += prompt * len(answers) + total
        learnt += prompt + total
        scored += prompt + len(row["KL_completion_ids"]) if "KL_completion_ids" in row else 0
    return tokens, learnt, scored


def count_parameters(side: Side) -> int:
    """Return the start model's weights, counted on a skeleton without any."""
    import torch
    from transformers import AutoModelForCausalLM

    code = RemoteCode(allowed=False)
    with torch.device("meta"):
        model = build_model(AutoModelForCausalLM, read_config(side.inputs.start, code), code)
    return sum(weight.numel() for weight in model.parameters())


@functools.cache
def _peak(device: str, precision: str) -> float:
    from alignzoo.plan.seconds import measure_rate

    return measure_rate(device, precision).flops
