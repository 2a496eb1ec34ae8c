"""The model `player`: a Llama with random weights that knows the words of the game `treasure`, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alignzoo.models.tiny import save_random

#: Its tokens: those that mark turns, and the game's actions and observations.
WORDS = [
    *("<pad>", "<eos>", "<unk>", "user", "assistant", "tool"),
    *("north", "south", "east", "west", "found", "over"),
]

#: Role, what is said, <eos>. A call is the tool's name, and each of its arguments behind it; the tools are not written.
TEMPLATE = (
    "{% for message in messages %}{{ message.role + ' ' + message.content }}"
    "{% for call in message.tool_calls or [] %}{{ ' ' + (call.function or call).name }}"
    "{% for key, value in (call.function or call).arguments.items() %}{{ ' ' ~ key ~ ' ' ~ value }}{% endfor %}"
    "{% endfor %}{{ ' <eos> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant' }}{% endif %}"
)

#: Each word of a turn, but <eos>, is a call without arguments.
RESPONSES: dict[str, Any] = {
    "defaults": {"role": "assistant"},
    "start_anchor": "assistant",
    "fields": {
        "tool_calls": {
            "open_pattern": r"(?P<name>(?!<eos>)\S+)",
            "close_pattern": r"\s+|$",
            "repeats": True,
            "content": "text",
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": {}}},
        },
        "content": {"close_pattern": r"<eos>\s*", "content": "text"},
    },
}


def make_player(folder: Path, seed: int = 0) -> None:
    """Save a Llama of 2 layers and 64 hidden units that knows ``WORDS``, with random weights, in ``folder``."""
    save_random(
        folder,
        make_player_tokenizer,
        seed,
        intermediate_size=128,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        initializer_range=0.05,  # near uniform: each action is tried from the start
    )


def make_player_tokenizer() -> Any:
    """Return a tokenizer of whole words and punctuation; what it does not know is ``<unk>``."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>", unk_token="<unk>", padding_side="left"
    )
    fast.chat_template, fast.response_template = TEMPLATE, RESPONSES
    return fast
