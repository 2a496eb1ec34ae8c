"""Makes models in the shapes of published ones with random weights, which are as fast and need no download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

#: The shapes of Qwen2.5-0.5B and Qwen2.5-1.5B (their config.json).
SIZES: dict[str, dict[str, int]] = {
    "0.5b": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
    },
    "1.5b": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
    },
}


def make_random(folder: Path, shape: dict[str, int], seed: int = 0) -> None:
    """Save a Qwen2 of that shape in float32, with the tokenizer of ``tiny``, which uses the first of its tokens."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from alignzoo.models.tiny import tiny_tokenizer

    tokenizer: Any = tiny_tokenizer()
    config = Qwen2Config(
        **shape,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
