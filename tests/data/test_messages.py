"""What messages hold beside their text: tools, calls, thoughts, weights, parts; each is trained on, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_models import make_tokeniser
from datasets import Dataset
from omegaconf import DictConfig
from test_convert import prepared

from alignzoo import DataFormat, UserError
from alignzoo.config.compose import compose
from alignzoo.data.arrow_cache import load_table
from alignzoo.data.canonical import canonical
from alignzoo.data.convert import convert, with_pairs
from alignzoo.data.messages import BadRow
from alignzoo.data.prompts import read_template_kwargs
from alignzoo.data.sources import open_source
from alignzoo.data.tokenise import ANSWERS
from alignzoo.data.turns import REFUSED, tidy, unread_fields

INPUTS = Path(__file__).with_name("inputs")

Row = dict[str, Any]
Read = Callable[..., list[Row]]

END = "<|im_end|>"
ASSISTANT = "<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def base(cache: Path) -> DictConfig:
    return compose(["dataset=local"])


@pytest.fixture
def read(base: DictConfig) -> Read:
    """Read a file as a run does; return each row's problem, or the decoded texts that reach the loss."""

    def table(file: Path, family: str = "chatml") -> list[Row]:
        tokeniser = make_tokeniser(family)
        rows, _ = load_table(open_source(str(file), "train", None, None, "dataset.path"), tokeniser, base.dataset)
        return [decoded(row, tokeniser.tokenizer) for row in rows]

    return table


def decoded(row: Row, tokenizer: Any) -> Row:
    if row["problem"]:
        return {"problem": row["problem"]}
    return {n: tokenizer.decode(row[f"{n}_ids"]) for n in ("prompt", *ANSWERS) if row[f"{n}_ids"] is not None}


def said(role: str, content: str, **more: Any) -> Row:
    return {"role": role, "content": content, **more}


def turn(role: str, content: str) -> str:
    return f"<|im_start|>{role}\n{content}{END}\n"


SCHEMA = (
    '{"type": "function", "function": {"name": "weather", "description": "Weather of a town", '
    '"parameters": {"type": "object", "properties": {"town": {"type": "string"}}}}}'
)

CALLED = '<tool_call>\n{"name": "weather", "arguments": {"town": "Town0"}}\n</tool_call>'

HISTORY = (
    turn("system", f"Tools:\n{SCHEMA}") + turn("user", "Weather in Town0?") + turn("assistant", CALLED)
    + turn("tool", "0 degrees") + ASSISTANT
)  # fmt: skip

DIFFER = {"problem": "the two histories differ at turn 2: chosen and rejected must share all but their ends"}

#: File -> the first row's texts.
FIRST: dict[str, Row] = {
    "tool_dpo_empty": {"prompt": HISTORY, "chosen": f"It is 0 degrees.{END}", "rejected": f"No idea.{END}"},
    "tool_dpo_null": {"prompt": HISTORY, "chosen": f"It is 0 degrees.{END}", "rejected": f"No idea.{END}"},
    "tool_sft_lastcall": {
        "prompt": turn("system", f"Tools:\n{SCHEMA}") + turn("user", "Weather in Town0?") + ASSISTANT,
        "completion": f"Let me see.\n{CALLED}{END}",
    },
    "openai_tools": {
        "prompt": turn("system", 'Tools:\n{"type": "function", "function": {"name": "weather"}}')
        + turn("user", "Weather 0?")
        + ASSISTANT,
        "chosen": f"Sunny 0{END}",
        "rejected": f"No{END}",
    },
    "sharegpt_tools_list": {
        "prompt": turn("system", 'Tools:\n{"name": "weather", "optional": null, "strict": true}')
        + turn("user", "Weather in Town0?")
        + ASSISTANT,
        "completion": f"It is 0.{END}",
    },
    "reasoning_content": {
        "prompt": turn("user", "What is 0+1?") + ASSISTANT,
        "completion": f"<think>\nAdd one to 0.\n</think>\n\nIt is 1.{END}",
    },
    "thinking_field": {
        "prompt": turn("user", "What is 0+1?") + ASSISTANT,
        "chosen": f"<think>\nAdd one to 0.\n</think>\n\n1{END}",
        "rejected": f"<think>\nGuess.\n</think>\n\n9999{END}",
    },
    "prefill": {
        "prompt": turn("user", "Name town 0") + ASSISTANT + "The town is",
        "chosen": f" Berlin 0.{END}",
        "rejected": f" unknown.{END}",
    },
    "nested_json_strings": {
        "prompt": turn("user", "Pick 0") + ASSISTANT,
        "chosen": f"I pick 0.{END}",
        "rejected": f"I pass.{END}",
    },
    "content_parts_text": {
        "prompt": turn("user", "Say hello in way 0") + ASSISTANT,
        "chosen": f"Hello 0!{END}",
        "rejected": f"no{END}",
    },
    "message_weight": {"problem": "each turn of the assistant has the weight 0: there is nothing to train on"},
    "diff_history": DIFFER,
    "diff_history_prompt": DIFFER,
    "chat_kwargs": {
        "problem": "chat_template_kwargs has enable_thinking, which the model's chat template does not read"
    },
}


