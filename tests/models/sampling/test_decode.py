"""Completions that are written together are those of transformers' ``generate``, in fewer passes."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from speed_models import FAMILIES, VOCABULARY, tiny
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, MambaConfig, MambaForCausalLM

from alignzoo.models.sampling import decode as module
from alignzoo.models.sampling.decode import decode, find_distinct
from alignzoo.models.sampling.draws import Draws, draw_tokens
from alignzoo.models.sampling.obstacles import CannotDecodeError

LIMIT = 24
EOS = [7, 11, 19, 23, 42, 77, 100, 130, 151, 160, 200, 201, 222]


def prompts(groups: int = 3, each: int = 4) -> dict[str, Tensor]:
    """Groups of rows with one prompt each, of unequal lengths, padded on the left."""
    dice = torch.Generator().manual_seed(3)
    ids = torch.randint(VOCABULARY, (groups, 20), generator=dice).repeat_interleave(each, 0)
    mask = torch.ones_like(ids)
    for group in range(groups):
        mask[group * each : (group + 1) * each, : 5 * group] = 0
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


def settings(**more: Any) -> GenerationConfig:
    given = {"max_new_tokens": LIMIT, "do_sample": False, "eos_token_id": EOS, "pad_token_id": 0, **more}
    return GenerationConfig(**given, disable_compile=True)


@functools.cache
def model_of(family: str = "llama") -> Any:
    return tiny(family).eval()


def count_rows(model: Any, call: Any) -> tuple[Any, list[int]]:
    """Return what a call returns, and the rows of each forward pass that it made."""
    rows: list[int] = []
    hook = model.get_input_embeddings().register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    try:
        return call(), rows
    finally:
        hook.remove()


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_completions_are_those_of_generate_token_by_token(family: str) -> None:
    """Prompts of other lengths, completions that end early and late, and for Mistral more tokens than its window."""
    model, batch = model_of(family), prompts(each=1)
    limit = 70 if family == "mistral" else LIMIT
    expected = model.generate(**batch, generation_config=settings(max_new_tokens=limit, eos_token_id=EOS[:2]))
    found = model.generate(
        **batch, generation_config=settings(max_new_tokens=limit, eos_token_id=EOS[:2]), custom_generate=decode
    )
    assert torch.equal(found, expected)
    assert found.shape[1] > 21


def test_the_prompts_of_a_group_are_read_once_and_ended_rows_leave() -> None:
    model, batch = model_of(), prompts()
    torch.manual_seed(0)
    found, rows = count_rows(
        model, lambda: model.generate(**batch, generation_config=settings(do_sample=True), custom_generate=decode)
    )
    written = found[:, 20:]
    ends = torch.isin(written, torch.tensor(EOS)).int()
    lengths = torch.where(ends.any(1), ends.argmax(1) + 1, LIMIT)
    expected, held = [3], 12
    for place in range(1, int(lengths.max())):
        going = int((lengths > place).sum())
        held = going if held - going >= held / 8 else held
        expected.append(held)
    assert rows == expected
    assert len(set(rows[1:])) > 3
    for row, length in zip(written, lengths.tolist(), strict=True):
        assert not row[length:].any(), "what stands behind EOS is padding"


def test_a_row_samples_the_same_whatever_else_is_in_the_batch() -> None:
    model, batch = model_of(), prompts()
    numbers = torch.rand(12, LIMIT, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    draws = Draws(numbers, torch.ones(12, dtype=torch.bool))

    def write(rows: Tensor) -> Tensor:
        own = functools.partial(decode, draws=draws.select(rows))
        some = {name: tensor[rows] for name, tensor in batch.items()}
        return model.generate(**some, generation_config=settings(), custom_generate=own)[:, 20:]

    whole = write(torch.arange(12))
    for rows in ([4], [11, 2], [0, 5, 6, 7, 9]):
        found = write(torch.tensor(rows))
        assert torch.equal(found, whole[rows, : found.shape[1]])
        assert not whole[rows, found.shape[1] :].any()


def test_samples_are_drawn_by_torchs_generator_and_so_come_again_with_its_state() -> None:
    model, batch = model_of(), prompts()

    def write() -> Tensor:
        return model.generate(**batch, generation_config=settings(do_sample=True), custom_generate=decode)

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, second = write(), write()
    torch.set_rng_state(state)
    assert torch.equal(write(), first)
    assert first.shape != second.shape or not torch.equal(first, second)


def test_a_greedy_call_draws_no_random_number() -> None:
    model = model_of()
    state = torch.get_rng_state()
    model.generate(**prompts(), generation_config=settings(), custom_generate=decode)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "asked", [{}, {"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.6}, {"min_p": 0.2}, {"min_new_tokens": 2}]
)
def test_two_sampled_tokens_have_the_distribution_that_generate_samples_from(asked: dict[str, Any]) -> None:
    """The chance of each pair of tokens, computed by transformers' own processors, beside 10,000 samples."""
    count, model = 10_000, tiny("llama", vocab_size=12, initializer_range=0.3).eval()
    prompt = torch.tensor([[3, 1, 4, 1, 5]])
    config = settings(**{"top_k": 0, "do_sample": True, "max_new_tokens": 2, "eos_token_id": [11], **asked})
    with torch.no_grad():
        pairs = torch.tensor([[3, 1, 4, 1, 5, token] for token in range(12)])
        seconds = model(pairs).logits[:, -1]
        firsts = model(prompt).logits[:, -1]
    chances = _process(model, config, prompt, firsts)[0][:, None] * _process(model, config, pairs, seconds)
    chances[11] = 0 if "min_new_tokens" not in asked else chances[11]
    ended = _process(model, config, prompt, firsts)[0, 11]
    torch.manual_seed(0)
    found = model.generate(prompt.repeat(count, 1), generation_config=config, custom_generate=decode)[:, 5:]
    counts = torch.zeros(12, 12)
    counts.index_put_((found[:, 0], found[:, 1]), torch.ones(count), accumulate=True)
    counts[11] = 0
    spread = (count * chances * (1 - chances)).sqrt()
    assert ((counts - count * chances).abs() <= 5 * spread + 1e-3).all()
    share = float((found[:, 0] == 11).float().mean())
    assert share == pytest.approx(float(ended), abs=5 * float(ended * (1 - ended) / count) ** 0.5 + 1e-6)


