"""The model `tiny`: a Llama with random weights and a tokenizer of its own, made on the spot."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alignzoo.system import ranks

VOCABULARY = 1024  #: entries, of which 256 are bytes

#: A chat template, also for models that have none (``model.chat_template=chatml``): ChatML, with tools, calls and
#: thoughts as Qwen's models write them.
CHATML = (
    "{% if tools %}{{ '<|im_start|>system\\nTools:' }}"
    "{% for tool in tools %}{{ '\\n' + tool | tojson }}{% endfor %}{{ '<|im_end|>\\n' }}{% endif %}"
    "{% for message in messages %}"
    "{% if 'tool_calls' not in message and 'reasoning_content' not in message %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% else %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message.reasoning_content %}{{ '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}{% endif %}"
    "{{ message['content'] }}"
    "{% for call in message.tool_calls %}"
    "{{ '\\n' if message['content'] or not loop.first }}"
    "{{ '<tool_call>\\n{\"name\": ' + (call.function or call).name | tojson + ', \"arguments\": ' }}"
    "{% if (call.function or call).arguments is string %}{{ (call.function or call).arguments }}"
    "{% else %}{{ (call.function or call).arguments | tojson }}{% endif %}{{ '}\\n</tool_call>' }}"
    "{% endfor %}"
    "{{ '<|im_end|>' + '\\n' }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def make_tiny(folder: Path, seed: int = 0) -> None:
    """Save a Llama of 2 layers, 64 hidden units and ``VOCABULARY`` tokens, with random weights, in ``folder``."""
    save_random(
        folder,
        tiny_tokenizer,
        seed,
        intermediate_size=160,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        initializer_range=0.1,  # far from uniform, so that a few steps can be seen
    )


def save_random(folder: Path, make_tokenizer: Callable[[], Any], seed: int, **settings: Any) -> None:
    """Save a Llama of 2 layers and 64 hidden units with random weights, and its tokenizer, in ``folder``.

    ``settings``: what else its configuration says.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **settings,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ranks.save_here(LlamaForCausalLM(config), folder)
    tokenizer.save_pretrained(folder)


def tiny_tokenizer() -> Any:
    """Return a byte-level BPE trained on the project's own dataset, with ChatML."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = importlib.resources.files("alignzoo.data").joinpath("concise/train.jsonl").read_text(encoding="utf-8")
    tokenizer.train_from_iterator(text.splitlines(), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = CHATML
    return fast