def test_every_file_is_tested() -> None:
    assert {file.stem for file in INPUTS.iterdir()} >= set(FIRST)


@pytest.mark.parametrize("name", FIRST)
def test_file(read: Read, name: str) -> None:
    rows = read(INPUTS / f"{name}.jsonl")
    assert rows[0] == FIRST[name]
    assert {tuple(row) for row in rows[1:]} == (
        {tuple(FIRST[name])} if name != "message_weight" else {("problem",), ("prompt", "completion")}
    )


@pytest.mark.parametrize("name", [name for name in FIRST if not name.startswith(("nested", "chat_"))])
def test_the_same_file_as_parquet(read: Read, tmp_path: Path, name: str) -> None:
    """Arrow gives every message the fields of all, with nulls in them, which are no fields."""
    rows = [json.loads(line) for line in (INPUTS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    wanted = read(INPUTS / f"{name}.jsonl")
    if name == "sharegpt_tools_list":  # a null of Arrow's says nothing
        wanted = [{n: text.replace('"optional": null, ', "") for n, text in row.items()} for row in wanted]
    assert read(tmp_path / "rows.parquet") == wanted


def test_arguments_for_the_template_reach_it(read: Read) -> None:
    first, *_ = read(INPUTS / "chat_kwargs.jsonl", "qwen3")
    prompt = turn("user", "Say 0") + ASSISTANT + "<think>\n\n</think>\n\n"
    assert first == {"prompt": prompt, "completion": f"Good 0{END}"}


def test_a_turn_of_weight_0_is_not_trained(read: Read) -> None:
    """The last turn of another weight is, and what follows it is left out."""
    _, second, *_ = read(INPUTS / "message_weight.jsonl")
    prompt = turn("user", "Say 1") + turn("assistant", "Bad 1") + turn("user", "Better?") + ASSISTANT
    assert second == {"prompt": prompt, "completion": f"Good 1{END}"}


@pytest.mark.parametrize(("field", "value"), [("weight", 0), ("loss", False), ("train", False), ("training", 0.0)])
def test_weights_by_their_names(field: str, value: Any) -> None:
    """OpenAI's, ms-swift's and axolotl's; the rows before the last trained turn are the prompt."""
    turns = [said("user", "a"), said("assistant", "b"), said("user", "c"), said("assistant", "d", **{field: value})]
    row = canonical({"messages": turns}, False)
    assert row == {"prompt": turns[:1], "completion": turns[1:2]}
    for name in ("chosen", "completion"):
        raw = (
            {"prompt": "a", "rejected": "x", name: turns[3:]} if name == "chosen" else {"prompt": "a", name: turns[3:]}
        )
        with pytest.raises(BadRow, match=f"{name} has a turn of weight 0"):
            canonical(raw, False)
    with pytest.raises(BadRow, match=f"a message has {field} 0.5; it must be 0 or 1"):
        canonical({"messages": [*turns[:3], said("assistant", "d", **{field: 0.5})]}, False)


# --- What no file of the folder has ---------------------------------------------------------------------------------

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}


def pair(chosen: Any, rejected: Any, prompt: Any = "Q") -> Row:
    return canonical({"prompt": prompt, "chosen": chosen, "rejected": rejected}, True)


def test_answers_that_differ_in_their_calls_alone_are_different() -> None:
    other = {"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}
    chosen, rejected = ([said("assistant", None, tool_calls=[call])] for call in (CALL, other))
    row = pair(chosen, rejected)
    assert row["chosen"] == [said("assistant", "", tool_calls=[CALL])]
    with pytest.raises(BadRow, match="chosen equals rejected"):
        pair(chosen, chosen)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (said("assistant", None), "chosen has a message whose content is null"),
        (said("assistant", None, tool_calls=[]), "chosen has a message whose content is null"),
        (
            said("assistant", [{"type": "image_url", "image_url": "x"}]),
            "chosen has a content part of type 'image_url': ",
        ),
        (said("assistant", [{"type": "text", "text": None}]), "chosen has a content part whose text is null"),
        (said("assistant", "a", images=["x.png"]), "chosen has a message with images: alignzoo trains on text only"),
        (said("assistant", "a", function_call={"name": "f"}), "chosen has a message with function_call: write it as"),
        (said("assistant", "a", refusal="No."), "chosen has a message with refusal: write it as content"),
        (said("assistant", "a", tool_calls="f(x)"), "chosen: tool_calls is text and not JSON"),
        (said("assistant", "a", tool_calls=[1]), "chosen: tool_calls holds what is not an object"),
        (said("assistant", "a", thinking=["x"]), "chosen has a message whose thinking is list; it must be text"),
        (
            said("assistant", [{"type": "thinking", "thinking": "x"}]),
            "chosen has a content part of type 'thinking': write",
        ),
        (
            said("assistant", [{"type": "tool_use", "name": "f"}]),
            "chosen has a content part of type 'tool_use': write it",
        ),
        (
            said("assistant", None, tool_calls=[{"function": {"name": "f", "parameters": {"x": 1}}}]),
            "chosen has a call with parameters and without arguments: write arguments",
        ),
        (said("assistant", "", thinking="x"), "chosen is empty"),
        (said("assistant", "a", thinking="\ud83d"), "chosen holds half a surrogate pair"),
    ],
)
def test_messages_that_cannot_be_trained_on(message: Row, reason: str) -> None:
    with pytest.raises(BadRow) as raised:
        pair([message], "Other")
    assert str(raised.value).startswith(reason)


