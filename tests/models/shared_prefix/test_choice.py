"""The first batch of a training decides whether prompts are shared: what is chosen, kept, told, and left untouched."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUICK
from inprocess import run
from peft import LoraConfig, get_peft_model
from speed_models import FAMILIES, rows, settings, tiny
from torch import Tensor
from trl.trainer.utils import add_fused_lm_head

from alignzoo.models.shared_prefix import choice, head
from alignzoo.models.shared_prefix.choice import Choice, Chooser
from alignzoo.models.shared_prefix.first_batch import is_packing
from alignzoo.models.shared_prefix.patch import choose_by_time, share_prefixes, stop_sharing
from alignzoo.models.shared_prefix.supported import backbone_of
from alignzoo.system import cache as kept

ONCE = "prompts shared by a batch's rows are computed once: "
EACH = "prompts shared by a batch's rows are computed for each row: "


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Any:
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path / "cache"))
    caplog.set_level(logging.INFO)
    yield
    head.score_all()


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What each timing finds, from the last on: how many times as fast sharing is."""
    ratios: list[float] = []
    monkeypatch.setattr(choice, "_time_ways", lambda *unused: ratios.pop())
    return ratios


def training(family: str = "llama", chooser: Chooser | None = None, **more: Any) -> tuple[Any, Chooser]:
    """A model in training, whose first batch decides."""
    model = tiny(family, **more)
    add_fused_lm_head(model)
    chooser = chooser or Chooser()
    share_prefixes(settings("auto"), model.train())
    choose_by_time(model, chooser)
    return model, chooser


def log_probs(model: Any, longest: int = 60) -> Tensor:
    found: Tensor = model(**rows(longest), use_cache=False, fused_lm_head=True).log_probs
    return found


def chosen(**more: Any) -> Choice | None:
    model, chooser = training(**more)
    log_probs(model)
    return chooser.choice


@pytest.mark.parametrize("family", FAMILIES)
def test_both_ways_are_timed_and_nothing_else_changes(family: str, caplog: pytest.LogCaptureFixture) -> None:
    model, chooser = training(family, num_hidden_layers=4)
    before, random_state = {name: weight.clone() for name, weight in model.named_parameters()}, torch.get_rng_state()
    passed: list[int] = []
    for number, layer in enumerate(model.model.layers):
        layer.register_forward_hook(lambda *unused, number=number: passed.append(number))
    found = log_probs(model)
    assert passed.count(3) == 1, "the batch itself alone goes through all layers"
    assert passed.count(0) > 1 + 2 * choice.TURNS
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert model.config.num_hidden_layers == 4
    assert all(module.training for module in model.modules())
    assert not model.model.embed_tokens._forward_hooks
    found.sum().backward()
    assert chooser.choice is not None
    assert caplog.messages == [f"{chooser.choice}."]
    assert " x as " in chooser.choice.reason
    log_probs(model)
    assert len(caplog.messages) == 1, "once a training"


def test_hooks_of_a_trainer_see_the_batch_once() -> None:
    """PPO's value head reads hidden states through one: those of the trial are not the batch's."""
    model, chooser = training()
    seen: list[int] = []
    backbone_of(model).register_forward_hook(lambda module, given, output: seen.append(len(output[0])))
    log_probs(model)
    assert chooser.choice is not None
    assert seen == [len(rows(60)["input_ids"])]
    log_probs(model)
    assert len(seen) == 2


def test_dropout_of_an_adapter_and_recomputed_activations_draw_the_same_numbers() -> None:
    model = tiny("llama")
    add_fused_lm_head(model)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", lora_dropout=0.5))
    for name, weight in model.named_parameters():
        if "lora_B" in name:  # zeros, so that dropout would change nothing
            torch.nn.init.normal_(weight.data, std=0.05)
    share_prefixes(settings("auto"), model.train())
    chooser = Chooser()
    choose_by_time(model, chooser)
    torch.manual_seed(7)
    first = log_probs(model)
    assert chooser.choice is not None
    assert " x as " in chooser.choice.reason
    torch.manual_seed(7)
    assert torch.equal(log_probs(model), first)
    assert all(weight.grad is None for weight in model.parameters())


def test_the_faster_way_stays(timed: list[float], caplog: pytest.LogCaptureFixture) -> None:
    model, chooser = training()
    stop_sharing(model)
    share_prefixes(settings("off"), model)
    head.score_labels_only()
    dense = log_probs(model)
    slower = EACH + "sharing them takes 1.11 x as long on"
    for ratio, shares, told in ((0.9, False, slower), (0.99, True, ONCE + "1.0 x")):
        stop_sharing(model)
        kept.clear(["speed"])
        timed[:] = [ratio]
        chooser = Chooser()
        share_prefixes(settings("auto"), model)
        choose_by_time(model, chooser)
        assert torch.equal(log_probs(model), dense) == (not shares)
        assert chooser.choice is not None
        assert chooser.choice.shares == is_packing(backbone_of(model)) == shares
        assert caplog.messages[-1].startswith(told)


