"""What `opd`, `gkd` and `minillm` compute, sample and draw, beside what the conformance kit asks of every method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from alignzoo_plugins.distillation import METHODS, minillm_trainer
from alignzoo_plugins.distillation.distillation import compute_divergence
from alignzoo_plugins.distillation.gkd_trainer import GKDTrainer
from alignzoo_plugins.distillation.minillm_trainer import TeacherMixed, average_later
from inprocess import SEED, run
from transformers import AutoModelForCausalLM

from alignzoo.models.start_model import start_folder
from alignzoo.plugin.registry import registry
from alignzoo.testing.runs import build, isolate_training
from alignzoo.train.losses import compare as comparing
from alignzoo.train.losses.compare import Comparison, compare

#: Settings that change a loss, beside the default ones, which the kit compares.
SETTINGS = [
    ("opd", "method.beta=0"),
    ("opd", "method.beta=0.1"),
    ("gkd", "method.lmbda=1"),
    ("gkd", "method.lmbda=0"),
    ("gkd", "method.beta=0.5"),
    ("gkd", "method.beta=1"),
    ("minillm", "method.teacher_mix=0"),
    ("minillm", "method.teacher_mix=0.9"),
    ("minillm", "method.clip=0.01"),
]


def compared(monkeypatch: pytest.MonkeyPatch, name: str, *words: str) -> Comparison:
    make_words = comparing.make_words
    monkeypatch.setattr(comparing, "make_words", lambda method: [*make_words(method), *words])
    found = compare(registry().method(name))
    assert found is not None
    return found


@pytest.mark.parametrize(("name", "word"), SETTINGS)
def test_the_loss_is_the_equations_with_other_settings(name: str, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = compared(monkeypatch, name, word)
    assert found.agrees, found


def test_an_altered_loss_of_opd_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from trl import DistillationTrainer

    before = DistillationTrainer._compute_loss

    def altered(self: Any, student: Any, inputs: Any, count: Any) -> Any:
        self.beta = 0.9  # of the configured 1
        return before(self, student, inputs, count)

    monkeypatch.setattr(DistillationTrainer, "_compute_loss", altered)
    assert not compared(monkeypatch, "opd").agrees


def test_an_altered_loss_of_gkd_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRL's mean over all tokens is another loss than the paper's mean over completions."""
    from trl import DistillationTrainer

    monkeypatch.setattr(GKDTrainer, "_compute_loss", DistillationTrainer._compute_loss)
    assert not compared(monkeypatch, "gkd").agrees