def test_parts_of_text_are_joined() -> None:
    parts = [{"type": "text", "text": "One "}, {"type": "output_text", "text": "and "}, "two."]
    assert pair([said("assistant", parts)], "b")["chosen"] == [said("assistant", "One and two.")]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('[{"role": "assistant", "content": "A"}]', [said("assistant", "A")]),
        (' {"role": "assistant", "content": "A"}', [said("assistant", "A")]),
        ('{"messages": [{"content": "A", "role": "assistant"}], "id": null}', [said("assistant", "A")]),
        ('[{"id": 1, "role": "assistant", "content": "A"}]', [said("assistant", "A")]),
        ('[{"thinking": "T", "role": "assistant", "content": "A"}]', [said("assistant", "A", thinking="T")]),
        ('[{"weight": 1, "role": "assistant", "content": "A"}]', [said("assistant", "A")]),
        ('{"conversations": [{"role": "assistant", "content": "A"}]}', [said("assistant", "A")]),
        (json.dumps('[{"role": "assistant", "content": "A"}]'), [said("assistant", "A")]),
        ('{"role": "Engineer", "name": "Bo"}', None),
        ('{"role": "Engineer", "content": "Builds."}', None),
        ('[{"role": "Engineer", "name": "Bo"}]', None),
        ('[{"id": 1, "from": "Bonn", "to": "Ulm"}] are the trains.', None),
        ('"{" opens an object with "role": "x".', None),
        ('[{"value": 3}]', None),
        ('{"role": "Engin', None),
        ("[1, 2]", None),
    ],
)
def test_messages_as_json_text(text: str, wanted: list[Row] | None) -> None:
    """Read as messages where they are some; other JSON is what the model is to write."""
    assert pair(text, "b")["chosen"] == (wanted or [said("assistant", text)])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[{'role': 'assistant', 'content': 'A'}]", "chosen looks like a list of messages and is not JSON"),
        ('[{"role": "assistant", "content": "A', "chosen looks like a list of messages and is not JSON"),
        ("[{'id': 1, 'role': 'assistant', 'content': 'A'}]", "chosen looks like a list of messages and is not JSON"),
        ('[{"role": "gpt", "content": "A"}]', "chosen has the role 'gpt'; known are"),
        ('{"messages": [{"role": "user", "content": "A"}], "tools": [1]}', "chosen holds tools beside its messages"),
    ],
)
def test_json_text_that_is_refused(text: str, reason: str) -> None:
    with pytest.raises(BadRow, match=f"^{reason}"):
        pair(text, "b")


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("[]", None),
        ("", None),
        (None, None),
        ('[{"name": "f"}]', [{"name": "f"}]),
        (['{"name": "f"}'], [{"name": "f"}]),
        ({"name": "f"}, [{"name": "f"}]),
    ],
)
def test_tools_as_they_come(value: Any, wanted: Any) -> None:
    """A list, one, JSON text of it, or a list of JSON texts, as files of several libraries have them."""
    row = canonical({"prompt": "Q", "completion": "A", "tools": value}, True)
    assert row.get("tools") == wanted


