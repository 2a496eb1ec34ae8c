"""What a device holds in each phase: by hand for a small Llama, and the ZeRO paper's own figures."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import transformers
from omegaconf import DictConfig

from alignzoo.plan.live_bytes import LiveBytes
from alignzoo.plan.passes import Settings, Size
from alignzoo.plan.phases import Holding, Passes, Phase, Workload, list_phases
from alignzoo.plan.sharding import SHARDINGS, find_sharding
from alignzoo.plan.skeleton import build_skeleton

Compose = Callable[..., DictConfig]

VOCABULARY, WIDTH, INNER = 1000, 64, 160
COUNT = VOCABULARY * WIDTH + 2 * (4 * WIDTH * WIDTH + 3 * WIDTH * INNER + 2 * WIDTH) + WIDTH
TRAIN = Size(sequences=4, tokens=32)
SCORE, ANSWER = Size(3, 40), Size(3, 50)


def passes(cfg: DictConfig, layers: int = 2, **changes: Any) -> Passes:
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=layers,
        num_attention_heads=4,
        tie_word_embeddings=True,
    )
    made = {"device": "cpu", "precision": "fp32", "checkpointing": False, "whole_logits": True, "accumulates": False}
    holds = {"reference": False, "precomputes": True}
    settings = Settings(**{key: changes.get(key, value) for key, value in made.items()})  # type: ignore[arg-type]
    holding = Holding(**{key: changes.get(key, value) for key, value in holds.items()})
    work = Workload(TRAIN, changes.get("sample"), 20, SCORE, ANSWER, 20, 1)
    return Passes(build_skeleton(config, cfg, "fp32", cfg.peft), work, settings, holding)


def named(found: list[Phase]) -> dict[str, dict[str, int]]:
    return {phase.name: phase.held for phase in found}


def test_a_small_llama_by_hand(compose_config: Compose) -> None:
    made = passes(compose_config("model=tiny"))
    held = named(list_phases(made, SHARDINGS["single"]))
    weights = made.skeleton.weight_bytes
    assert 4 * COUNT <= weights <= 4 * COUNT + 1000, "and a few numbers for positions"
    assert held["optimizer step"]["optimizer"] == 8 * COUNT
    assert held["optimizer step"]["gradients"] == 4 * COUNT
    assert held["optimizer step"]["temporary"] == 2 * 4 * VOCABULARY * WIDTH, "the largest weight is the embedding"
    training = held["training"]
    assert training["weights"] == weights
    logits = 4 * TRAIN.positions * VOCABULARY
    assert training["logits"] >= 2 * logits, "logits and their gradient are there at once"
    assert training["logits"] <= 5 * logits
    measured = held["measuring"]["logits"]
    assert 4 * SCORE.positions * VOCABULARY <= measured <= 1.5 * 4 * SCORE.positions * VOCABULARY
    kl = next(phase.held for phase in list_phases(made, SHARDINGS["single"]) if phase.name == "measuring the KL")
    assert kl["start model"] == weights
    assert kl["logits"] >= 2 * 4 * ANSWER.positions * VOCABULARY


def test_a_layer_keeps_what_its_backward_pass_needs(compose_config: Compose) -> None:
    """Two norms (input, normalised), queries, keys, values, attention's sum, and four of the inner width."""
    cfg = compose_config("model=tiny")
    two, three = (passes(cfg, layers=layers).training.backbone for layers in (2, 3))
    tokens = TRAIN.positions
    kept = 4 * tokens * (10 * WIDTH + 4 * INNER)
    mask = 4 * TRAIN.sequences * TRAIN.tokens**2
    assert three - two == pytest.approx(kept + mask, rel=0.05)


def test_checkpointing_keeps_one_input_a_layer(compose_config: Compose) -> None:
    cfg = compose_config("model=tiny")
    two, three = (passes(cfg, layers=layers, checkpointing=True).training.backbone for layers in (2, 3))
    assert three - two == pytest.approx(4 * TRAIN.positions * WIDTH, rel=0.05)


def test_chunks_on_a_gpu_take_less_than_all_logits(compose_config: Compose) -> None:
    cfg = compose_config("model=tiny")
    whole = named(list_phases(passes(cfg, device="cuda"), SHARDINGS["single"]))["training"]["logits"]
    made = passes(cfg, device="cuda", whole_logits=False)
    assert made.training.flops > 0.9 * passes(cfg, device="cuda").training.flops, "the kernel's are counted too"
    tile = 4 * (TRAIN.positions - TRAIN.sequences) * 32768
    assert named(list_phases(made, SHARDINGS["single"]))["training"]["logits"] >= tile > whole


