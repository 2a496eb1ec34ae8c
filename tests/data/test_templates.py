"""Chat templates as people have them: what generation starts from, where answers end, tools, thoughts, and refusals."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from chat_models import FAMILIES, FOLDER, decode, make_tokeniser
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from alignzoo.data.canonical import canonical
from alignzoo.data.messages import BadRow
from alignzoo.data.tokenise import Tokeniser

Row = dict[str, Any]

HI = {"role": "user", "content": "Hi"}

HELLO = {"role": "assistant", "content": "Hello."}

TOOL = {"type": "function", "function": {"name": "weather", "description": "Of a town", "strict": None}}

CALL = {"id": "call00001", "type": "function", "function": {"name": "weather", "arguments": {"town": "Oslo"}}}

ASKED = [
    {"role": "user", "content": "Cold in Oslo?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": '{"degrees": -3}', "tool_call_id": "call00001"},
]

FIVE = ("chatml", "chatml_marked", "qwen3", "llama3", "mistral")


def test_every_template_is_in_the_table() -> None:
    assert {file.stem for file in FOLDER.iterdir()} | {"chatml"} == set(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_prompt_stop_token_and_bos(name: str) -> None:
    """Generation starts where the template says; one stop token ends the answer; BOS is written once."""
    tokeniser, family = make_tokeniser(name), FAMILIES[name]
    assert decode(tokeniser, {"prompt": [HI]}) == {"prompt": family.asked}
    (ids,) = tokeniser.encode([{"prompt": [HI], "completion": [HELLO]}])
    whole = ids["prompt_ids"] + ids["completion_ids"]
    stop = tokeniser.tokenizer.convert_tokens_to_ids(family.stop)
    assert ids["completion_ids"][-1] == stop
    assert ids["completion_ids"].count(stop) == 1
    assert tokeniser.tokenizer.eos_token_id not in ids["completion_ids"][:-1]
    if family.bos:
        assert whole[0] == tokeniser.tokenizer.bos_token_id
        assert whole.count(tokeniser.tokenizer.bos_token_id) == 1
    written = tokeniser.tokenizer.apply_chat_template([HI, HELLO], tokenize=False)
    assert tokeniser.tokenizer.decode(whole) == written.rstrip("\n")


@pytest.mark.parametrize("name", [*FIVE, "deepseek_r1"])
@pytest.mark.parametrize("answer", ["said", "called"])
def test_rows_are_what_the_template_writes_of_tools_calls_and_results(name: str, answer: str) -> None:
    """The calls of history and answer, what the tool returned, and its schema: the template gets all of it whole."""
    tokeniser = make_tokeniser(name)
    tools = [TOOL] if name != "deepseek_r1" else []
    said = {"role": "assistant", "content": "Yes."} if answer == "said" else ASKED[1]
    asked = ASKED if answer == "said" else ASKED[:1]
    row = canonical({"messages": [*asked, said], "tools": tools}, False)
    texts = decode(tokeniser, row)
    wanted = tokeniser.tokenizer.apply_chat_template([*asked, said], tools=tools or None, tokenize=False)
    assert texts["prompt"] + texts["completion"] == wanted.rstrip("\n")
    assert "weather" in texts["prompt" if answer == "said" or tools else "completion"]
    assert "None" not in wanted


@pytest.mark.parametrize("name", ["gemma", "qwen3_thinking", "deepseek_r1"])
def test_a_template_that_leaves_tools_out_is_named(name: str) -> None:
    with pytest.raises(BadRow, match="the model's chat template leaves out the tools"):
        decode(make_tokeniser(name), {"prompt": [HI], "completion": [HELLO], "tools": [TOOL]})


@pytest.mark.parametrize("name", ["chatml", "chatml_marked", "qwen3", "qwen3_thinking"])
@pytest.mark.parametrize("field", ["reasoning_content", "thinking", "reasoning"])
def test_thoughts_are_trained(name: str, field: str) -> None:
    """By any of their names; the row is what the template writes."""
    tokeniser, said = make_tokeniser(name), {**HELLO, field: "A greeting."}
    texts = decode(tokeniser, canonical({"prompt": [HI], "completion": [said]}, False))
    wanted = tokeniser.tokenizer.apply_chat_template([HI, said], tokenize=False)
    assert "A greeting." in texts["completion"]
    assert texts["prompt"] + texts["completion"] == wanted.rstrip("\n")


@pytest.mark.parametrize("name", ["llama3", "gemma", "mistral", "deepseek_r1"])
def test_an_answer_that_would_lose_its_thoughts_is_refused(name: str) -> None:
    row = canonical({"prompt": [HI], "completion": [{**HELLO, "thinking": "A greeting."}]}, False)
    with pytest.raises(BadRow, match="completion loses its thoughts: the model's chat template does not write them"):
        decode(make_tokeniser(name), row)


def test_thoughts_within_the_content_are_lost_where_the_template_cuts_them() -> None:
    said = {"role": "assistant", "content": "<think>\nA greeting.\n</think>\n\nHello."}
    row = {"prompt": [HI], "completion": [said]}
    with pytest.raises(BadRow, match="loses its thoughts"):
        decode(make_tokeniser("deepseek_r1"), row)
    assert "A greeting." in decode(make_tokeniser("llama3"), row)["completion"]


@pytest.mark.parametrize("name", ["gemma", "llama3"])
def test_thoughts_of_a_history_that_no_template_writes(name: str) -> None:
    row = {"prompt": [HI, {**HELLO, "thinking": "A greeting."}, HI], "completion": [HELLO]}
    with pytest.raises(BadRow, match="prompt loses its thoughts"):
        decode(make_tokeniser(name), row)


def test_thoughts_of_earlier_questions_are_left_out_as_in_generation() -> None:
    """Qwen3 reads a conversation without them, so it is trained on it without them."""
    tokeniser = make_tokeniser("qwen3")
    prompt = [HI, {**HELLO, "reasoning_content": "First."}, HI]
    texts = decode(tokeniser, {"prompt": prompt, "completion": [{**HELLO, "reasoning_content": "Second."}]})
    assert "First." not in texts["prompt"]
    assert texts["completion"] == "<think>\nSecond.\n</think>\n\nHello.<|im_end|>"


@pytest.mark.parametrize(
    ("thinks", "prompt", "answer"), [(None, "", "<think>\n\n</think>\n\n"), (False, "<think>\n\n</think>\n\n", "")]
)
def test_thinking_on_and_off(thinks: bool | None, prompt: str, answer: str) -> None:
    """The empty thought is part of the prompt where the row says that none is wanted."""
    kwargs = {"template_kwargs": {"enable_thinking": thinks}} if thinks is not None else {}
    texts = decode(make_tokeniser("qwen3"), {"prompt": [HI], "completion": [HELLO], **kwargs})
    assert texts == {"prompt": FAMILIES["qwen3"].asked + prompt, "completion": answer + "Hello.<|im_end|>"}


def test_an_opened_thought_that_finished_turns_lack_is_no_part_of_the_prompt() -> None:
    """DeepSeek-R1: where the template finishes a turn without the thought that it opened, the prompt ends before it."""
    tokeniser = make_tokeniser("deepseek_r1")
    texts = decode(
        tokeniser, {"prompt": [HI], "chosen": [HELLO], "rejected": [{"role": "assistant", "content": "No."}]}
    )
    family = FAMILIES["deepseek_r1"]
    wanted = {"chosen": f"Hello.{family.stop}", "rejected": f"No.{family.stop}"}
    assert texts == {"prompt": family.asked.removesuffix("<think>\n"), **wanted}


@pytest.mark.parametrize(
    ("name", "prompt", "reason"),
    [
        ("gemma", [{"role": "system", "content": "Be brief."}, HI], "of system, user: System role not supported"),
        ("mistral", [HI, HI], "of user, user: After the optional system message, roles must alternate"),
        ("llama3", [HI, {**ASKED[1], "tool_calls": [CALL, CALL]}, HI], "of user, assistant, user: one call a turn"),
    ],
)
def test_what_a_template_refuses(name: str, prompt: list[Row], reason: str) -> None:
    with pytest.raises(BadRow) as raised:
        decode(make_tokeniser(name), {"prompt": prompt, "completion": [HELLO]})
    assert str(raised.value) == f"the model's chat template refuses a conversation {reason}"


def test_a_turn_that_the_template_leaves_out_is_named() -> None:
    """Qwen's templates write no `developer`."""
    row = {"prompt": [{"role": "developer", "content": "Be brief."}, HI], "completion": [HELLO]}
    with pytest.raises(BadRow, match="the model's chat template leaves out the turn of the developer"):
        decode(make_tokeniser("qwen3"), row)