@pytest.mark.parametrize(
    ("beside", "reason"),
    [
        ({"tools": "a hammer"}, "tools is text and not JSON"),
        ({"tools": [3]}, "tools holds what is not an object"),
        ({"chat_template_kwargs": 3}, "chat_template_kwargs is int; it must be a list of objects"),
        (
            {"chat_template_kwargs": {"tokenize": True}},
            "chat_template_kwargs has tokenize, which is not the template's",
        ),
    ],
)
def test_what_the_template_cannot_get(beside: Row, reason: str) -> None:
    with pytest.raises(BadRow, match=f"^{reason}"):
        canonical({"prompt": "Q", "completion": "A", **beside}, True)


def test_tools_beside_plain_text_are_refused() -> None:
    with pytest.raises(BadRow, match=r"tools need a conversation, and this is plain text: set dataset.chat=true"):
        canonical({"prompt": "Q", "completion": "A", "tools": [{"name": "f"}]}, False)


def test_a_second_turn_of_the_assistant_in_a_conversation_is_not_continued() -> None:
    """Only a prompt that stands by itself begins an answer; a call is never continued."""
    turns = [said("user", "a"), said("assistant", "b"), said("assistant", "c")]
    assert canonical({"messages": turns}, False)["prompt"] == turns[:2]
    whole = canonical({"prompt": turns[:2], "chosen": turns, "rejected": [*turns[:2], said("assistant", "d")]}, False)
    assert whole["prompt"] == turns[:2]
    assert canonical({"prompt": turns[:2], "completion": "c"}, False)["prompt"][-1] == {**turns[1], "prefix": True}
    with pytest.raises(BadRow, match="prompt ends with the assistant's tool_calls, which cannot be continued"):
        canonical({"prompt": [said("user", "a"), said("assistant", "", tool_calls=[CALL])], "completion": "c"}, False)


def test_histories_of_two_lengths_differ_where_one_ends() -> None:
    short = [said("user", "a"), said("assistant", "b")]
    with pytest.raises(BadRow, match="the two histories differ at turn 3"):
        canonical({"chosen": short, "rejected": [*short, said("user", "c"), said("assistant", "d")]}, False)
    with pytest.raises(BadRow, match="the two histories differ at turn 1"):
        canonical({"chosen": short, "rejected": [said("user", "z"), said("assistant", "b")]}, False)