def _process(model: Any, config: GenerationConfig, ids: Tensor, logits: Tensor) -> Tensor:
    """Return the probabilities of the next tokens that transformers' own loop would sample by."""
    seen: list[Tensor] = []

    def stop(model: Any, input_ids: Tensor, logits_processor: Any, **inputs: Any) -> Tensor:
        seen.append(logits_processor(ids, logits.clone()).softmax(-1))
        return input_ids

    model.generate(torch.tensor([[3, 1, 4, 1, 5]]), generation_config=config, custom_generate=stop)
    return seen[0]


def test_draws_take_the_token_that_their_number_falls_on() -> None:
    scores = torch.tensor([[0.5, 0.0, 0.25, 0.25]]).log().repeat(6, 1)
    numbers = torch.tensor([0.0, 0.49, 0.5, 0.74, 0.75, 1 - 2**-53], dtype=torch.float64)
    assert draw_tokens(scores, numbers).tolist() == [0, 0, 2, 2, 3, 3]


def test_logits_that_are_not_numbers_are_refused_as_by_torch() -> None:
    scores = torch.zeros(2, 4)
    scores[1, 2] = torch.nan
    with pytest.raises(RuntimeError, match="inf"):
        draw_tokens(scores, torch.rand(2, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="inf"):
        torch.multinomial(scores.softmax(-1), 1)


def test_distinct_prompts_keep_their_order_and_padding_tells_them_apart() -> None:
    ids = torch.tensor([[9, 9], [0, 5], [9, 9], [0, 5], [0, 5]])
    mask = torch.tensor([[1, 1], [0, 1], [1, 1], [1, 1], [0, 1]])
    firsts, copies = find_distinct(ids, mask)
    assert firsts.tolist() == [0, 1, 3]
    assert copies.tolist() == [0, 1, 0, 2, 1]
    assert find_distinct(ids, None)[1].tolist() == [0, 1, 0, 1, 1]


def test_rows_that_do_not_fit_into_memory_go_one_part_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = model_of(), prompts()

    def write() -> Tensor:
        torch.manual_seed(2)
        return model.generate(**batch, generation_config=settings(do_sample=True), custom_generate=decode)

    whole = write()
    monkeypatch.setattr(module, "count_fitting", lambda model, tokens: 5)
    found, rows = count_rows(model, write)
    assert torch.equal(found, whole)
    assert max(rows) == 5


def test_what_fits_follows_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    free = {"bytes": 10**9}
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free["bytes"]))
    fits = module.count_fitting(model_of(), 100)
    free["bytes"] *= 2
    assert module.count_fitting(model_of(), 100) == pytest.approx(2 * fits, abs=1)
    free["bytes"] = 1
    assert module.count_fitting(model_of(), 100) == 1


