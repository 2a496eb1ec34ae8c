"""Tokenizers for conversations with calls of tools, and the model that knows the words of the text game."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignzoo import UserError
from alignzoo.models.calls import find_training_template, prepare_calls
from alignzoo.models.player import WORDS, make_player, make_player_tokenizer
from alignzoo.models.tiny import tiny_tokenizer
from alignzoo.plugin.environment import find_actions

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 3, "b": "x"}}}


def read(tokenizer: Any, text: str) -> dict[str, Any]:
    from trl.chat_template_utils import parse_response

    prefix = tokenizer.apply_chat_template([{"role": "user", "content": "?"}], add_generation_prompt=True)["input_ids"]
    found: dict[str, Any] = parse_response(tokenizer, tokenizer(text)["input_ids"], prefix=prefix)
    return found


def test_what_chatml_writes_of_a_call_is_read_again() -> None:
    tokenizer = tiny_tokenizer()
    prepare_calls(tokenizer, "tiny")
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "So", "tool_calls": [CALL, CALL]}]
    text = tokenizer.apply_chat_template(messages, tokenize=False).split("assistant\n")[1]
    assert read(tokenizer, text) == {"role": "assistant", "content": "So", "tool_calls": [CALL, CALL]}
    assert find_training_template(tokenizer) is None


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (
            "{% for m in messages %}{{ m.role + m.content }}{% endfor %}",
            "does not write calls of tools. Set model.chat",
        ),
        (
            "{% for m in messages %}{{ m.role + m.content }}{{ m.tool_calls | string }}{% endfor %}",
            "TRL does not know how its chat template writes calls",
        ),
    ],
)
def test_a_template_that_cannot_be_used_says_what_to_do(template: str, reason: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=rf"^model=other: .*{reason}"):
        prepare_calls(tokenizer, "other")


def test_a_tokenizer_keeps_its_own_way_to_read_calls() -> None:
    tokenizer = make_player_tokenizer()
    own = tokenizer.response_template
    prepare_calls(tokenizer, "player")
    assert tokenizer.response_template is own


@pytest.mark.parametrize(
    ("text", "names", "content"),
    [
        ("north <eos>", ["north"], ""),
        ("north over", ["north", "over"], ""),
        ("<eos>", [], ""),
        ("over", ["over"], ""),
        ("Island", ["<unk>"], ""),
    ],
)
def test_each_word_of_the_players_turn_is_a_call(text: str, names: list[str], content: str) -> None:
    found = read(make_player_tokenizer(), text)
    assert [call["function"] for call in found.get("tool_calls", [])] == [{"name": n, "arguments": {}} for n in names]
    assert found["content"] == content


def test_the_player_knows_the_words_of_its_game_and_no_others() -> None:
    from alignzoo_plugins.environments import Treasure

    game, said = Treasure(), set(find_actions(Treasure))
    for goal in ("c1", "c4", "b2", "d2"):
        said |= {game.reset(start="c2", treasure=goal).strip(), game.north(), game.south()}
    game.reset(start="a1", treasure="a2")
    said |= {game.north(), game.north()}
    assert said == {"north", "south", "east", "west", "found", "over"}
    assert said | {"<pad>", "<eos>", "<unk>", "user", "assistant", "tool"} == set(WORDS)
    assert set(make_player_tokenizer().tokenize("Island Bolo: find it.")) == {"<unk>"}


def test_the_player_is_made_the_same_each_time_and_tries_every_word(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make_player(tmp_path / "a", 3)
    make_player(tmp_path / "b", 3)
    one, other = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in "ab")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    assert tokenizer.response_template == make_player_tokenizer().response_template
    with torch.no_grad():
        chances = one(torch.tensor([[3, 7, 4]])).logits[0, -1].softmax(-1)
    assert chances.min() > 0.25 / len(WORDS)
    assert sum(weight.numel() for weight in one.parameters()) < 100_000


def test_both_made_models_can_be_chosen(cache: Path, compose_config: Callable[..., Any]) -> None:
    from alignzoo.models.start_model import start_folder

    names = {start_folder(compose_config(f"model={name}").model).name for name in ("tiny", "player")}
    assert names == {"tiny-0", "player-0"}