def test_fields_that_are_not_read_are_listed() -> None:
    message = said("assistant", "a", id=3, time=None, tool_calls=[CALL], weight=1, thinking="x", name="n")
    assert unread_fields(message) == {"id"}


@pytest.mark.parametrize("field", sorted(REFUSED))
def test_fields_that_decide_are_refused_with_what_to_write(field: str) -> None:
    for value in (0, ["x"]):
        with pytest.raises(BadRow, match=f"^messages has a message with {field}: "):
            tidy([said("assistant", "a", **{field: value})], "messages", {}, set())
    tidy([said("assistant", "a", **{field: None}), said("assistant", "a", **{field: []})], "messages", {}, set())


@pytest.mark.parametrize(
    ("further", "reason"),
    [
        ({"image": "x.png"}, "messages has a content part with image: alignzoo trains on text only"),
        ({"weight": 0}, "messages has a content part with weight: write it for the whole message"),
        ({"loss_weight": 0.0}, "messages has a content part with loss_weight: write it for the whole message"),
        ({"image": None, "weight": 1, "cache_control": {"type": "ephemeral"}}, None),
    ],
)
def test_further_fields_of_text_parts(further: Row, reason: str | None) -> None:
    """Refused where they change what is trained, else named."""
    unread: set[str] = set()
    messages = [said("user", [{"type": "text", "text": "Q", **further}])]
    if reason is None:
        assert tidy(messages, "messages", {}, unread) == messages
        assert unread == {"content.cache_control"}
    else:
        with pytest.raises(BadRow, match=f"^{reason}$"):
            tidy(messages, "messages", {}, unread)


def test_an_empty_turn_of_the_assistant_begins_nothing() -> None:
    prompt = [said("user", "Q"), said("assistant", "")]
    assert canonical({"prompt": prompt, "completion": "A"}, False) == {
        "prompt": prompt[:1],
        "completion": [said("assistant", "A")],
    }


# --- Methods that sample ---------------------------------------------------------------------------------------------


def prompts(*rows: Row) -> Dataset:
    return convert(prepared(*rows), DataFormat.PROMPTS, DataFormat.PROMPTS, batch=4, seed=0)


def test_prompts_keep_each_messages_own_fields() -> None:
    """Arguments of one call are not those of all, with nulls in them."""
    other = {"function": {"name": "sub", "arguments": {"b": [1]}}}
    histories = [
        [said("user", "a"), said("assistant", "", tool_calls=[call]), said("tool", "1", name="add")]
        for call in (CALL, other)
    ]
    made = prompts(*({"prompt": n, "messages": history} for n, history in enumerate(histories)))
    assert [row["prompt"] for row in made] == histories


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"template_inputs": '{"tools": [{"name": "f"}]}'}, "the prompt row-1 has tools: methods that sample do not"),
        ({"messages": [said("assistant", "The", prefix=True)]}, "the prompt row-1 ends with the assistant's turn: "),
        ({"template_inputs": '{"template_kwargs": {"x": 1}}'}, "chat_template_kwargs differ from row to row: "),
    ],
)
def test_prompts_that_trl_would_write_otherwise_are_refused(row: Row, reason: str) -> None:
    with pytest.raises(UserError, match=f"^{reason}"):
        prompts({"prompt": 0}, {"prompt": 1, **row})


def test_arguments_that_all_prompts_have_are_read() -> None:
    rows = [{"prompt": n, "template_inputs": '{"template_kwargs": {"x": 1}}'} for n in range(2)]
    assert read_template_kwargs(prepared(*rows)) == {"x": 1}
    assert read_template_kwargs(prepared({"prompt": 0})) == {}


def test_held_out_pairs_keep_what_their_template_got() -> None:
    rows = [
        {"prompt": 1, "completion_ids": [n], "label": n == 1, "template_inputs": '{"tools": [{"name": "f"}]}'}
        for n in range(2)
    ]
    (made,) = with_pairs(prepared(*rows), DataFormat.UNPAIRED)
    assert made["template_inputs"] == '{"tools": [{"name": "f"}]}'