def test_what_was_chosen_is_remembered_for_this_kind_of_model_and_batch(timed: list[float]) -> None:
    timed[:] = [0.5, 3.0]
    first = chosen()
    assert first is not None
    assert first.shares
    assert chosen() == first, "another training of the same kind"
    assert len(timed) == 1
    assert chosen(hidden_size=32) != first, "another model"
    assert not timed
    model, chooser = training()
    timed[:] = [0.5]
    log_probs(model, longest=70)  # of up to 128 tokens
    assert chooser.choice != first


def test_the_jobs_of_a_sweep_choose_alike(timed: list[float]) -> None:
    """Also where the order of the rows gives the first batch another width; one of them alone does as it did there."""
    timed[:] = [3.0]
    first = chosen(chooser=Chooser(sweep="sweeps/one"))
    model, chooser = training(chooser=Chooser(sweep="sweeps/one"))
    log_probs(model, longest=70)
    assert chooser.choice == first
    model, chooser = training()
    log_probs(model, longest=70)
    assert chooser.choice == first
    timed[:] = [0.5]
    model, chooser = training(chooser=Chooser(sweep="sweeps/two"))
    log_probs(model, longest=130)
    assert chooser.choice != first


def test_another_process_that_was_first_is_followed(timed: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs time at the same moment: both take what the first of them has kept."""
    monkeypatch.setattr(choice, "recall", lambda keys: None)
    timed[:] = [0.5, 3.0]
    first = chosen()
    assert chosen() == first
    assert not timed


def test_a_damaged_file_is_replaced(timed: list[float]) -> None:
    timed[:] = [0.5, 3.0]
    chosen()
    (file,) = kept.make_folder("speed").iterdir()
    file.write_text('{"shares": "yes"')
    found = chosen()
    assert json.loads(file.read_text()) == vars(found)
    assert not timed


def test_what_fails_runs_trls_way_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*unused: Any) -> float:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(choice, "_time_ways", fail)
    found = chosen()
    assert found == Choice(False, "the first batch fails where they are shared (OutOfMemoryError)")
    assert caplog.messages == [EACH + found.reason + "."]
    monkeypatch.setattr(choice, "_time_ways", lambda *unused: 2.0)
    assert chosen() != found


def test_short_passes_are_timed_more_often_and_the_best_time_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds: list[float] = []
    monkeypatch.setattr(choice, "_time_pass", lambda *unused: seconds.pop(0))
    model, _ = training()
    long, short = [9, 9, 4, 3, 8, 2], [0.001, 0.001] * 11 + [0.003, 0.001] * 10
    for expected, taken in ((2.0, long), (1.0, short)):
        seconds[:] = taken
        assert choice._time_ways(model.model, {}) == pytest.approx(expected)
        assert not seconds


def test_other_programs_do_not_decide() -> None:
    """What another program takes meanwhile is not counted: on a CPU, sleeping costs nothing."""
    began = choice._read_clock(torch.device("cpu"))
    time.sleep(0.2)
    assert choice._read_clock(torch.device("cpu")) - began < 0.1


def test_batches_that_do_not_train_decide_nothing() -> None:
    model, chooser = training()
    with torch.no_grad():
        log_probs(model)
    log_probs(model.eval())
    assert chooser.choice is None


def test_a_trial_leaves_the_bits_of_the_trained_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time_ways = choice._time_ways
    monkeypatch.setattr(choice, "_time_ways", lambda *inputs: time_ways(*inputs) + 100)
    words = (*QUICK, "train.max_steps=2", "evaluate.enabled=false")
    tried = run(tmp_path / "tried", *words)
    assert tried.result()["sharing"]["shares"]
    monkeypatch.setattr("alignzoo.train.run.choose_by_time", lambda model, chooser: None)
    plain = run(tmp_path / "plain", *words)
    assert "sharing" not in plain.result()
    trained, expected = ((found.folder / "model" / "model.safetensors").read_bytes() for found in (tried, plain))
    assert trained == expected


def test_a_run_keeps_its_choice_in_its_folder_and_when_it_is_resumed(tmp_path: Path, timed: list[float]) -> None:
    """A repeated run chooses alike; one that is resumed does so without a cache."""
    timed[:] = [0.5]
    words = (*QUICK, "train.save_strategy=steps", "train.save_steps=1")
    whole = run(tmp_path / "whole", *words, "train.max_steps=2")
    assert whole.code == 0, whole.err
    sharing = whole.result()["sharing"]
    assert sharing["shares"] is False
    assert sharing["reason"] in whole.out + whole.err
    checkpoint = tmp_path / "whole" / "checkpoints" / "checkpoint-2" / "checkpoint.json"
    assert json.loads(checkpoint.read_text())["sharing"] == sharing
    (tmp_path / "whole" / "result.json").unlink()
    kept.clear(["speed"])
    resumed = run(tmp_path / "whole", *words, "train.max_steps=2", "resume=auto")
    assert resumed.code == 0, resumed.err
    assert resumed.result()["sharing"] == sharing
