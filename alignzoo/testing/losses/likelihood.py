"""Computes log-probabilities of the fixed rows by plain forward passes, one sequence at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from alignzoo.plugin.batch import Answers, Batch
from alignzoo.testing.losses.rows import score_ids

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS = ("prompt", "chosen", "rejected", "completion", "KL_completion")


def make_batch(rows: Sequence[dict[str, Any]], policy: Any, reference: Any, old: Any, teacher: Any = None) -> Batch:
    """Return an equation's view of ``rows`` under these models; ``old``: the model that sampled, or the policy."""
    import torch

    columns = {
        name: _measure_answers(rows, name, policy, reference, old) for name in COLUMNS if f"{name}_ids" in rows[0]
    }
    if teacher is not None:
        columns["completion"] = _add_vocabularies(columns["completion"], rows, policy, teacher)
    labels = torch.tensor([row["label"] for row in rows if "label" in row], dtype=torch.bool)
    groups = torch.tensor([row["group"] for row in rows if "group" in row])
    scores = score_ids([], [], [row["completion_ids"] for row in rows]) if len(groups) else []
    return Batch(columns, labels, torch.tensor(scores), groups)


def _measure_answers(rows: Sequence[dict[str, Any]], column: str, policy: Any, reference: Any, old: Any) -> Answers:
    import torch

    pairs = [
        ([], row["prompt_ids"]) if column == "prompt" else (row["prompt_ids"], row[f"{column}_ids"]) for row in rows
    ]
    with torch.no_grad():
        before = _pad([compute_log_probs(reference, *pair) for pair in pairs])
        sampled = _pad([compute_log_probs(old, *pair) for pair in pairs])
    mask = _pad([torch.ones(len(answer)) for _, answer in pairs])
    if column == "prompt":
        mask[:, 0] = 0
    return Answers(_pad([compute_log_probs(policy, *pair) for pair in pairs]), before, sampled, mask)


def _add_vocabularies(answers: Answers, rows: Sequence[dict[str, Any]], policy: Any, teacher: Any) -> Answers:
    """Return the completions with the tokens, and both models' log-probabilities of all tokens there could be."""
    import torch

    pairs = [(row["prompt_ids"], row["completion_ids"]) for row in rows]
    with torch.no_grad():
        taught = _pad([compute_distributions(teacher, *pair) for pair in pairs])
    own = _pad([compute_distributions(policy, *pair) for pair in pairs])
    ids = _pad([torch.tensor(completion) for _, completion in pairs])
    return replace(answers, ids=ids, student_vocabulary=own, teacher_vocabulary=taught)


def _pad(rows: list[Tensor]) -> Tensor:
    from torch.nn.utils.rnn import pad_sequence

    padded: Tensor = pad_sequence(rows, batch_first=True)
    return padded


def compute_log_probs(model: Any, prompt: list[int], answer: list[int]) -> Tensor:
    """Return log p(token | what precedes it) of each of the completion's tokens, in nats; 0 for a first token."""
    import torch

    ids = torch.tensor([prompt + answer])
    found = torch.cat([torch.zeros(1), _score(model, ids).gather(-1, ids[0, 1:, None])[:, 0]])
    return found[len(prompt) :]


def compute_distributions(model: Any, prompt: list[int], answer: list[int]) -> Tensor:
    """Return log p(any token | what precedes it) at each of the completion's tokens, (tokens, vocabulary), in nats."""
    import torch

    return _score(model, torch.tensor([prompt + answer]))[len(prompt) - 1 :]


def _score(model: Any, ids: Tensor) -> Tensor:
    """Return log p(any token | what precedes it) at each token but the first of one sequence, (tokens, vocabulary)."""
    import torch

    return torch.log_softmax(model(input_ids=ids).logits[0, :-1].float(), dim=-1)
