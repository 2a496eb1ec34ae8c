# ruff: noqa: RUF001 (DeepSeek's tokens have bars of full width)
"""Makes tokenizers with the chat templates that people have: small Jinja files of our own with the traits of theirs."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from alignzoo.data.tokenise import Tokeniser
from alignzoo.models.tiny import CHATML, tiny_tokenizer

FOLDER = Path(__file__).with_name("templates")


class Family(NamedTuple):
    """The special tokens of a family of models, and where its prompts and answers end."""

    asked: str
    """How the template writes the question `Hi`, up to where generation starts."""

    stop: str
    """The token that ends an answer."""

    eos: str
    bos: str | None = None
    special: tuple[str, ...] = ()


IM = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"

FAMILIES = {
    "chatml": Family(IM, "<|im_end|>", "<|im_end|>"),
    "chatml_marked": Family(IM, "<|im_end|>", "<|im_end|>"),
    "qwen3": Family(IM, "<|im_end|>", "<|im_end|>"),
    "qwen3_thinking": Family(IM + "<think>\n", "<|im_end|>", "<|im_end|>"),
    "llama3": Family(
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday is 1 Jan.\n<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        *("<|eot_id|>", "<|end_of_text|>", "<|begin_of_text|>"),
        ("<|start_header_id|>", "<|end_header_id|>"),
    ),
    "gemma": Family(
        "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
        *("<end_of_turn>", "<eos>", "<bos>"),
        ("<start_of_turn>",),
    ),
    "mistral": Family("<s>[INST] Hi[/INST]", "</s>", "</s>", "<s>", ("[INST]", "[/INST]")),
    "deepseek_r1": Family(
        "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜><think>\n",
        *("<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>"),
        ("<｜User｜>", "<｜Assistant｜>"),
    ),
}


@functools.cache
def _backend() -> Any:
    return tiny_tokenizer().backend_tokenizer


@functools.cache
def make_tokeniser(name: str) -> Tokeniser:
    """Return a tokeniser of that family; where it has a BOS, its tokenizer writes it before plain text too."""
    family = FAMILIES[name]
    backend = copy.deepcopy(_backend())
    bos = [family.bos] if family.bos else []
    backend.add_special_tokens([family.stop, family.eos, *bos, *family.special])
    if family.bos:
        special = [(family.bos, backend.token_to_id(family.bos))]
        backend.post_processor = TemplateProcessing(single=f"{family.bos} $A", special_tokens=special)
    tokens = {"eos_token": family.eos, "pad_token": family.eos, **({"bos_token": family.bos} if family.bos else {})}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **tokens)
    file = FOLDER / f"{name}.jinja"
    tokenizer.chat_template = file.read_text(encoding="utf-8") if name != "chatml" else CHATML
    return Tokeniser(tokenizer, [tokenizer.convert_tokens_to_ids(family.stop)])


def decode(tokeniser: Tokeniser, row: dict[str, Any]) -> dict[str, str]:
    """Return the texts of a canonical row's token ids: its prompt, and its answers."""
    (ids,) = tokeniser.encode([row])
    return {name.removesuffix("_ids"): tokeniser.tokenizer.decode(found) for name, found in ids.items()}
