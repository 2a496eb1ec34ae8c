"""A method that gives only its loss trains on TRL's batches, logs what TRL logs, and computes no needless reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignzoo.plugin.registry import registry
from alignzoo.testing.runs import Run, build, isolate_training

#: DPO as a plugin's own loss.
DPO = '''
from alignzoo import PairLoss, hookimpl

class Own(PairLoss):
    """DPO (nobody, 2030)."""
    name = "own_dpo"
    needs_reference = True

    @classmethod
    def loss(cls, cfg, pairs):
        from torch.nn.functional import logsigmoid
        return -logsigmoid(cfg.method.beta * (pairs.chosen.log_ratio - pairs.rejected.log_ratio))

@hookimpl
def alignzoo_methods():
    return [Own]

@hookimpl
def alignzoo_config_packages():
    return ["own_dpo.conf"]
'''

OPTION = "name: own_dpo\nbeta: 0.2\nlearning_rate: 1e-3\nprecompute_ref_log_probs: true\n"
STEPS = ("train.max_steps=3", "train.lr_scheduler_type=constant", "++method.learning_rate=1e-3")


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Run]:
    """Train three steps of a method on pairs, and return the run."""

    def run(name: str, *words: str) -> Run:
        folder = tmp_path / f"{name}{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        with isolate_training():
            found = build(registry().method(name), "pairs-of-text", folder, [*STEPS, *words])
            found.trainer.train()
        return found

    return run


def read_lines(run: Run) -> list[dict[str, Any]]:
    return [line for line in run.trainer.state.log_history if "loss" in line]


@pytest.mark.parametrize("words", [(), ("method.precompute_ref_log_probs=false",), ("peft=lora",)], ids=" ".join)
def test_dpo_as_a_plugins_loss_trains_and_logs_as_trls(
    train: Callable[..., Run], fake_package: Callable[..., None], words: tuple[str, ...]
) -> None:
    fake_package("own_dpo", DPO, {"method/own_dpo.yaml": OPTION})
    ours, theirs = (read_lines(train(name, *words)) for name in ("own_dpo", "dpo"))
    shared = [key for key in ours[0] if key.startswith(("rewards/", "logps/"))]
    assert len(shared) == 6
    for key in ["loss", "grad_norm", *shared]:
        assert [line[key] for line in ours] == pytest.approx([line[key] for line in theirs], rel=1e-3, abs=1e-5), key


def test_a_loss_without_a_reference_computes_none(train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    from trl import DPOTrainer

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a reference was computed")

    monkeypatch.setattr(DPOTrainer, "compute_ref_log_probs", refuse)
    monkeypatch.setattr("alignzoo.train.reference.scoring.Scorer.score", refuse)
    trainer = train("simpo").trainer
    assert trainer.ref_model is None
    assert not {"ref_chosen_logps", "ref_rejected_logps"} & set(trainer.train_dataset.column_names)


@pytest.mark.parametrize("name", ["simpo", "dr_dpo"])
def test_shared_prefixes_leave_the_losses_as_they_are(train: Callable[..., Run], name: str) -> None:
    on, off = (train(name, f"speed.shared_prefix={word}").losses for word in ("on", "off"))
    assert on == pytest.approx(off, rel=1e-4)


def test_held_out_pairs_are_scored_with_the_same_loss(train: Callable[..., Run]) -> None:
    held = ("dataset.heldout.fraction=0.3", "+train.eval_strategy=steps", "+train.eval_steps=3")
    lines = train("simpo", *held).trainer.state.log_history
    (found,) = [line for line in lines if "eval_loss" in line]
    assert found["eval_rewards/margins"] == pytest.approx(found["eval_rewards/chosen"] - found["eval_rewards/rejected"])
