"""The yardstick's numbers against values worked out by hand, and its cache of the start model."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

ROWS = {
    "id": ["a", "b", "c", "d"],
    "prompt_ids": [[5, 6, 7], [8], [9, 10], [11, 12, 13, 14]],
    "chosen_ids": [[20, 2], [21, 22, 23, 2], [24, 2], [25, 26, 2]],
    "rejected_ids": [[30, 31, 32, 2], [33, 2], [34, 2], [35, 36, 37, 2]],
}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from alignzoo.tiny import make_tiny

    folder: Path = tmp_path_factory.mktemp("tiny")
    make_tiny(folder)
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def yardstick(tokenizer: Any, data: dict[str, Any] = ROWS, stops: Any = (2,), **settings: Any) -> Any:
    from datasets import Dataset

    from alignzoo.evaluate.measure import Yardstick

    cfg: DictConfig = OmegaConf.create({"enabled": True, "rows": 10, "max_new_tokens": 6, "batch_size": 3, **settings})
    return Yardstick(cfg, Dataset.from_dict(data), tokenizer, stops)


def measured(answers: list[Any], chosen: list[float], rejected: list[float]) -> Any:
    from alignzoo.evaluate.measure import Measured

    return Measured(answers, chosen, rejected)


def answers(*texts: str) -> list[Any]:
    """Answers whose tokens are their characters; one that ends in a full stop ended by itself."""
    from alignzoo.evaluate.answers import Answer

    return [Answer(text, len(text), text.endswith(".")) for text in texts]


START = ([-4.0, -9.0, -3.0, -5.0], [-8.0, -4.0, -3.5, -7.0])
#: Gains of chosen: +1, -2, +0.5, +1; of rejected: +3, -2.5, +0.5, -2. Margins: -2, +0.5, 0 (a tie), +3.
AFTER = ([-3.0, -11.0, -2.5, -4.0], [-5.0, -6.5, -3.0, -9.0])


def test_numbers_of_pairs(loaded: tuple[Any, Any]) -> None:
    texts = answers("one.", "one.", "one.", "one.")
    numbers = yardstick(loaded[1]).numbers(measured(texts, *AFTER), measured(texts, *START))
    assert numbers["preference_accuracy"] == (0 + 1 + 0.5 + 1) / 4
    assert numbers["margin"] == (-2 + 0.5 + 0 + 3) / 4
    assert numbers["chosen_change"] == pytest.approx((1 - 2 + 0.5 + 1) / (2 + 4 + 2 + 3))


def test_the_start_model_against_itself(loaded: tuple[Any, Any]) -> None:
    start = measured(answers("a", "b", "c", "d"), *START)
    numbers = yardstick(loaded[1]).numbers(start, start)
    assert (numbers["preference_accuracy"], numbers["margin"], numbers["chosen_change"]) == (0.5, 0, 0)


def test_numbers_of_answers(loaded: tuple[Any, Any]) -> None:
    """Triples: (a b c) (b c a) (c a b) (a b c), of which three differ; then none, none, and one."""
    texts = answers("a b c a b c", "", "two words.", "one two three.")
    numbers = yardstick(loaded[1]).numbers(measured(texts, *AFTER), measured(texts, *START))
    assert numbers["answer_tokens"] == (11 + 0 + 10 + 14) / 4
    assert numbers["answer_words"] == (6 + 0 + 2 + 3) / 4
    assert numbers["answer_words_median"] == 2.5
    assert numbers["ended"] == 2 / 4
    assert numbers["empty"] == 1 / 4
    assert numbers["distinct_3"] == (3 + 0 + 0 + 1) / (4 + 0 + 0 + 1)


def test_the_same_triple_in_two_answers_is_no_repetition(loaded: tuple[Any, Any]) -> None:
    texts = answers("a b c", "a b c", "a b c", "a b c")
    numbers = yardstick(loaded[1]).numbers(measured(texts, *AFTER), measured(texts, *START))
    assert numbers["distinct_3"] == 1


def test_answers_without_a_triple_repeat_nothing(loaded: tuple[Any, Any]) -> None:
    texts = answers("", " \n", "one", "one two")
    numbers = yardstick(loaded[1]).numbers(measured(texts, *AFTER), measured(texts, *START))
    assert numbers["distinct_3"] == 1
    assert numbers["empty"] == 0.5


def test_every_number_is_described_and_every_description_has_a_number(loaded: tuple[Any, Any]) -> None:
    from alignzoo.evaluate.numbers import NUMBERS

    texts = answers("a", "b", "c", "d")
    numbers = yardstick(loaded[1]).numbers(measured(texts, *AFTER), measured(texts, *START))
    assert numbers.keys() == NUMBERS.keys()
    for key, number in NUMBERS.items():
        assert number.form.format(numbers[key])
        assert number.label
        assert number.meaning


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("preference_accuracy", 0.6251, "63%"),
        ("margin", 1.234, "+1.23"),
        ("margin", -1.0, "-1.00"),
        ("chosen_change", -0.01234, "-0.012"),
        ("answer_tokens", 12.34, "12.3"),
        ("answer_words", 3.25, "3.2"),
        ("answer_words_median", 7.0, "7"),
        ("ended", 1.0, "100%"),
        ("empty", 0.0, "0%"),
        ("distinct_3", 0.987, "99%"),
    ],
)
def test_how_numbers_are_written(key: str, value: float, text: str) -> None:
    from alignzoo.evaluate.numbers import NUMBERS

    assert NUMBERS[key].form.format(value) == text


def test_importing_the_numbers_imports_nothing_heavy() -> None:
    code = "import sys; import alignzoo.evaluate.numbers; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_model_is_answered_and_scored(loaded: tuple[Any, Any]) -> None:
    from alignzoo.evaluate.answers import answer
    from alignzoo.evaluate.likelihood import answer_logprobs

    model, tokenizer = loaded
    found = yardstick(tokenizer).measure(model)
    assert found.answers == answer(model, tokenizer, ROWS["prompt_ids"], [2], 6, 1)
    for name, sums in (("chosen_ids", found.chosen), ("rejected_ids", found.rejected)):
        pairs = list(zip(ROWS["prompt_ids"], ROWS[name], strict=True))
        assert sums == pytest.approx(answer_logprobs(model, pairs, 1, tokenizer.pad_token_id), abs=1e-4)


def test_only_the_first_rows_are_measured(loaded: tuple[Any, Any]) -> None:
    all_of_them, few = yardstick(loaded[1]).measure(loaded[0]), yardstick(loaded[1], rows=2).measure(loaded[0])
    assert (len(few.answers), len(few.chosen), len(few.rejected)) == (2, 2, 2)
    assert few.answers == all_of_them.answers[:2]
    assert few.chosen == pytest.approx(all_of_them.chosen[:2], abs=1e-4)


def test_the_batch_size_changes_nothing(loaded: tuple[Any, Any]) -> None:
    one, all_at_once = (yardstick(loaded[1], batch_size=size).measure(loaded[0]) for size in (1, 4))
    assert one.answers == all_at_once.answers
    assert one.chosen == pytest.approx(all_at_once.chosen, abs=1e-4)
    assert one.rejected == pytest.approx(all_at_once.rejected, abs=1e-4)


def test_rows_without_pairs_are_only_answered(loaded: tuple[Any, Any]) -> None:
    measure = yardstick(loaded[1], {**ROWS, "chosen_ids": [None] * 4, "rejected_ids": [None] * 4})
    found = measure.measure(loaded[0])
    assert len(found.answers) == 4
    assert found.chosen == found.rejected == []
    assert "answer_tokens" in measure.numbers(found, found)
    assert not {"preference_accuracy", "margin", "chosen_change"} & measure.numbers(found, found).keys()


def test_without_held_out_rows_there_are_no_numbers(loaded: tuple[Any, Any]) -> None:
    measure = yardstick(loaded[1], rows=0)
    found = measure.measure(loaded[0])
    assert found == measured([], [], [])
    assert measure.numbers(found, found) == {}


@pytest.mark.parametrize("training", [True, False])
def test_a_model_is_measured_without_dropout_and_left_in_its_mode(loaded: tuple[Any, Any], training: bool) -> None:
    model = copy.deepcopy(loaded[0])
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    model.train(training)
    assert yardstick(loaded[1]).measure(model) == yardstick(loaded[1]).measure(loaded[0])
    assert model.training is training
    assert all(module.training is training for module in model.modules())


def test_a_model_that_recomputes_activations_is_measured_alike(loaded: tuple[Any, Any]) -> None:
    model = copy.deepcopy(loaded[0])
    model.gradient_checkpointing_enable()
    model.train()
    assert yardstick(loaded[1]).measure(model) == yardstick(loaded[1]).measure(loaded[0])


def test_the_mode_is_put_back_after_an_error(loaded: tuple[Any, Any]) -> None:
    model = copy.deepcopy(loaded[0]).train()
    with pytest.raises(IndexError):
        yardstick(loaded[1], {**ROWS, "prompt_ids": [[5], [8], [9], [99999]]}).measure(model)
    assert model.training


def test_measurements_are_read_as_they_were_saved(loaded: tuple[Any, Any]) -> None:
    from alignzoo.evaluate.measure import Measured

    found = yardstick(loaded[1]).measure(loaded[0])
    assert Measured.read(found.save()) == found
    odd = measured(answers('a "quoted" line\nand é, 日本', "", "\u2028", "x."), [-1e-30], [-0.1 - 0.2])
    assert Measured.read(odd.save()) == odd


@contextmanager
def passes(model: Any) -> Iterator[list[int]]:
    """Count the model's forward passes."""
    seen: list[int] = []
    hook = model.register_forward_hook(lambda *_: seen.append(1))
    try:
        yield seen
    finally:
        hook.remove()


