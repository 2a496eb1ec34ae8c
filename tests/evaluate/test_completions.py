"""Greedy answers, against a loop that takes the most probable token by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

QUESTIONS = (
    "What is rain?",
    "Why do bears hibernate, and what do they eat before they do, in the far north?",
    "Hi",
    "Name three rivers.",
    "What does a librarian do?",
)

LIMIT = 10


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from alignzoo.models.tiny import make_tiny

    folder: Path = tmp_path_factory.mktemp("tiny")
    make_tiny(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    return AutoModelForCausalLM.from_pretrained(folder).eval(), tokenizer


@pytest.fixture(scope="module")
def prompts(loaded: tuple[Any, Any]) -> list[list[int]]:
    """Prompts of different lengths, not in the order of their lengths."""
    return [ask(loaded[1], question) for question in QUESTIONS]


def ask(tokenizer: Any, question: str) -> list[int]:
    messages = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False).input_ids)


@pytest.fixture(scope="module")
def greedy(loaded: tuple[Any, Any], prompts: list[list[int]]) -> list[list[int]]:
    """The most probable next tokens, one forward pass a token, without batch, padding or cache."""
    import torch

    model, found = loaded[0], []
    for prompt in prompts:
        ids = list(prompt)
        for _ in range(LIMIT):
            with torch.no_grad():
                ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        found.append(ids[len(prompt) :])
    return found


@pytest.mark.parametrize("size", [1, 2, 5, 64])
def test_answers_are_the_most_probable_tokens_in_any_batch(
    loaded: tuple[Any, Any], prompts: list[list[int]], greedy: list[list[int]], size: int
) -> None:
    from alignzoo.evaluate.completions import generate_greedy

    model, tokenizer = loaded
    found = generate_greedy(model, tokenizer, prompts, [tokenizer.eos_token_id], LIMIT, size)
    assert [item.text for item in found] == [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in greedy]
    assert [item.tokens for item in found] == [LIMIT] * len(prompts)
    assert not any(item.ended for item in found)
    assert len({item.text for item in found}) == len(found), "the order of the prompts shows"


def test_an_answer_ends_at_a_stop_token_which_is_not_counted(
    loaded: tuple[Any, Any], prompts: list[list[int]], greedy: list[list[int]]
) -> None:
    from alignzoo.evaluate.completions import Completion, generate_greedy

    model, tokenizer = loaded
    stop = greedy[1][3]
    found = generate_greedy(model, tokenizer, prompts, [tokenizer.eos_token_id, stop], LIMIT, 5)
    for item, ids in zip(found, greedy, strict=True):
        end = ids.index(stop) if stop in ids else None
        text = tokenizer.decode(ids[:end], skip_special_tokens=True).strip()
        assert item == Completion(text, LIMIT if end is None else end, end is not None)
    assert found[1].ended
    assert not all(item.ended for item in found), "the others of the batch go on"


def test_an_answer_that_has_ended_leaves_the_batch(
    loaded: tuple[Any, Any], prompts: list[list[int]], greedy: list[list[int]]
) -> None:
    from alignzoo.evaluate.generation import generate

    model, tokenizer = loaded
    rows: list[int] = []
    hook = model.get_input_embeddings().register_forward_hook(lambda module, inputs, _: rows.append(len(inputs[0])))
    try:
        found = generate(model, tokenizer, prompts, [greedy[1][3]], LIMIT)
    finally:
        hook.remove()
    assert rows == [sum(greedy[1][3] not in ids[:place] for ids in greedy) for place in range(LIMIT)]
    assert rows[0] == len(prompts) > rows[-1] > 0
    assert found[1] == greedy[1][:4]


def test_samples_beside_greedy_answers_change_nothing_of_these(
    loaded: tuple[Any, Any], prompts: list[list[int]], greedy: list[list[int]]
) -> None:
    """And they are the same every time, are drawn from the model, and leave torch's generator alone."""
    import torch

    from alignzoo.evaluate.completions import generate_greedy, generate_greedy_and_sampled

    model, tokenizer = loaded
    settings = (tokenizer, prompts, [greedy[1][3]], LIMIT, 1)
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    found, again = (generate_greedy_and_sampled(model, *settings) for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert found == again
    assert [item for item, _ in found] == generate_greedy(model, *settings)
    samples = [ids for _, ids in found]
    assert all(1 <= len(ids) <= LIMIT for ids in samples)
    assert all(ids[: len(new)] != new[: len(ids)] for ids, new in zip(samples, greedy, strict=True))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_follow_the_models_distribution(
    loaded: tuple[Any, Any], prompts: list[list[int]], temperature: float
) -> None:
    """Of the whole vocabulary: the surest token comes about as often as it is probable."""
    import torch

    from alignzoo.evaluate.generation import generate

    model, tokenizer = loaded
    with torch.no_grad():
        wanted = (model(torch.tensor([prompts[0]])).logits[0, -1] / temperature).softmax(-1)
    torch.manual_seed(0)
    first = [ids[0] for ids in generate(model, tokenizer, prompts[:1] * 4000, [-1], 1, (True,), temperature)]
    counts = torch.bincount(torch.tensor(first), minlength=len(wanted))
    surest = int(wanted.argmax())
    assert temperature < 1 or len(set(first)) > 0.6 * len(wanted)
    assert float(counts[surest] / 4000) == pytest.approx(
        float(wanted[surest]), abs=4 * float(wanted[surest]) ** 0.5 / 63
    )


def test_several_samples_of_each_prompt_are_drawn_apart_and_again_the_same(
    loaded: tuple[Any, Any], prompts: list[list[int]]
) -> None:
    """Each stands with its prompt: near temperature 0 all are its greedy answer."""
    import torch

    from alignzoo.evaluate.completions import generate_greedy, sample_batch

    model, tokenizer = loaded
    asked = (model, tokenizer, prompts, [-1], LIMIT, 3)
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    found = sample_batch(*asked, 1.0, 5)
    assert torch.equal(torch.rand(3), expected)
    assert found == sample_batch(*asked, 1.0, 5) != sample_batch(*asked, 1.0, 6)
    assert [len({answer.text for answer in answers}) for answers in found] == [3] * len(prompts)
    greedy = generate_greedy(model, tokenizer, prompts, [-1], LIMIT, 8)
    cold = sample_batch(*asked, 1e-4, 5)
    assert [[answer.text.strip() for answer in answers] for answers in cold] == [[one.text] * 3 for one in greedy]


def test_a_stop_token_at_once_is_an_empty_answer(
    loaded: tuple[Any, Any], prompts: list[list[int]], greedy: list[list[int]]
) -> None:
    from alignzoo.evaluate.completions import Completion, generate_greedy

    model, tokenizer = loaded
    (found,) = generate_greedy(model, tokenizer, prompts[:1], [greedy[0][0]], LIMIT, 1)
    assert found == Completion("", 0, True)


def test_a_stop_token_as_the_last_one_allowed_still_ends(
    loaded: tuple[Any, Any], prompts: list[list[int]], greedy: list[list[int]]
) -> None:
    from alignzoo.evaluate.completions import generate_greedy

    model, tokenizer = loaded
    place = next(i for i in range(1, LIMIT) if greedy[1][i] not in greedy[1][:i])
    (found,) = generate_greedy(model, tokenizer, prompts[1:2], [greedy[1][place]], place + 1, 1)
    assert (found.tokens, found.ended) == (place, True)
    (found,) = generate_greedy(model, tokenizer, prompts[1:2], [greedy[1][place]], place, 1)
    assert (found.tokens, found.ended) == (place, False)


def test_the_stop_token_may_be_the_padding_token(
    loaded: tuple[Any, Any], prompts: list[list[int]], greedy: list[list[int]]
) -> None:
    """As in models without a padding token of their own, where it is EOS."""
    from alignzoo.evaluate.completions import generate_greedy

    model, tokenizer = loaded
    stop = greedy[1][3]
    before = generate_greedy(model, tokenizer, prompts, [stop], LIMIT, 5)
    own = tokenizer.pad_token
    try:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(stop)
        assert generate_greedy(model, tokenizer, prompts, [stop], LIMIT, 5) == before
    finally:
        tokenizer.pad_token = own


def test_special_tokens_count_but_are_not_in_the_text(
    loaded: tuple[Any, Any], prompts: list[list[int]], greedy: list[list[int]]
) -> None:
    """Where <|im_start|> is the most probable token, it is no stop token: the answer goes on."""
    import torch

    from alignzoo.evaluate.completions import generate_greedy

    model, tokenizer = loaded
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")

    def prefer(module: Any, inputs: Any, output: Any) -> Any:
        output.logits[..., start] = 1e4
        return output

    hook = model.register_forward_hook(prefer)
    try:
        (found,) = generate_greedy(model, tokenizer, prompts[:1], [tokenizer.eos_token_id], 3, 1)
    finally:
        hook.remove()
    assert (found.text, found.tokens, found.ended) == ("", 3, False)
    assert torch.is_grad_enabled()


def test_the_models_own_sampling_settings_are_not_used(loaded: tuple[Any, Any], prompts: list[list[int]]) -> None:
    """Many instruct models ship with sampling and a repetition penalty switched on."""
    import copy

    from alignzoo.evaluate.completions import generate_greedy

    model, tokenizer = loaded
    wanted = generate_greedy(model, tokenizer, prompts, [tokenizer.eos_token_id], LIMIT, 5)
    other = copy.deepcopy(model)
    other.generation_config.update(do_sample=True, temperature=3.0, top_k=50, top_p=0.9, repetition_penalty=5.0)
    other.generation_config.eos_token_id = list(range(500))
    assert generate_greedy(other, tokenizer, prompts, [tokenizer.eos_token_id], LIMIT, 5) == wanted


def test_no_prompts_have_no_answers(loaded: tuple[Any, Any]) -> None:
    from alignzoo.evaluate.completions import generate_greedy

    assert generate_greedy(*loaded, [], [2], LIMIT, 4) == []
