"""Computes the least work of each step, and how fast the machine multiplies at best."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alignzoo.models.pretrained import RemoteCode, build_model, read_config

if TYPE_CHECKING:
    from alignzoo.benchmark.steps import Side

Ids = Sequence[int]

#: What one step's rows hold, by the names that :func:`count_batch` gives.
Batch = dict[str, int]


@dataclass(frozen=True)
class Weights:
    """A model's weights that are multiplied; embeddings are only looked up."""

    layers: int
    """Each distinct token goes through them."""

    head: int
    """Each position with a label goes through it."""

    def count_flops(self, batch: Batch) -> int:
        """Return the operations of a step: 6 a weight and token (Kaplan et al., 2020), 2 where nothing is learnt."""
        learnt = self.layers * batch["learnt"] + self.head * batch["labels"]
        scored = self.layers * batch["scored"] + self.head * batch["scored_labels"]
        return 6 * learnt + 2 * scored


@dataclass
class Limit:
    """The least time that a step can take on this machine: what multiplies no weights, as attention, counts nothing."""

    weights: Weights
    device: str

    precision: str
    """fp32, bf16 or fp16."""

    flops: float = 0.0
    """Operations a second of large matrix products, at its best so far."""

    def measure(self) -> None:
        """Multiply for a fraction of a second, between the steps that are compared with it."""
        from alignzoo.plan.seconds import measure_products

        self.flops = max(self.flops, measure_products(self.device, self.precision))

    def compute_share(self, batches: Iterable[Batch], seconds: Iterable[float]) -> float:
        """Return the least time of these steps over the seconds that they took."""
        return sum(map(self.weights.count_flops, batches)) / self.flops / sum(seconds)


def make_limit(side: Side) -> Limit:
    """Return the limit of a run's steps, which is not measured yet."""
    return Limit(count_weights(side), side.inputs.checked.device, side.inputs.checked.precision)


def count_batch(rows: Sequence[dict[str, Any]], scores_prompts: bool = False) -> Batch:
    """Return what the rows of a step hold, in tokens; ``scores_prompts``: prompts have labels too.

    ``tokens`` of all sequences, without padding; ``learnt``: distinct ones, a beginning that sequences have in common
    counted once; ``labels``: distinct positions whose next token has a label; ``scored`` and ``scored_labels``: the
    same of sequences that are only scored (KTO's KL).
    """
    names = ("chosen_ids", "rejected_ids", "completion_ids")
    prompts, sequences, scored = [], [], []
    for row in rows:
        prompt = [*row["prompt" if "answers" in row else "prompt_ids"]]
        answers = row["answers"] if "answers" in row else [row[name] for name in names if name in row]
        prompts.append(prompt)
        sequences += [[*prompt, *answer] for answer in answers]
        scored += [[*prompt, *row[name]] for name in ("KL_completion_ids",) if name in row]
    learnt, begun = count_distinct(sequences), count_distinct(prompts)
    others = count_distinct(scored)
    return {
        "tokens": sum(map(len, sequences)),
        "learnt": learnt,
        "labels": learnt if scores_prompts else learnt - begun,
        "scored": others,
        "scored_labels": others - begun if scored else 0,
    }


def count_distinct(sequences: Sequence[Ids]) -> int:
    """Return the tokens of all sequences, a beginning that several have in common counted once."""
    ordered = sorted(map(list, sequences))
    shared = sum(_count_shared(*pair) for pair in itertools.pairwise(ordered))
    return sum(map(len, ordered)) - shared


def _count_shared(first: Ids, second: Ids) -> int:
    equal = (a == b for a, b in zip(first, second, strict=False))
    return sum(1 for _ in itertools.takewhile(bool, equal))


def count_weights(side: Side) -> Weights:
    """Return the start model's weights, counted on a skeleton without any."""
    import torch
    from transformers import AutoModelForCausalLM

    code = RemoteCode(allowed=False)
    with torch.device("meta"):
        model = build_model(AutoModelForCausalLM, read_config(side.inputs.start, code), code)
    head, table = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    tables = {id(weight): weight.numel() for weight in (head, table)}  # one where they are tied
    return Weights(sum(weight.numel() for weight in model.parameters()) - sum(tables.values()), head.numel())
