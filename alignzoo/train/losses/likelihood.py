"""Computes log-probabilities of the fixed rows by plain forward passes, one sequence at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alignzoo.plugin.batch import Answers, Batch
from alignzoo.train.pair_batches import draw_numbers

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS = ("prompt", "chosen", "rejected", "gold", "completion", "KL_completion")


def make_batch(
    rows: Sequence[dict[str, Any]], policy: Any, reference: Any, old: Any, seed: int, temperature: float = 1.0
) -> Batch:
    """Return an equation's view of ``rows`` under three models; ``old``: the model that sampled, or the policy.

    ``seed`` is the run's, by which tokens are drawn at its first step. ``temperature`` is that of the sampling: the
    policy that an on-policy method trains is the one that it samples from.
    """
    import torch

    models = {"policy": policy, "reference": reference, "old": old}
    columns = {
        name: _measure_answers(rows, name, models, seed, temperature) for name in COLUMNS if f"{name}_ids" in rows[0]
    }
    labels = torch.tensor([row["label"] for row in rows if "label" in row], dtype=torch.bool)
    return dataclasses.replace(_read_rewards(rows, columns, labels), margins=_read_margins(rows))


def make_scored_batch(rows: Sequence[dict[str, Any]], scorer: Any) -> Batch:
    """Return an equation's view of pairs under a reward model: a score of each prompt with its completion."""
    import torch

    def score(column: str) -> Tensor:
        sequences = [torch.tensor([row["prompt_ids"] + row[f"{column}_ids"]]) for row in rows]
        return torch.cat([scorer(input_ids=ids).logits[:, 0] for ids in sequences])

    nothing = torch.empty(0)
    scored = {name: score(name) for name in ("chosen", "rejected")}
    return Batch({}, nothing, nothing, nothing, margins=_read_margins(rows), scored=scored)


def _read_margins(rows: Sequence[dict[str, Any]]) -> Tensor:
    import torch

    return torch.tensor([row["margin"] for row in rows if "margin" in row])


def _read_rewards(rows: Sequence[dict[str, Any]], columns: Mapping[str, Answers], labels: Tensor) -> Batch:
    """Return a batch with what it tells of sampled rows; empty tensors where none are sampled."""
    import torch

    if "group" not in rows[0]:
        return Batch(columns, labels, torch.empty(0), torch.empty(0))
    scores, weights = torch.tensor([row["scores"] for row in rows]), torch.tensor(rows[0]["weights"])
    return Batch(
        columns,
        labels,
        rewards=scores @ weights,
        groups=torch.tensor([row["group"] for row in rows]),
        scores=scores,
        weights=weights,
        truncated=torch.tensor([row["truncated"] for row in rows]),
        greedy_rewards=torch.tensor([row["greedy_scores"] for row in rows]) @ weights,
    )


def _measure_answers(
    rows: Sequence[dict[str, Any]], column: str, models: Mapping[str, Any], seed: int, temperature: float
) -> Answers:
    import torch

    pairs = [
        ([], row["prompt_ids"]) if column == "prompt" else (row["prompt_ids"], row[f"{column}_ids"]) for row in rows
    ]

    def score(name: str) -> Tensor:
        return _pad([compute_log_probs(models[name], *pair, temperature) for pair in pairs])

    with torch.no_grad():
        before, sampled = score("reference"), score("old")
        squares = _pad([_compute_log_sum_squares(models["policy"], *pair) for pair in pairs])
    mask = _pad([torch.ones(len(answer)) for _, answer in pairs])
    if column == "prompt":
        mask[:, 0] = 0
    draws = _pad([torch.from_numpy(draw_numbers(prompt + answer, len(answer), seed, 0)) for prompt, answer in pairs])
    answers = Answers(score("policy"), before, sampled, mask, squares, draws)
    if "group" not in rows[0] or column == "prompt":
        return answers
    entropy = _pad([_compute_entropy(models["policy"], *pair, temperature) for pair in pairs])
    return dataclasses.replace(answers, entropy=entropy)


def add_vocabularies(batch: Batch, rows: Sequence[dict[str, Any]], policy: Any, teacher: Any) -> Batch:
    """Return the batch with its completions' tokens, and both models' log-probabilities of all there could be."""
    import torch

    pairs = [(row["prompt_ids"], row["completion_ids"]) for row in rows]

    def score(model: Any) -> Tensor:
        return _pad([_score_tokens(model, torch.tensor([p + c]), 1.0)[len(p) - 1 :] for p, c in pairs])

    with torch.no_grad():
        taught = score(teacher)
    ids = _pad([torch.tensor(completion) for _, completion in pairs])
    shown = {"ids": ids, "student_vocabulary": score(policy), "teacher_vocabulary": taught}
    return dataclasses.replace(
        batch, columns={**batch.columns, "completion": dataclasses.replace(batch["completion"], **shown)}
    )


def _pad(rows: list[Tensor]) -> Tensor:
    from torch.nn.utils.rnn import pad_sequence

    padded: Tensor = pad_sequence(rows, batch_first=True)
    return padded


def compute_log_probs(model: Any, prompt: list[int], answer: list[int], temperature: float = 1.0) -> Tensor:
    """Return log p(token | what precedes it) of each of the completion's tokens, in nats; 0 for a first token."""
    import torch

    ids = torch.tensor([prompt + answer])
    scores = _score_tokens(model, ids, temperature)
    found = torch.cat([torch.zeros(1), scores.gather(-1, ids[0, 1:, None])[:, 0]])
    return found[len(prompt) :]


def _compute_log_sum_squares(model: Any, prompt: list[int], answer: list[int]) -> Tensor:
    """Return log(sum of p^2 over the vocabulary) where each of the completion's tokens stands; 0 for a first token."""
    import torch

    squares = (2 * _score_tokens(model, torch.tensor([prompt + answer]), 1.0)).logsumexp(-1)
    return torch.cat([torch.zeros(1), squares])[len(prompt) :]


def _compute_entropy(model: Any, prompt: list[int], answer: list[int], temperature: float) -> Tensor:
    """Return the entropy of the distribution from which each of the completion's tokens was chosen, in nats."""
    import torch

    scores = _score_tokens(model, torch.tensor([prompt + answer]), temperature)
    return -(scores.exp() * scores).sum(-1)[len(prompt) - 1 :]


def _score_tokens(model: Any, ids: Tensor, temperature: float) -> Tensor:
    """Return the log-probabilities of all tokens of the vocabulary behind each of ``ids`` but the last."""
    import torch

    return torch.log_softmax(model(input_ids=ids).logits[0, :-1].float() / temperature, dim=-1)


def decode_greedily(model: Any, prompt: list[int], end: int, longest: int) -> list[int]:
    """Return the likeliest tokens one after the other, up to ``end`` or ``longest`` of them."""
    import torch

    answer: list[int] = []
    with torch.no_grad():
        while len(answer) < longest and answer[-1:] != [end]:
            answer.append(int(model(input_ids=torch.tensor([prompt + answer])).logits[0, -1].argmax()))
    return answer
