"""What the yardstick measures of a model, and its cache of the start model."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from damage import DAMAGES
from omegaconf import DictConfig, OmegaConf

from alignzoo.evaluate.metrics import summarise

ROWS = {
    "id": ["a", "b", "c", "d"],
    "prompt": [json.dumps([{"role": "user", "content": f"Question {name}"}]) for name in "abcd"],
    "prompt_ids": [[5, 6, 7], [8], [9, 10], [11, 12, 13, 14]],
    "chosen_ids": [[20, 2], [21, 22, 23, 2], [24, 2], [25, 26, 2]],
    "rejected_ids": [[30, 31, 32, 2], [33, 2], [34, 2], [35, 36, 37, 2]],
}


WITHOUT_PAIRS = {**ROWS, "chosen_ids": [None] * 4, "rejected_ids": [None] * 4}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from alignzoo.models.tiny import make_tiny

    folder: Path = tmp_path_factory.mktemp("tiny")
    make_tiny(folder)
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def yardstick(
    tokenizer: Any, data: dict[str, Any] = ROWS, stops: Any = (2,), score: Any = None, **settings: Any
) -> Any:
    from datasets import Dataset

    from alignzoo.evaluate.yardstick import Yardstick

    cfg: DictConfig = OmegaConf.create({"enabled": True, "rows": 10, "max_new_tokens": 6, "batch_size": 3, **settings})
    return Yardstick(cfg, Dataset.from_dict(data), tokenizer, stops, score)


def measured(tokenizer: Any, model: Any, **settings: Any) -> Any:
    """Measure a model against itself."""
    return yardstick(tokenizer, **settings).measure(model, lambda: model)


def alike(some: Any, others: Any) -> bool:
    """Tell whether answers are the same, and log-probabilities but for rounding."""
    assert [row.text for row in some] == [row.text for row in others]
    for name in ("chosen", "rejected"):
        assert [getattr(row, name) for row in some] == pytest.approx([getattr(row, name) for row in others], abs=1e-4)
    return True


def test_a_model_is_answered_and_scored(loaded: tuple[Any, Any]) -> None:
    from alignzoo.evaluate.completions import generate_greedy
    from alignzoo.evaluate.likelihood import compute_logprobs

    model, tokenizer = loaded
    found = measured(tokenizer, model)
    answers = generate_greedy(model, tokenizer, ROWS["prompt_ids"], [2], 6, 1)
    assert [(row.text, row.tokens, row.ended) for row in found] == [(a.text, a.tokens, a.ended) for a in answers]
    for name in ("chosen", "rejected"):
        pairs = list(zip(ROWS["prompt_ids"], ROWS[f"{name}_ids"], strict=True))
        assert [getattr(row, name) for row in found] == pytest.approx(
            compute_logprobs(model, pairs, 1, tokenizer.pad_token_id), abs=1e-4
        )


def test_start_and_trained_model_are_compared_with_a_teacher(loaded: tuple[Any, Any], own_cache: Path) -> None:
    """A model is at no distance from itself; the measurements of a start model are kept for each teacher."""
    model, tokenizer = loaded
    teacher = copy.deepcopy(model)
    teacher.lm_head.weight.data.mul_(1.2)
    compared, plain = yardstick(tokenizer), yardstick(tokenizer)
    compared.teacher = (teacher, "warmer")
    before = compared.measure_start(model, "start")
    assert all(row.teacher_kl > 0.001 and row.teacher_kl_tokens > 0 for row in before)
    after = compared.measure(teacher, lambda: model)
    assert [row.teacher_kl for row in after] == pytest.approx([0.0] * len(after), abs=1e-6)
    assert [row.kl for row in after] != pytest.approx([0.0] * len(after), abs=1e-3)
    assert all(row.teacher_kl is None for row in plain.measure_start(model, "start"))
    compared.teacher = (model, "the start model itself")
    assert [row.teacher_kl for row in compared.measure_start(model, "start")] == pytest.approx([0.0] * 4, abs=1e-6)


def test_packed_rows_are_measured_alike(loaded: tuple[Any, Any]) -> None:
    """With a prompt that its two answers share, and one that two rows share."""
    from datasets import Dataset

    from alignzoo.evaluate.yardstick import Yardstick
    from alignzoo.models.shared_prefix import patch as backbone

    model, tokenizer = loaded
    rows = Dataset.from_dict({**ROWS, "prompt_ids": [list(range(5, 30 + extra)) for extra in (0, 0, 1, 20)]})
    moved = copy.deepcopy(model)
    moved.lm_head.weight.data.mul_(1.1)
    cfg = OmegaConf.create({"enabled": True, "rows": 10, "max_new_tokens": 6, "batch_size": 3})
    speed = OmegaConf.create({"speed": {"shared_prefix": "on", "bin_tokens": 1024}})
    packed_batches: list[int] = []
    run = backbone._run_bin

    def counted(*arguments: Any) -> Any:
        packed_batches.append(1)
        return run(*arguments)

    plain = Yardstick(cfg, rows, tokenizer, [2]).measure(moved, lambda: model)
    sharing = functools.partial(backbone.prefixes_shared, speed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone, "_run_bin", counted)
        packed = Yardstick(cfg, rows, tokenizer, [2], None, sharing).measure(moved, lambda: model)
    assert alike(packed, plain)
    assert [row.kl for row in packed] == pytest.approx([row.kl for row in plain], abs=1e-4)
    assert sum(row.kl for row in packed) > 0
    assert packed_batches
    assert not hasattr(backbone.backbone_of(moved), "packing"), "the model is as it was"


def test_only_the_first_rows_are_measured(loaded: tuple[Any, Any]) -> None:
    all_of_them, few = measured(loaded[1], loaded[0]), measured(loaded[1], loaded[0], rows=2)
    assert len(few) == 2
    assert alike(few, all_of_them[:2])


def test_the_batch_size_changes_nothing_but_what_is_sampled(loaded: tuple[Any, Any]) -> None:
    one, all_at_once = (measured(loaded[1], loaded[0], batch_size=size) for size in (1, 4))
    assert alike(one, all_at_once)


def test_rows_without_pairs_are_only_answered(loaded: tuple[Any, Any]) -> None:
    measure = yardstick(loaded[1], WITHOUT_PAIRS)
    found = measure.measure(loaded[0], lambda: loaded[0])
    assert len(found) == 4
    assert all(row.chosen is row.rejected is None for row in found)
    numbers = summarise(measure.make_lines(found, found))["after"]
    assert "answer_tokens" in numbers
    assert not {"preference_accuracy", "accuracy_sum", "margin", "chosen_change"} & numbers.keys()


def test_without_held_out_rows_there_are_no_numbers(loaded: tuple[Any, Any]) -> None:
    measure = yardstick(loaded[1], rows=0)
    found = measure.measure(loaded[0], pytest.fail)  # the start model is not loaded for nothing
    assert found == measure.measure_start(loaded[0], "model-0") == []
    assert summarise(measure.make_lines(found, found)) == {"before": {}, "after": {}, "intervals": {}}


def test_lines_hold_what_numbers_are_made_of(loaded: tuple[Any, Any]) -> None:
    measure = yardstick(loaded[1])
    found = measure.measure(loaded[0], lambda: loaded[0])
    lines = json.loads(json.dumps(measure.make_lines(found, found)))
    assert [line["id"] for line in lines] == ["a", "b", "c", "d"]
    assert [line["prompt"] for line in lines] == ["Question a", "Question b", "Question c", "Question d"]
    assert [(line["chosen_tokens"], line["rejected_tokens"]) for line in lines] == [(2, 4), (4, 2), (2, 2), (3, 4)]
    assert all(line["before"] == line["after"] for line in lines)


def test_rewards_are_those_of_the_greedy_answers(loaded: tuple[Any, Any]) -> None:
    def score(rows: Any, seen: Any) -> list[float]:
        return [float(len(row.text)) + place for place, row in enumerate(seen)]

    model, tokenizer = loaded
    found = yardstick(tokenizer, score=score).measure(model, lambda: model)
    assert [row.reward for row in found] == [len(row.text) + place for place, row in enumerate(found)]
    assert all(row.reward is None for row in measured(tokenizer, model))


@pytest.mark.parametrize("training", [True, False])
def test_a_model_is_measured_without_dropout_and_left_in_its_mode(loaded: tuple[Any, Any], training: bool) -> None:
    model = copy.deepcopy(loaded[0])
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    model.train(training)
    assert measured(loaded[1], model) == measured(loaded[1], loaded[0])
    assert model.training is training
    assert all(module.training is training for module in model.modules())


def test_a_model_that_recomputes_activations_is_measured_alike(loaded: tuple[Any, Any]) -> None:
    model = copy.deepcopy(loaded[0])
    model.gradient_checkpointing_enable()
    model.train()
    assert measured(loaded[1], model) == measured(loaded[1], loaded[0])


def test_the_mode_is_put_back_after_an_error(loaded: tuple[Any, Any]) -> None:
    model = copy.deepcopy(loaded[0]).train()
    with pytest.raises(IndexError):
        yardstick(loaded[1], {**ROWS, "prompt_ids": [[5], [8], [9], [99999]]}).measure(model, lambda: model)
    assert model.training


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
def test_the_reward_of_the_start_model_is_not_cached(loaded: tuple[Any, Any]) -> None:
    """It is configured apart from the model, the rows and the settings."""
    first = yardstick(loaded[1], score=lambda rows, seen: [1.0] * 4).measure_start(loaded[0], "model-1")
    second = yardstick(loaded[1], score=lambda rows, seen: [2.0] * 4).measure_start(loaded[0], "model-1")
    assert [row.reward for row in first + second] == [1.0] * 4 + [2.0] * 4


@pytest.mark.usefixtures("own_cache")
def test_the_start_model_is_measured_once(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    with passes(model) as first:
        found = yardstick(tokenizer).measure_start(model, "model-1")
    assert first
    with passes(model) as second:
        again = yardstick(tokenizer, batch_size=1, shown=3).measure_start(model, "model-1")
    assert not second
    assert again == found
    assert alike(found, measured(tokenizer, model))


CHANGES = {
    "model": {"identity": "model-2"},
    "tokens": {"max_new_tokens": 5},
    "stops": {"stops": (2, 7)},
    "fewer rows": {"rows": 3},
    "prompts": {"data": {**ROWS, "prompt_ids": [[5, 6, 7], [8], [9, 10], [11, 12, 13, 15]]}},
    "chosen": {"data": {**ROWS, "chosen_ids": [[20, 2], [21, 22, 23, 2], [24, 2], [25, 27, 2]]}},
    "rejected": {"data": {**ROWS, "rejected_ids": [[30, 31, 32, 2], [33, 2], [34, 2], [35, 36, 38, 2]]}},
    "no pairs": {"data": WITHOUT_PAIRS},
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
    (file,) = (own_cache / "measured").glob("*/rows.json")
    assert len(json.loads(file.read_text())) == 4


def test_a_measurement_that_fails_leaves_nothing(loaded: tuple[Any, Any], own_cache: Path) -> None:
    broken = yardstick(loaded[1], {**ROWS, "prompt_ids": [[5], [8], [9], [99999]]})
    with pytest.raises(IndexError):
        broken.measure_start(loaded[0], "model-1")
    assert list((own_cache / "measured").iterdir()) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_measurements_are_named_and_made_anew(
    loaded: tuple[Any, Any], own_cache: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    model, tokenizer = loaded
    first = yardstick(tokenizer).measure_start(model, "model-1")
    (file,) = (own_cache / "measured").glob("*/rows.json")
    DAMAGES[damage](file)
    with passes(model) as seen:
        assert yardstick(tokenizer).measure_start(model, "model-1") == first
    assert seen
    assert [str(file.parent) in line for line in caplog.messages] == [True]
    with passes(model) as seen:
        yardstick(tokenizer).measure_start(model, "model-1")
    assert not seen


def test_texts_without_prompts_are_trained_and_measured(tmp_path: Path) -> None:
    """The tiny model's tokenizer writes no BOS: its completions begin behind EOS, as where another text ends."""
    from conftest import QUICK
    from inprocess import run

    rows = [{"text": f"Text number {n} of them."} for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = ("dataset=local", f"dataset.path={tmp_path / 'rows.jsonl'}", "dataset.heldout.fraction=0.2")
    done = run(tmp_path / "run", "method=sft", *QUICK, *data)
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in (done.folder / "answers.jsonl").read_text().splitlines()]
    assert [line["prompt"] for line in lines] == [""] * 4
    assert all(line["before"]["tokens"] > 0 for line in lines)
    assert done.result()["after"]["kl"] > 0
