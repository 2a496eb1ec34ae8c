"""Writes a model's folder as a GGUF file, as llama.cpp does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_gguf(file: Path, folder: Path, kind: str = "F32") -> dict[str, Any]:
    """Write the model in ``folder`` as llama.cpp does, and return the weights that a reader has to find."""
    import gguf
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    config, wanted = model.config, {}
    quantised = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(file, "llama")
    write_metadata(writer, config, tokenizer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        values = weight.float()
        stored = (values if heads is None else interleaved(values, heads)).contiguous().numpy()
        target = names.get_name(name, try_suffixes=(".weight",))
        if values.ndim == 1:  # norms stay in float32
            writer.add_tensor(target, stored)
            wanted[name] = values
            continue
        packed = gguf.quants.quantize(stored, quantised)
        writer.add_tensor(target, packed, raw_dtype=quantised)
        read = torch.from_numpy(gguf.quants.dequantize(packed, quantised).reshape(stored.shape).copy())
        wanted[name] = read if heads is None else apart(read, heads)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return wanted


def write_metadata(writer: Any, config: Any, tokenizer: Any) -> None:
    import gguf

    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    special = {token["id"] for token in state["added_tokens"]}
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    kinds = [gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for i in range(len(tokens))]
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(merge) for merge in state["model"]["merges"]])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)


def interleaved(weight: Any, heads: int) -> Any:
    """As llama.cpp stores queries and keys: the two halves of each head's rows, one row of each in turn."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def apart(weight: Any, heads: int) -> Any:
    return weight.reshape(heads, -1, 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
