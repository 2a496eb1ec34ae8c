"""Log-probabilities of answers, against a sum worked out token by token."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

Pairs = list[tuple[list[int], list[int]]]

PAIRS: Pairs = [
    ([5, 9, 300], [17, 23, 2]),
    ([7], [40]),
    ([900, 11, 12, 13, 14, 15, 16], [2]),
    ([3, 4], [8, 8, 8, 8, 8, 8, 8, 8, 8, 2]),
    ([5, 9, 300], [17, 24, 2]),
    ([1023, 1, 0], [0, 0, 1]),  # 0 is also the token that fills rows up
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoModelForCausalLM

    from alignzoo.models.tiny import make_tiny

    folder: Path = tmp_path_factory.mktemp("tiny")
    make_tiny(folder)
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def by_hand(model: Any, prompt: list[int], answer: list[int]) -> float:
    """Add up log p(token | all before it), each from a forward pass of its own, in double precision."""
    import torch

    total = 0.0
    for place, token in enumerate(answer):
        before = torch.tensor([prompt + answer[:place]])
        with torch.no_grad():
            scores = [float(score) for score in model(before).logits[0, -1]]
        most = max(scores)
        total += scores[token] - most - math.log(sum(math.exp(score - most) for score in scores))
    return total


def test_sums_are_those_worked_out_token_by_token(model: Any) -> None:
    from alignzoo.evaluate.likelihood import compute_logprobs

    found = compute_logprobs(model, PAIRS, batch_size=4, pad=0)
    assert found == pytest.approx([by_hand(model, *pair) for pair in PAIRS], abs=1e-4)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_the_batch_size_changes_nothing(model: Any, size: int) -> None:
    from alignzoo.evaluate.likelihood import compute_logprobs

    alone = [compute_logprobs(model, [pair], 1, 0)[0] for pair in PAIRS]
    assert compute_logprobs(model, PAIRS, size, 0) == pytest.approx(alone, abs=1e-4)


def test_the_padding_token_changes_nothing(model: Any) -> None:
    from alignzoo.evaluate.likelihood import compute_logprobs

    assert compute_logprobs(model, PAIRS, 6, 0) == compute_logprobs(model, PAIRS, 6, 511)


def test_the_order_of_the_pairs_is_kept(model: Any) -> None:
    from alignzoo.evaluate.likelihood import compute_logprobs

    turned = compute_logprobs(model, PAIRS[::-1], 2, 0)
    assert turned[::-1] == pytest.approx(compute_logprobs(model, PAIRS, 2, 0), abs=1e-4)


def test_the_prompt_is_not_counted(model: Any) -> None:
    """log p(a b | prompt) = log p(a | prompt) + log p(b | prompt a)."""
    from alignzoo.evaluate.likelihood import compute_logprobs

    whole, first, second = compute_logprobs(model, [([3, 4], [5, 6]), ([3, 4], [5]), ([3, 4, 5], [6])], 3, 0)
    assert whole == pytest.approx(first + second, abs=1e-4)
    assert first < -0.1


def test_probabilities_of_all_next_tokens_add_up_to_one(model: Any) -> None:
    from alignzoo.evaluate.likelihood import compute_logprobs

    every = compute_logprobs(model, [([77, 78], [token]) for token in range(model.config.vocab_size)], 256, 0)
    assert sum(map(math.exp, every)) == pytest.approx(1, abs=1e-4)


def test_a_bfloat16_model_is_scored_in_float32(model: Any) -> None:
    """Only its logits are rounded: the sum over the vocabulary is not, which would lose whole nats."""
    import copy

    import torch

    from alignzoo.evaluate.likelihood import compute_logprobs

    rough = copy.deepcopy(model).to(torch.bfloat16)
    with torch.no_grad():
        logits = rough(torch.tensor([[7, 40]])).logits[0, 0].double()
    wanted = float(torch.log_softmax(logits, -1)[40])
    assert compute_logprobs(rough, [([7], [40])], 1, 0)[0] == pytest.approx(wanted, abs=1e-5)


def test_no_pairs_have_no_sums(model: Any) -> None:
    from alignzoo.evaluate.likelihood import compute_logprobs

    assert compute_logprobs(model, [], 4, 0) == []
