"""Models without weights: as many parameters as the real ones have, from the config alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from omegaconf import DictConfig
from repository import ROOT

from alignzoo import UserError
from alignzoo.plan.skeleton import build_skeleton, load_model_config

Compose = Callable[..., DictConfig]

LLAMA = {"vocab_size": 128256, "head_dim": 64, "num_key_value_heads": 8, "tie_word_embeddings": True}
QWEN3 = {"vocab_size": 151936, "head_dim": 128, "num_key_value_heads": 8, "tie_word_embeddings": True}
QWEN2 = {"vocab_size": 151936, "num_key_value_heads": 2, "tie_word_embeddings": True}
SMOL = {"vocab_size": 49152, "tie_word_embeddings": True}
GEMMA = {"vocab_size": 262144, "head_dim": 256, "num_key_value_heads": 1, "num_attention_heads": 4}
MISTRAL = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_key_value_heads": 8}


def sizes(hidden: int, inner: int, layers: int, heads: int, **more: Any) -> dict[str, Any]:
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return {**dict(zip(names, (hidden, inner, layers, heads), strict=True)), **more}


#: Each conf/model with the sizes in its config.json, and the parameters of its safetensors files.
PUBLISHED = {
    "smollm2-135m": ("Llama", sizes(576, 1536, 30, 9, **SMOL, num_key_value_heads=3), 134_515_008),
    "smollm2-360m": ("Llama", sizes(960, 2560, 32, 15, **SMOL, num_key_value_heads=5), 361_821_120),
    "smollm2-1.7b": ("Llama", sizes(2048, 8192, 24, 32, **SMOL, num_key_value_heads=32), 1_711_376_384),
    "llama3.2-1b": ("Llama", sizes(2048, 8192, 16, 32, **LLAMA), 1_235_814_400),
    "llama3.2-3b": ("Llama", sizes(3072, 8192, 28, 24, **LLAMA | {"head_dim": 128}), 3_212_749_824),
    "qwen0.5b": ("Qwen2", sizes(896, 4864, 24, 14, **QWEN2), 494_032_768),
    "qwen1.5b": ("Qwen2", sizes(1536, 8960, 28, 12, **QWEN2), 1_543_714_304),
    "qwen3-0.6b": ("Qwen3", sizes(1024, 3072, 28, 16, **QWEN3), 596_049_920),
    "qwen3-1.7b": ("Qwen3", sizes(2048, 6144, 28, 16, **QWEN3), 1_720_574_976),
    "qwen3-4b": ("Qwen3", sizes(2560, 9728, 36, 32, **QWEN3), 4_022_468_096),
    "qwen3-8b": ("Qwen3", sizes(4096, 12288, 36, 32, **QWEN3 | {"tie_word_embeddings": False}), 8_190_735_360),
    "mistral-7b": ("Mistral", {**MISTRAL, "vocab_size": 32768}, 7_248_023_552),
    "zephyr-7b-sft": ("Mistral", {**MISTRAL, "vocab_size": 32000}, 7_241_732_096),
    "olmo2-1b": ("Olmo2", sizes(2048, 8192, 16, 16, vocab_size=100352, num_key_value_heads=16), 1_484_916_736),
    "olmo2-7b": ("Olmo2", sizes(4096, 11008, 32, 32, vocab_size=100352, num_key_value_heads=32), 7_298_617_344),
    "gemma3-270m": ("Gemma3Text", sizes(640, 2048, 18, 4, **{**GEMMA, "num_attention_heads": 4}), 268_098_176),
    "gemma3-1b": ("Gemma3Text", sizes(1152, 6912, 26, 4, **{**GEMMA, "num_attention_heads": 4}), 999_885_952),
}


def config(name: str) -> Any:
    kind, values, _ = PUBLISHED[name]
    return getattr(transformers, f"{kind}Config")(**values)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_of_the_published_weights(name: str, compose_config: Compose) -> None:
    cfg = compose_config("model=tiny")
    assert build_skeleton(config(name), cfg, "fp32", cfg.peft).parameters == PUBLISHED[name][2]


def test_every_hub_model_of_the_configs_is_counted() -> None:
    names = {file.stem for file in (ROOT / "conf" / "model").glob("*.yaml")}
    assert names - {"tiny", "player", "bundled", "local"} == set(PUBLISHED)


def test_tiny_has_the_weights_of_the_real_one(compose_config: Compose) -> None:
    from alignzoo.models import load, start_model
    from alignzoo.models.adapter import adapter_config

    for words in (["model=tiny"], ["model=tiny", "peft=lora"]):
        cfg = compose_config(*words)
        found = build_skeleton(load_model_config(cfg.model), cfg, "fp32", cfg.peft)
        real = load.load_policy(start_model.start_folder(cfg.model), cfg, "fp32")
        adapter = adapter_config(cfg.peft)
        if adapter is not None:
            from peft import get_peft_model

            real = get_peft_model(real, adapter)
        assert found.parameters == sum(weight.numel() for weight in real.parameters())
        assert found.trained == sum(weight.numel() for weight in real.parameters() if weight.requires_grad)


def test_weights_have_the_bytes_of_their_precision(compose_config: Compose) -> None:
    full, lora, qlora = (compose_config("model=tiny", f"peft={peft}") for peft in ("none", "lora", "qlora"))
    config = transformers.LlamaConfig(**sizes(64, 160, 2, 4, vocab_size=1000, tie_word_embeddings=True))
    count = 64_000 + 2 * (4 * 64 * 64 + 3 * 64 * 160 + 2 * 64) + 64
    found = build_skeleton(config, full, "bf16", full.peft)
    assert found.parameters == found.trained == count
    buffers = sum(buffer.numel() * 4 for buffer in found.model.buffers())
    assert found.weight_bytes == 4 * count + buffers, "all weights train, in float32"
    adapted = build_skeleton(config, lora, "bf16", lora.peft)
    assert adapted.weight_bytes == 2 * count + 4 * adapted.trained + buffers, "frozen ones in bfloat16"
    linear = 2 * (4 * 64 * 64 + 3 * 64 * 160)
    small = build_skeleton(config, qlora, "bf16", qlora.peft)
    assert small.weight_bytes == int(adapted.weight_bytes - linear * (2 - 4.127 / 8))


def test_a_wheel_that_is_not_here_is_not_downloaded(
    compose_config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="check model=bundled"):
        load_model_config(compose_config("model=bundled").model)