def test_calls_that_the_template_leaves_out_are_named() -> None:
    row = {"prompt": [HI], "completion": [ASKED[1]]}
    with pytest.raises(BadRow, match="completion: the model's chat template leaves out tool_calls"):
        decode(make_tokeniser("gemma"), row)


def tokeniser_of(assistant: str) -> Tokeniser:
    """Return a tokeniser of ChatML with the tools, whose template writes the assistant's turns so."""
    tokenizer = copy.deepcopy(make_tokeniser("chatml").tokenizer)
    tokenizer.chat_template = (
        "{% for tool in tools or [] %}{{ tool | tojson }}\n{% endfor %}{% for m in messages %}"
        "<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}" + assistant + "{% else %}{{ m.content }}{% endif %}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return Tokeniser(tokenizer, [tokenizer.convert_tokens_to_ids("<|im_end|>")])


def called(*arguments: Any, content: str = "") -> Row:
    calls = [{"type": "function", "function": {"name": "weather", "arguments": one}} for one in arguments]
    return {"role": "assistant", "content": content, "tool_calls": calls}


EACH = "{{ m.content }}{% for c in m.tool_calls or [] %}"

WRITES_NO_CALLS = "{{ m.content }}"
WRITES_THE_FIRST = "{{ m.content }}{% if m.tool_calls %}{{ m.tool_calls[0].function | tojson }}{% endif %}"
WRITES_NO_ARGUMENTS = EACH + "<call>{{ c.function.name }}</call>{% endfor %}"
WRITES_TEXTS = EACH + (
    "{{ c.function.name }}{% for k, v in c.function.arguments.items() if v is string %}{{ k }}={{ v }} {% endfor %}"
    "{% endfor %}"
)
WRITES_CALLS_OR_WORDS = (
    "{% if m.tool_calls %}{% for c in m.tool_calls %}{{ c.function | tojson }}{% endfor %}"
    "{% else %}{{ m.content }}{% endif %}"
)
TOWN = {"town": "Oslo"}


@pytest.mark.parametrize(
    ("template", "answer", "lost"),
    [
        (WRITES_NO_CALLS, called(TOWN, content="I ask weather about Oslo."), "tool_calls"),
        (WRITES_NO_CALLS, called({}), "tool_calls"),
        (WRITES_THE_FIRST, called(TOWN, {"town": "Bonn"}), "tool_calls"),
        (WRITES_THE_FIRST, called(TOWN, TOWN), "tool_calls"),
        (WRITES_NO_ARGUMENTS, called(TOWN, content="Oslo?"), "arguments of tool_calls"),
        (WRITES_NO_ARGUMENTS, called('{"town": "Oslo"}'), "arguments of tool_calls"),
        (WRITES_TEXTS, called({"town": "Oslo", "days": 3}), "arguments of tool_calls"),
        (WRITES_TEXTS, called({"town": "Oslo", "days": 0.5}), "arguments of tool_calls"),
        (WRITES_CALLS_OR_WORDS, called(TOWN, content="I look."), "the words beside tool_calls"),
        (WRITES_THE_FIRST, called({"town": "Zürich", "days": [3, {"at": None}], "now": True}, content="I look."), None),
        (WRITES_NO_ARGUMENTS, called({}, {}), None),
        (WRITES_TEXTS, called({"town": "Zürich "}), None),
        (WRITES_CALLS_OR_WORDS, called(TOWN), None),
    ],
)
@pytest.mark.parametrize("place", ["answer", "history"])
def test_what_a_template_leaves_out_of_calls(template: str, answer: Row, lost: str | None, place: str) -> None:
    """Though the tool is among the tools, and what was called for among the words."""
    history = [HI, answer, {"role": "tool", "content": "3"}]
    asked, said = ([HI], answer) if place == "answer" else (history, HELLO)
    row = {"prompt": asked, "completion": [said], "tools": [TOOL]}
    if lost is None or (place == "history" and "words" in lost):
        assert "weather" in decode(tokeniser_of(template), row)["completion" if place == "answer" else "prompt"]
    else:
        name = "completion" if place == "answer" else "prompt"
        with pytest.raises(BadRow, match=f"^{name}: the model's chat template leaves out {lost}$"):
            decode(tokeniser_of(template), row)


@pytest.mark.parametrize("name", ["llama3", "mistral"])
@pytest.mark.parametrize("town", ["Oslo", "Zürich"])
def test_quoted_arguments_are_refused_in_every_alphabet(name: str, town: str) -> None:
    answer = called(json.dumps({"town": town}, ensure_ascii=False))
    with pytest.raises(BadRow, match=r"^completion: the chat template quotes a call's arguments"):
        decode(make_tokeniser(name), {"prompt": [HI], "completion": [answer]})


def test_rows_without_calls_are_rendered_no_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call of the template for the prompt and one for each answer."""
    tokeniser = make_tokeniser("chatml")
    rendered: list[int] = []
    whole = tokeniser.tokenizer.apply_chat_template

    def count(messages: list[Row], **how: Any) -> Any:
        rendered.append(len(messages))
        return whole(messages, **how)

    monkeypatch.setattr(tokeniser.tokenizer, "apply_chat_template", count)
    decode(tokeniser, {"prompt": [HI], "chosen": [HELLO], "rejected": [{**HELLO, "content": "No."}], "tools": [TOOL]})
    assert rendered == [1, 2, 2]


@pytest.mark.parametrize(
    ("name", "written"),
    [("qwen3", '"arguments": {"town":"Oslo"}}'), ("chatml", '"arguments": {"town":"Oslo"}}'), ("llama3", None)],
)
def test_arguments_as_json_text(name: str, written: str | None) -> None:
    """OpenAI's way: written as they stand, and refused where the template would quote them."""
    call = {"type": "function", "function": {"name": "weather", "arguments": '{"town":"Oslo"}'}}
    row = {"prompt": [HI], "completion": [{"role": "assistant", "content": "", "tool_calls": [call]}]}
    if written is None:
        with pytest.raises(BadRow, match="the chat template quotes a call's arguments"):
            decode(make_tokeniser(name), row)
    else:
        assert written in decode(make_tokeniser(name), row)["completion"]


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ("qwen3_thinking", "deepseek_r1")])
def test_a_begun_turn_is_continued(name: str) -> None:
    """Prompt and answer are one turn, and the prompt is what ``continue_final_message`` gives."""
    tokeniser = make_tokeniser(name)
    begun, rest = {"role": "assistant", "content": "The town is"}, {"role": "assistant", "content": " Oslo."}
    texts = decode(tokeniser, canonical({"prompt": [HI, begun], "chosen": [rest], "rejected": [HELLO]}, False))
    start = tokeniser.tokenizer.apply_chat_template([HI, begun], continue_final_message=True, tokenize=False)
    whole = tokeniser.tokenizer.apply_chat_template([HI, {**begun, "content": "The town is Oslo."}], tokenize=False)
    assert texts["prompt"] == start
    assert texts["prompt"].endswith("The town is")
    assert texts["chosen"] == " Oslo." + FAMILIES[name].stop
    assert texts["prompt"] + texts["chosen"] == whole.rstrip("\n")