class TwiceAsSure:
    """A processor that keeps a factor for each row."""

    def __init__(self, rows: int) -> None:
        self.factors = 1 + torch.arange(rows)[:, None] / rows

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        return scores * self.factors


class Leaving(TwiceAsSure):
    def keep_rows(self, rows: Tensor) -> None:
        self.factors = self.factors[rows]


def test_a_processor_that_keeps_rows_is_told_which_stay() -> None:
    model, batch = model_of(), prompts()
    numbers = torch.rand(12, LIMIT, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    own = functools.partial(decode, draws=Draws(numbers, torch.ones(12, dtype=torch.bool)))
    call = functools.partial(model.generate, **batch, generation_config=settings(), custom_generate=own)
    found, rows = count_rows(model, lambda: call(logits_processor=[Leaving(12)]))
    assert rows[-1] < 12
    each = []
    for row in range(12):
        processor = Leaving(12)
        processor.keep_rows(torch.tensor([row]))
        alone = functools.partial(decode, draws=Draws(numbers[row : row + 1], torch.ones(1, dtype=torch.bool)))
        some = {name: tensor[row : row + 1] for name, tensor in batch.items()}
        each.append(
            model.generate(**some, generation_config=settings(), custom_generate=alone, logits_processor=[processor])[
                0, 20:
            ]
        )
    for row, alone in zip(found[:, 20:], each, strict=True):
        assert torch.equal(row[: len(alone)], alone)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"num_beams": 2}, "beam search is asked for"),
        ({"repetition_penalty": 1.3}, "RepetitionPenaltyLogitsProcessor may keep"),
        ({"max_time": 60.0}, "completions end by MaxTimeCriteria"),
        ({"use_cache": False}, "keeps no keys and values"),
        ({"cache_implementation": "static"}, "keeps no keys and values"),
        ({"return_dict_in_generate": True}, "more than token ids"),
    ],
)
def test_what_the_loop_does_not_do_is_named(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(CannotDecodeError, match=said):
        model_of().generate(**prompts(), generation_config=settings(**asked), custom_generate=decode)


def test_other_processors_and_models_without_a_cache_are_named() -> None:
    given = {**prompts(), "generation_config": settings(), "custom_generate": decode}
    with pytest.raises(CannotDecodeError, match="TwiceAsSure may keep something of each row"):
        model_of().generate(**given, logits_processor=LogitsProcessorList([TwiceAsSure(12)]))
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 1, "state_size": 4}
    model = MambaForCausalLM(MambaConfig(**sizes)).eval()
    with pytest.raises(CannotDecodeError, match="keeps no keys and values"):
        model.generate(**given)