@pytest.mark.usefixtures("own_cache")
def test_the_start_model_is_measured_once(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    with passes(model) as first:
        found = yardstick(tokenizer).measure_start(model, "model-1")
    assert first
    with passes(model) as second:
        again = yardstick(tokenizer, batch_size=1, shown=3).measure_start(model, "model-1")
    assert not second
    assert again == found == yardstick(tokenizer).measure(model)


CHANGES = {
    "model": {"identity": "model-2"},
    "tokens": {"max_new_tokens": 5},
    "stops": {"stops": (2, 7)},
    "fewer rows": {"rows": 3},
    "prompts": {"data": {**ROWS, "prompt_ids": [[5, 6, 7], [8], [9, 10], [11, 12, 13, 15]]}},
    "chosen": {"data": {**ROWS, "chosen_ids": [[20, 2], [21, 22, 23, 2], [24, 2], [25, 27, 2]]}},
    "rejected": {"data": {**ROWS, "rejected_ids": [[30, 31, 32, 2], [33, 2], [34, 2], [35, 36, 38, 2]]}},
    "no pairs": {"data": {**ROWS, "chosen_ids": [None] * 4, "rejected_ids": [None] * 4}},
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.usefixtures("own_cache")
def test_the_start_model_is_measured_again_when_something_changes(loaded: tuple[Any, Any], change: str) -> None:
    model, tokenizer = loaded
    yardstick(tokenizer).measure_start(model, "model-1")
    settings = dict(CHANGES[change])
    identity = settings.pop("identity", "model-1")
    with passes(model) as seen:
        yardstick(tokenizer, **settings).measure_start(model, identity)
    assert seen


@pytest.mark.usefixtures("own_cache")
def test_the_start_model_is_measured_again_in_another_precision(loaded: tuple[Any, Any]) -> None:
    import torch

    model, tokenizer = loaded
    yardstick(tokenizer).measure_start(model, "model-1")
    rough = copy.deepcopy(model).to(torch.bfloat16)
    with passes(rough) as seen:
        yardstick(tokenizer).measure_start(rough, "model-1")
    assert seen


def test_what_is_cached_is_whole(loaded: tuple[Any, Any], own_cache: Path) -> None:
    yardstick(loaded[1]).measure_start(loaded[0], "model-1")
    (file,) = (own_cache / "measured").iterdir()
    assert json.loads(file.read_text()).keys() == {"answers", "chosen", "rejected"}


def test_a_measurement_that_fails_leaves_nothing(loaded: tuple[Any, Any], own_cache: Path) -> None:
    broken = yardstick(loaded[1], {**ROWS, "prompt_ids": [[5], [8], [9], [99999]]})
    with pytest.raises(IndexError):
        broken.measure_start(loaded[0], "model-1")
    assert list((own_cache / "measured").iterdir()) == []