CONVERSATIONS = {
    "one answer": [HI, HELLO],
    "two answers": [HI, HELLO, HI, {"role": "assistant", "content": "Again."}],
    "a thought": [HI, {**HELLO, "reasoning_content": "A greeting."}],
    "a call": ASKED[:2],
    "after a tool": [*ASKED, {"role": "assistant", "content": "Yes."}],
}


@pytest.mark.parametrize("turns", CONVERSATIONS)
def test_the_trained_tokens_are_those_that_the_template_marks(start: Path, tmp_path: Path, turns: str) -> None:
    """TRL's ``assistant_only_loss`` computes its mask from the marks; of a conversation, we train on the last turn."""
    tokeniser, messages = make_tokeniser("chatml_marked"), CONVERSATIONS[turns]
    row = {"messages": messages, "tools": json.dumps([TOOL])}
    trainer = SFTTrainer(
        model=str(start),
        args=SFTConfig(str(tmp_path), assistant_only_loss=True, use_cpu=True, bf16=False, report_to="none"),
        processing_class=tokeniser.tokenizer,
        train_dataset=Dataset.from_list([row]),
    )
    theirs = trainer.train_dataset[0]
    (ids,) = tokeniser.encode([canonical({**row, "tools": [TOOL]}, False)])
    ours = [-100] * len(ids["prompt_ids"]) + ids["completion_ids"]
    assert ids["prompt_ids"] + ids["completion_ids"] == list(theirs["input_ids"])[: len(ours)]
    first = ours.count(-100)
    assert list(theirs["labels"])[first:] == [*ours[first:], -100]  # the newline behind the last turn
    assert (set(theirs["labels"][:first]) == {-100}) == (sum(m["role"] == "assistant" for m in messages) == 1)


def test_tools_in_forms_that_are_not_openais_reach_the_template() -> None:
    tools = [{"name": "add"}, {"function": True, "name": "sub"}]
    prompt = decode(make_tokeniser("chatml"), {"prompt": [HI], "completion": [HELLO], "tools": tools})["prompt"]
    assert prompt.startswith(
        '<|im_start|>system\nTools:\n{"name": "add"}\n{"function": true, "name": "sub"}<|im_end|>\n'
    )