def test_an_adapter_has_no_second_model(compose_config: Compose) -> None:
    made = passes(compose_config("model=tiny", "peft=lora"))
    held = named(list_phases(made, SHARDINGS["single"]))
    assert held["measuring the KL"]["start model"] == 0
    assert held["optimizer step"]["gradients"] == 4 * made.skeleton.trained < COUNT


def test_a_reference_in_memory_is_another_model(compose_config: Compose) -> None:
    cfg = compose_config("model=tiny")
    without, holding = (passes(cfg, reference=reference) for reference in (False, True))
    more = [sum(named(list_phases(made, SHARDINGS["single"]))["training"].values()) for made in (without, holding)]
    assert more[1] - more[0] == without.skeleton.weight_bytes


def test_a_cpu_keeps_the_place_of_freed_gradients(compose_config: Compose) -> None:
    cfg = compose_config("model=tiny")
    here, there = (named(list_phases(passes(cfg, device=device), SHARDINGS["single"])) for device in ("cpu", "cuda"))
    assert here["measuring the KL"]["freed gradients"] == 4 * COUNT
    training = here["training"]
    assert training["freed gradients"] + training["gradients"] == 4 * COUNT
    assert "freed gradients" not in here["optimizer step"] | there["training"]


def test_sampling_keeps_keys_and_values(compose_config: Compose) -> None:
    made = passes(compose_config("model=tiny"), sample=Size(4, 48))
    cache = 4 * 2 * 2 * 4 * 48 * WIDTH  # bytes, keys and values, layers, sequences, tokens, width
    assert cache <= named(list_phases(made, SHARDINGS["single"]))["sampling"]["sampling"] <= 3 * cache


def test_gradients_of_several_batches_stay(compose_config: Compose) -> None:
    cfg = compose_config("model=tiny")
    once, twice = (passes(cfg, accumulates=accumulates).training.find_peak() for accumulates in (False, True))
    assert sum(twice) >= sum(once) + 0.5 * 4 * COUNT


# Sharding

GIGA = 10**9


def paper(devices: int, strategy: str) -> float:
    """Return what the paper's model of 7.5 billion weights takes for weights, gradients and optimizer, in GB."""
    count = round(7.5 * GIGA)
    live = LiveBytes()
    made: Any = SimpleNamespace(
        skeleton=SimpleNamespace(
            weight_bytes=4 * count, trained=count, gradient_bytes=4 * count, is_adapted=False, largest=0, layer_bytes=0
        ),
        settings=SimpleNamespace(precision="bf16", device="cpu", accumulates=False),
        holding=SimpleNamespace(reference=False, precomputes=False),
        teacher=None,
        **dict.fromkeys(("sampling", "scoring", "generating", "comparing")),
        training=live,
    )
    weight = SimpleNamespace(numel=lambda: 0, element_size=lambda: 4)
    made.skeleton.head = weight
    made.skeleton.core = SimpleNamespace(get_input_embeddings=lambda: SimpleNamespace(weight=weight))
    held = named(list_phases(made, SHARDINGS[strategy], devices))["optimizer step"]
    return sum(held[name] for name in ("weights", "gradients", "optimizer")) / GIGA


@pytest.mark.parametrize(("strategy", "expected"), [("single", 120), ("ddp", 120), ("zero2", 16.6), ("zero3", 1.9)])
def test_the_figures_of_the_zero_paper(strategy: str, expected: float) -> None:
    """Rajbhandari et al., 2020, figure 1: 7.5 billion weights on 64 devices."""
    assert paper(64, strategy) == pytest.approx(expected, abs=0.06)


def test_fsdp_divides_what_stage_three_does() -> None:
    assert paper(64, "fsdp") == pytest.approx(paper(64, "zero3"))


def test_ddp_copies_gradients_into_buckets(compose_config: Compose) -> None:
    held = named(list_phases(passes(compose_config("model=tiny")), SHARDINGS["ddp"], 2))
    assert held["training"]["buckets"] == 4 * COUNT


def test_unknown_strategies_are_one_process_or_ddp() -> None:
    assert [find_sharding("auto", n).name for n in (1, 2)] == ["single", "ddp"]
    assert find_sharding("zero3", 8).name == "zero3"
