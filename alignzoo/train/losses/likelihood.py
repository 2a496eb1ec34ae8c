"""Computes log-probabilities of the fixed rows by plain forward passes, one sequence at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alignzoo.plugin.batch import Answers, Batch
from alignzoo.train.losses.rows import score_ids
from alignzoo.train.pair_batches import draw_numbers

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS = ("prompt", "chosen", "rejected", "gold", "completion", "KL_completion")


def make_batch(rows: Sequence[dict[str, Any]], policy: Any, reference: Any, old: Any, seed: int) -> Batch:
    """Return an equation's view of ``rows`` under three models; ``old``: the model that sampled, or the policy.

    ``seed`` is the run's, by which tokens are drawn at its first step.
    """
    import torch

    columns = {
        name: _measure_answers(rows, name, policy, reference, old, seed) for name in COLUMNS if f"{name}_ids" in rows[0]
    }
    labels = torch.tensor([row["label"] for row in rows if "label" in row], dtype=torch.bool)
    groups = torch.tensor([row["group"] for row in rows if "group" in row])
    scores = score_ids([], [], [row["completion_ids"] for row in rows]) if len(groups) else []
    return Batch(columns, labels, torch.tensor(scores), groups, _read_margins(rows))


def make_scored_batch(rows: Sequence[dict[str, Any]], scorer: Any) -> Batch:
    """Return an equation's view of pairs under a reward model: a score of each prompt with its completion."""
    import torch

    def score(column: str) -> Tensor:
        sequences = [torch.tensor([row["prompt_ids"] + row[f"{column}_ids"]]) for row in rows]
        return torch.cat([scorer(input_ids=ids).logits[:, 0] for ids in sequences])

    nothing = torch.empty(0)
    scored = {name: score(name) for name in ("chosen", "rejected")}
    return Batch({}, nothing, nothing, nothing, _read_margins(rows), scored)


def _read_margins(rows: Sequence[dict[str, Any]]) -> Tensor:
    import torch

    return torch.tensor([row["margin"] for row in rows if "margin" in row])


def _measure_answers(
    rows: Sequence[dict[str, Any]], column: str, policy: Any, reference: Any, old: Any, seed: int
) -> Answers:
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
    now, squares = zip(*(_score_tokens(policy, *pair) for pair in pairs), strict=True)
    draws = _pad([torch.from_numpy(draw_numbers(prompt + answer, len(answer), seed, 0)) for prompt, answer in pairs])
    return Answers(_pad(list(now)), before, sampled, mask, _pad(list(squares)).detach(), draws)


def _pad(rows: list[Tensor]) -> Tensor:
    from torch.nn.utils.rnn import pad_sequence

    padded: Tensor = pad_sequence(rows, batch_first=True)
    return padded


def compute_log_probs(model: Any, prompt: list[int], answer: list[int]) -> Tensor:
    """Return log p(token | what precedes it) of each of the completion's tokens, in nats; 0 for a first token."""
    return _score_tokens(model, prompt, answer)[0]


def _score_tokens(model: Any, prompt: list[int], answer: list[int]) -> tuple[Tensor, Tensor]:
    """Return :func:`compute_log_probs`, and log of the sum of p squared over the vocabulary; (tokens,) each."""
    import torch

    ids = torch.tensor([prompt + answer])
    scores = torch.log_softmax(model(input_ids=ids).logits[0, :-1].float(), dim=-1)
    found = torch.stack([scores.gather(-1, ids[0, 1:, None])[:, 0], (2 * scores).logsumexp(-1)])
    whole = torch.cat([torch.zeros(2, 1), found], dim=1)[:, len(prompt) :]
    return whole[0], whole[1]
