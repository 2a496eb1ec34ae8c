"""Tiny models of the families that packed rows are tested on, and rows to put through them."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from omegaconf import DictConfig, OmegaConf

FAMILIES = {
    "llama": ("Llama", {}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {}),
    "gemma": ("Gemma", {}),
    "mistral": ("Mistral", {"sliding_window": 64}),
}

VOCABULARY = 256

SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "initializer_range": 0.1,  # else all next tokens are about equally likely
}


def settings(choice: str = "on", budget: int = 16384) -> DictConfig:
    return OmegaConf.create({"speed": {"shared_prefix": choice, "bin_tokens": budget}})


def tiny(family: str, **more: Any) -> Any:
    """A model with random weights, the same ones each time."""
    name, own = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **own, **more})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(config)


def rows(longest: int = 60) -> dict[str, torch.Tensor]:
    """Two pairs with a prompt each, answers of many lengths, and a row of its own that is padded on the left."""
    dice = torch.Generator().manual_seed(1)
    ids = torch.randint(VOCABULARY, (5, longest), generator=dice)
    mask, labels = torch.ones_like(ids), ids.clone()
    ids[1, :30], ids[3, :22] = ids[0, :30], ids[2, :22]
    labels = ids.clone()
    for row, (prompt, length) in enumerate([(30, longest), (30, 41), (22, 50), (22, 35)]):
        mask[row, length:], labels[row, length:], labels[row, :prompt] = 0, -100, -100
    mask[4, :11], labels[4, :20] = 0, -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