def test_an_altered_loss_of_minillm_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rewards of what comes later are left out: what remains is the single-step part."""
    monkeypatch.setattr(minillm_trainer, "average_later", lambda rewards, mask: torch.zeros_like(rewards))
    assert not compared(monkeypatch, "minillm").agrees


def test_the_divergence_has_the_limits_of_the_paper() -> None:
    torch.manual_seed(0)
    student, teacher = (torch.log_softmax(torch.randn(2, 3, 7, dtype=torch.float64), -1) for _ in range(2))
    forward, reverse = compute_divergence(student, teacher, 0), compute_divergence(student, teacher, 1)
    torch.testing.assert_close(compute_divergence(student, teacher, 1e-6) / 1e-6, forward, rtol=1e-4, atol=0)
    torch.testing.assert_close(compute_divergence(student, teacher, 1 - 1e-6) / 1e-6, reverse, rtol=1e-4, atol=0)
    halves = compute_divergence(student, teacher, 0.5), compute_divergence(teacher, student, 0.5)
    torch.testing.assert_close(*halves)
    assert (halves[0] < torch.log(torch.tensor(2.0))).all()
    assert compute_divergence(student, student, 0.5).abs().max() < 1e-12


def test_later_rewards_are_averaged_without_padding() -> None:
    rewards = torch.tensor([[1.0, 2.0, 4.0, 9.0], [3.0, 5.0, 7.0, 7.0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    expected = torch.tensor([[5.0, 6.5, 9.0, 0.0], [5.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(average_later(rewards, mask) * mask, expected)


def test_gkd_draws_by_seed_and_step_alone() -> None:
    def draw(seed: int, share: float) -> list[bool]:
        trainer = GKDTrainer.__new__(GKDTrainer)
        trainer.lmbda, trainer.args = share, type("Args", (), {"seed": seed})()
        steps = (type("State", (), {"global_step": step})() for step in range(400))
        return [setattr(trainer, "state", state) or trainer._samples_now() for state in steps]  # type: ignore[func-returns-value]

    assert draw(0, 0.25) == draw(0, 0.25) != draw(1, 0.25)
    assert 60 < sum(draw(0, 0.25)) < 140
    assert not any(draw(0, 0.0))
    assert all(draw(0, 1.0))


@pytest.fixture
def teacher(compose_config: Callable[..., Any]) -> Any:
    folder = start_folder(compose_config("model=tiny", "model.weights_seed=1").model)
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_minillm_samples_from_the_mixture(share: float, teacher: Any) -> None:
    """Token by token with a cache and padding on the left, as one pass without either gives it."""
    prompts, answers = [[5, 6, 7, 8], [9, 10]], [[11, 12], [13, 14]]
    mixed = TeacherMixed(teacher, prompts, share)
    logits = torch.randn(2, teacher.config.vocab_size)
    for step in range(3):
        ids = torch.tensor([[0] * (4 - len(p)) + p + a[:step] for p, a in zip(prompts, answers, strict=True)])
        found = torch.softmax(mixed(ids, logits), -1)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        with torch.no_grad():
            taught = torch.softmax(teacher(input_ids=torch.tensor([prompt + answer])).logits[0, -1], -1)
        torch.testing.assert_close(found[row], (1 - share) * torch.softmax(logits[row], -1) + share * taught)


def test_minillms_mixture_forgets_the_rows_that_have_ended(teacher: Any) -> None:
    prompts, logits = [[5, 6, 7, 8], [9, 10], [11, 12, 13]], torch.randn(3, teacher.config.vocab_size)
    ids = torch.tensor([[0] * (4 - len(prompt)) + prompt for prompt in prompts])
    whole, less = (TeacherMixed(teacher, prompts, 0.5) for _ in range(2))
    assert torch.equal(whole(ids, logits), less(ids, logits))
    longer, kept = torch.nn.functional.pad(ids, (0, 1), value=14), torch.tensor([2, 1])
    less.keep_rows(kept)
    torch.testing.assert_close(less(longer[kept], logits[kept]), whole(longer, logits)[kept])


@pytest.mark.parametrize("name", [method.name for method in METHODS])
def test_packing_changes_no_loss(name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second step samples from weights that the first has moved: a difference would grow."""
    from alignzoo.models.shared_prefix import patch
    from alignzoo.train.run import _list_frozen

    packed: list[int] = []
    run_bin = patch._run_bin
    monkeypatch.setattr(patch, "_run_bin", lambda *a: packed.append(1) or run_bin(*a))  # type: ignore[func-returns-value]
    losses = []
    for choice in ("off", "on"):
        words = [f"speed.shared_prefix={choice}", "train.max_steps=2", "method.max_completion_length=8"]
        (tmp_path / choice).mkdir()
        with isolate_training(), patch.sharing_ends():
            made = build(registry().method(name), "pairs-of-messages", tmp_path / choice, words)
            patch.share_prefixes(made.inputs.cfg, *_list_frozen(made.trainer))
            packed.clear()
            made.trainer.train()
        assert bool(packed) == (choice == "on")
        losses.append(made.losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.slow
def test_a_distilled_student_comes_nearer_to_its_teacher(tmp_path: Any, cache: Any) -> None:
    """On held-out prompts, to a teacher that was trained; the result names it, and resuming would ask for it."""
    held = (
        "dataset.rows=64",
        "dataset.heldout.rows=16",
        "evaluate.max_new_tokens=16",
        "method.learning_rate=3e-3",
        SEED,
    )
    taught = run(tmp_path / "teacher", "method=sft", "model=tiny", *held)
    assert taught.code == 0, taught.err
    words = ("model=tiny", "model.weights_seed=1", "teacher=local", f"teacher.path={tmp_path / 'teacher'}")
    done = run(tmp_path / "student", "method=gkd", *words, "method.max_completion_length=16", *held)
    assert done.code == 0, done.err
    result = done.result()
    before, after = (result[side]["teacher_kl"] for side in ("before", "after"))
    assert result["intervals"]["teacher_kl"][1] < before, "the whole interval lies below the start model's"
    assert after < 0.8 * before
    assert result["teacher"]["path"] == str(tmp_path / "teacher")
    assert len(result["teacher"]["identity"]) == 64
