"""Ten steps of TRL's own trainers: packed and dense, the losses are the same."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig
from speed_models import FAMILIES, tiny

from alignzoo.config.check import check
from alignzoo.data.convert import convert
from alignzoo.data.prepare import prepare
from alignzoo.data.tokenise import Tokeniser
from alignzoo.evaluate.rewards import build_rewards
from alignzoo.models.load import load_policy, load_tokenizer
from alignzoo.models.shared_prefix import attention, patch
from alignzoo.models.shared_prefix.patch import share_prefixes, stop_sharing
from alignzoo.models.tiny import VOCABULARY, make_tiny
from alignzoo.plugin.method import Method
from alignzoo.system.libraries import silence_libraries
from alignzoo.train.trainer import collect_parts
from alignzoo.train.trl_config import make_trl_config

STEPS = 10

Losses = Callable[..., list[float]]

WORDS = [
    "salt",
    "sea",
    "red",
    "rain",
    "the",
    "of",
    "is",
    "a",
    "cloud",
    "drop",
    "colour",
    "river",
    "stone",
    "bread",
    "why",
    "what",
    "name",
    "three",
    "two",
    "and",
    "not",
    "old",
]


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tiny(folder)
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dice = random.Random(0)

    def text(least: int, most: int) -> str:
        return " ".join(dice.choices(WORDS, k=dice.randint(least, most)))

    file = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    lines = [{"prompt": text(20, 40), "chosen": text(5, 30), "rejected": text(5, 30)} for _ in range(20)]
    file.write_text("\n".join(json.dumps(line) for line in lines))
    return file


@pytest.fixture
def losses(
    tokenizer_folder: Path,
    pairs: Path,
    tmp_path: Path,
    compose_config: Callable[..., DictConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> Losses:
    """Train a method; return the logged losses. ``build`` makes the trainer, by default as a run does."""
    packed: list[int] = []

    class Counted(attention.Trees):
        def __init__(self, nodes: Any, device: Any) -> None:
            super().__init__(nodes, device)
            packed.append(nodes[-1].stop)

    monkeypatch.setattr(patch.attention, "Trees", Counted)

    def train(
        method: str, *overrides: str, family: str = "llama", choice: str = "on", build: Callable[..., Any] | None = None
    ) -> list[float]:
        folder = tmp_path / family
        if not folder.exists():
            window = {"sliding_window": 1024} if family == "mistral" else {}  # as long as the rows: they are packed
            tiny(family, vocab_size=VOCABULARY, tie_word_embeddings=True, **window).save_pretrained(folder)
            load_tokenizer(tokenizer_folder, compose_config("model=tiny").model).save_pretrained(folder)
        batch = 4 if method == "kto" else 2
        cfg = compose_config(
            *(f"method={method}", "model=tiny", "dataset=local", f"dataset.path={pairs}", "dataset.chat=true"),
            *("dataset.heldout.fraction=0", f"train.per_device_batch_size={batch}", f"train.global_batch_size={batch}"),
            *(f"train.max_steps={STEPS}", "method.learning_rate=1e-3", f"speed.shared_prefix={choice}", *overrides),
        )
        checked = check(cfg)
        silence_libraries(cfg.telemetry)
        tokenizer = load_tokenizer(folder, cfg.model)
        data = prepare(cfg, Tokeniser(tokenizer, []))
        model = load_policy(folder, cfg, "fp32")
        share_prefixes(cfg, model)
        parts = collect_parts(
            checked,
            make_trl_config(checked, tmp_path / "out"),
            model,
            tokenizer,
            convert(data.train, data.kind, checked.method.data, batch, cfg.seed),
            rewards=build_rewards(cfg.reward, set(), []).functions if checked.method.uses_rewards else [],
        )
        trainer = (build or checked.method.build_trainer)(checked.method(), parts)
        reference = getattr(trainer, "ref_model", None)
        share_prefixes(cfg, reference)
        packed.clear()
        trainer.train()
        assert bool(packed) == (choice == "on")
        stop_sharing(model, reference)
        return [line["loss"] for line in trainer.state.log_history if "loss" in line]

    return train


def same(packed: list[float], dense: list[float], distinct: int = STEPS - 1) -> None:
    """``distinct`` losses at least: the rate rises from 0, so that the first step changes nothing."""
    assert len(packed) == len(dense) == STEPS
    assert len({round(float(loss), 6) for loss in packed}) >= distinct
    assert [float(loss) for loss in packed] == pytest.approx([float(loss) for loss in dense], abs=1e-4, rel=0)


CHECKPOINTED = ("peft=lora", "train.gradient_checkpointing=true")


@pytest.mark.parametrize(
    ("family", "more"),
    [
        *(pytest.param(family, (), id=family) for family in FAMILIES),
        *(
            pytest.param(family, CHECKPOINTED, id=f"{family}-lora", marks=() if family == "qwen3" else pytest.mark.long)
            for family in FAMILIES
        ),
    ],
)
def test_dpo_has_the_same_losses_in_every_family(losses: Losses, family: str, more: tuple[str, ...]) -> None:
    same(losses("dpo", *more, family=family), losses("dpo", *more, family=family, choice="off"))


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("ipo", ()),
        ("kto", ()),
        ("kto", ("method.precompute_ref_log_probs=false",)),
        ("dpo", ("method.precompute_ref_log_probs=false", "train.global_batch_size=4")),
        ("sft", ()),
    ],
    ids=["ipo", "kto", "kto-live-reference", "dpo-live-reference-accumulated", "sft"],
)
def test_other_methods_have_the_same_losses(losses: Losses, method: str, more: tuple[str, ...]) -> None:
    same(losses(method, *more), losses(method, *more, choice="off"))


#: Groups of four sampled answers, each learnt from in two steps; the reward differs between random answers.
GROUPS = (
    *("method.num_generations=4", "method.max_completion_length=12", "reward=length", "reward.length.words=1"),
    *("train.per_device_batch_size=4", "train.global_batch_size=8", "+method.num_iterations=2", "method.beta=1"),
)


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_groups_of_sampled_answers_have_the_same_losses(losses: Losses, method: str) -> None:
    """Also accumulated, in two micro-batches per step. What is sampled is never packed, and the same.

    Which groups have equal rewards, and so a loss of 0, depends on the processor.
    """
    same(losses(method, *GROUPS), losses(method, *GROUPS, choice="off"), distinct=4)


@pytest.mark.parametrize("more", [(), ("peft=lora",)], ids=["full", "lora"])
def test_orpo_without_logits_has_trls_own_losses(losses: Losses, more: tuple[str, ...]) -> None:
    same(losses("orpo", *more), losses("orpo", *more, choice="off", build=Method.build_trainer))


def test_orpo_without_logits_has_trls_own_losses_unpacked(losses: Losses) -> None:
    same(losses("orpo", choice="off"), losses("orpo", choice="off", build=Method.build_trainer))
