"""KL to the start model on a model's own samples, against a plain computation."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from alignzoo.evaluate.divergence import own_sample_kl

PROMPTS = [[5, 6, 7], [8], [9, 10], [11, 12, 13, 14]]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from alignzoo.tiny import make_tiny

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


def kl(model: Any, start: Any, tokenizer: Any, stops: tuple[int, ...] = (2,), size: int = 4) -> list[tuple[float, int]]:
    return own_sample_kl(model, start, tokenizer, PROMPTS, list(stops), 12, size)


def test_a_model_is_no_distance_from_itself(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    for divergence, tokens in kl(model, model, tokenizer):
        assert divergence == pytest.approx(0, abs=1e-6)
        assert 1 <= tokens <= 12


def test_it_is_the_sum_over_the_distributions(loaded: tuple[Any, Any], moved: Any, monkeypatch: Any) -> None:
    """One prompt after the other, torch's own kl_div, at each place from which an answer's token was drawn."""
    from alignzoo.evaluate import divergence

    start, tokenizer = loaded
    sampled: list[list[int]] = []
    plain = divergence.generate

    def noted(*arguments: Any, **more: Any) -> list[list[int]]:
        answers = plain(*arguments, **more)
        sampled.extend(answers)
        return answers

    monkeypatch.setattr(divergence, "generate", noted)
    found = kl(moved, start, tokenizer, size=1)
    order = sorted(range(len(PROMPTS)), key=lambda i: len(PROMPTS[i]))
    for index, new in zip(order, sampled, strict=True):
        answer = new[: new.index(2) + 1] if 2 in new else new
        ids = torch.tensor([PROMPTS[index] + answer])
        with torch.no_grad():
            p, q = (m(ids).logits[0, len(PROMPTS[index]) - 1 : -1].log_softmax(-1) for m in (moved, start))
        wanted = torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum")
        assert found[index][0] == pytest.approx(float(wanted), rel=1e-4)
        assert found[index][1] == len(answer)


def test_samples_are_the_same_every_time_and_leave_the_generator_alone(loaded: tuple[Any, Any], moved: Any) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first = kl(moved, loaded[0], loaded[1])
    assert torch.equal(torch.rand(3), expected)
    assert kl(moved, loaded[0], loaded[1]) == first


def test_answers_are_sampled_and_not_greedy(loaded: tuple[Any, Any], moved: Any) -> None:
    from alignzoo.evaluate.answers import generate

    torch.manual_seed(0)
    sampled, greedy = (generate(moved, loaded[1], PROMPTS, [2], 12, sample=way) for way in (True, False))
    assert sampled != greedy


def test_the_start_model_is_the_model_without_its_adapter(loaded: tuple[Any, Any]) -> None:
    import peft

    start, tokenizer = loaded
    adapted = peft.get_peft_model(copy.deepcopy(start), peft.LoraConfig(r=4, init_lora_weights=False)).eval()
    found, apart = kl(adapted, None, tokenizer), kl(adapted, start, tokenizer)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in apart], abs=1e-5)
    assert sum(value for value, _ in found) > 0.01
