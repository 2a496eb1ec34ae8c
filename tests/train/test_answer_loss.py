"""A method on single completions that gives only its loss trains on TRL's batches, and logs what TRL logs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignzoo import UserError
from alignzoo.config.check import check
from alignzoo.config.compose import compose
from alignzoo.plugin.registry import registry
from alignzoo.testing.runs import Run, build, isolate_training

#: KTO as a plugin's own loss.
KTO = '''
from alignzoo import AnswerLoss, hookimpl

class Own(AnswerLoss):
    """KTO (nobody, 2030)."""
    name = "own_kto"
    needs_reference = True
    needs_kl = True

    @classmethod
    def loss(cls, cfg, rows):
        import torch
        kl = rows.kl_log_ratios.mean().clamp(min=0)
        gains = cfg.method.beta * (rows.log_ratio - kl)
        return 1 - torch.sigmoid(torch.where(rows.labels, gains, -gains))

class Free(AnswerLoss):
    """A loss without a reference (nobody, 2030)."""
    name = "own_free"

    @classmethod
    def loss(cls, cfg, rows):
        import torch
        return torch.where(rows.labels, -rows.mean_log_prob, rows.mean_log_prob.exp())

@hookimpl
def alignzoo_methods():
    return [Own, Free]

@hookimpl
def alignzoo_config_packages():
    return ["own_kto.conf"]
'''

OPTION = "name: {name}\nbeta: 0.2\nlearning_rate: 1e-3\nprecompute_ref_log_probs: true\n"
OPTIONS = {f"method/{name}.yaml": OPTION.format(name=name) for name in ("own_kto", "own_free")}
STEPS = ("train.max_steps=3", "train.lr_scheduler_type=constant", "++method.learning_rate=1e-3", "method.beta=0.2")


@pytest.fixture
def train(tmp_path: Path, fake_package: Callable[..., None]) -> Callable[..., Run]:
    """Train three steps of a method on marked completions, and return the run."""
    fake_package("own_kto", KTO, OPTIONS)

    def run(name: str, *words: str) -> Run:
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        with isolate_training():
            found = build(registry().method(name), "marked-answers", folder, [*STEPS, *words])
            found.trainer.train()
        return found

    return run


def read_lines(run: Run) -> list[dict[str, Any]]:
    return [line for line in run.trainer.state.log_history if "loss" in line]


@pytest.mark.parametrize("words", [(), ("method.precompute_ref_log_probs=false", "peft=lora")], ids=" ".join)
def test_kto_as_a_plugins_loss_trains_and_logs_as_trls(train: Callable[..., Run], words: tuple[str, ...]) -> None:
    ours, theirs = (read_lines(train(name, *words)) for name in ("own_kto", "kto"))
    shared = [key for key in ours[0] if key.startswith(("rewards/", "logps/", "kl", "entropy"))]
    assert len(shared) == 7
    for key in ["loss", "grad_norm", *shared]:
        assert [line[key] for line in ours] == pytest.approx([line[key] for line in theirs], rel=1e-3, abs=1e-5), key


def test_a_loss_without_a_reference_computes_none(train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a reference was computed")

    monkeypatch.setattr("trl.KTOTrainer.compute_ref_log_probs", refuse)
    monkeypatch.setattr("trl.KTOTrainer._compute_kl_logps", refuse)
    monkeypatch.setattr("alignzoo.train.reference.scoring.Scorer.score", refuse)
    trainer = train("own_free").trainer
    assert trainer.ref_model is None
    assert not {"ref_logps", "ref_KL_logps"} & set(trainer.train_dataset.column_names)


def test_the_shift_of_bco_is_the_mean_reward_of_all_batches(train: Callable[..., Run]) -> None:
    run = train("bco_unpaired")
    (total, count) = run.trainer.means.sums["reward"]
    logged = read_lines(run)
    assert count == 3 * 4
    means = [(line["rewards/chosen"] + line["rewards/rejected"]) / 2 for line in logged]  # two of each in a batch
    assert total / count == pytest.approx(sum(means) / 3, abs=1e-5)


def test_a_kl_needs_batches_with_another_completion(fake_package: Callable[..., None]) -> None:
    fake_package("own_kto", KTO, OPTIONS)
    with pytest.raises(UserError, match="per_device_batch_size must be at least 2 for own_kto"):
        check(compose(["method=own_kto", "train.per_device_batch_size=1"]))
    check(compose(["method=own_free", "train.per_device_batch_size=1"]))


def test_shared_prefixes_leave_the_losses_as_they_are(train: Callable[..., Run]) -> None:
    on, off = (train("bco_unpaired", f"speed.shared_prefix={word}").losses for word in ("on", "off"))
    assert on == pytest.approx(off, rel=1e-4)


def test_held_out_completions_do_not_move_the_shift(train: Callable[..., Run]) -> None:
    held = ("dataset.heldout.fraction=0.3", "+train.eval_strategy=steps", "+train.eval_steps=1")
    run = train("bco_unpaired", *held)
    assert run.trainer.means.sums["reward"][1] == 3 * 4
    assert any("eval_loss" in line for line in run.trainer.state.log_history)
