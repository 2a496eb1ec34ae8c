"""KL to the start model on a model's own samples, against a plain computation."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from alignzoo.evaluate.completions import generate_greedy_and_sampled
from alignzoo.evaluate.kl import Sample, estimate_kl

PROMPTS = [[5, 6, 7], [8], [9, 10], [11, 12, 13, 14]]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from alignzoo.models.tiny import make_tiny

    folder: Path = tmp_path_factory.mktemp("tiny")
    make_tiny(folder)
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def moved(loaded: tuple[Any, Any]) -> Any:
    model = copy.deepcopy(loaded[0])
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)
    return model


def sample(model: Any, tokenizer: Any) -> list[tuple[list[int], list[int]]]:
    answered = generate_greedy_and_sampled(model, tokenizer, PROMPTS, [2], 12, 4)
    return [(prompt, ids) for prompt, (_, ids) in zip(PROMPTS, answered, strict=True)]


def kl(model: Any, start: Any, tokenizer: Any, size: int = 4) -> list[tuple[float, int]]:
    samples = [Sample(*pair) for pair in sample(model, tokenizer)]
    return estimate_kl(model, start, samples, size, tokenizer.pad_token_id)


def test_a_model_is_no_distance_from_itself(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    for divergence, tokens in kl(model, model, tokenizer):
        assert divergence == pytest.approx(0, abs=1e-6)
        assert 1 <= tokens <= 12


@pytest.mark.parametrize("size", [1, 3])
def test_it_is_the_sum_over_the_distributions(loaded: tuple[Any, Any], moved: Any, size: int) -> None:
    """One prompt after the other, torch's own kl_div, at each place from which an answer's token was drawn."""
    start, tokenizer = loaded
    found = kl(moved, start, tokenizer, size)
    for (prompt, answer), (divergence, tokens) in zip(sample(moved, tokenizer), found, strict=True):
        ids = torch.tensor([prompt + answer])
        with torch.no_grad():
            p, q = (m(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1) for m in (moved, start))
        wanted = torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum")
        assert divergence == pytest.approx(float(wanted), rel=1e-4)
        assert tokens == len(answer)


def test_the_start_model_is_the_model_without_its_adapter(loaded: tuple[Any, Any]) -> None:
    import peft

    start, tokenizer = loaded
    adapted = peft.get_peft_model(copy.deepcopy(start), peft.LoraConfig(r=4, init_lora_weights=False)).eval()
    found, apart = kl(adapted, None, tokenizer), kl(adapted, start, tokenizer)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in apart], abs=1e-5)
    assert sum(value for value, _ in found) > 0.01
