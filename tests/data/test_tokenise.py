"""One tokenisation for all: what generation starts from, then the answer, then exactly one stop token."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from omegaconf import OmegaConf
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

from alignzoo import UserError
from alignzoo.data.messages import BadRow
from alignzoo.data.tokenise import Tokeniser
from alignzoo.models.load import load_tokenizer
from alignzoo.models.tiny import CHATML

Row = dict[str, Any]

EOS = "<|im_end|>"

#: What the template writes behind the last answer -> template.
TEMPLATES = {
    "newline after EOS": CHATML,
    "nothing after EOS": (
        "{% for m in messages %}{{ '\\n' if not loop.first }}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] }}"
        "{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '\\n<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "no EOS": (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    ),
    "BOS": "{{ '<|endoftext|>' }}" + CHATML,
}

TURNS = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "And?"},
]


def pair(prompt: Any, chosen: str = "Good.", rejected: str = "Bad, and much longer.") -> Row:
    """Return a canonical pair: of plain text, or of messages where the prompt is."""
    role = "text" if isinstance(prompt, str) else "assistant"
    messages = [{"role": "text", "content": prompt}] if isinstance(prompt, str) else prompt
    answers = {"chosen": chosen, "rejected": rejected}
    return {"prompt": messages, **{name: [{"role": role, "content": text}] for name, text in answers.items()}}


@pytest.fixture
def tokenizer(start: Path) -> Any:
    return AutoTokenizer.from_pretrained(start)


@pytest.fixture
def with_bos(tokenizer: Any) -> PreTrainedTokenizerFast:
    """A tokenizer that writes <s> before each text, as Llama's do, and pads with EOS."""
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.add_special_tokens(["<s>"])
    special = [("<s>", backend.token_to_id("<s>"))]
    backend.post_processor = TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=special)
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token=EOS, pad_token=EOS)
    fast.chat_template = "{{ bos_token }}" + CHATML
    return fast


def metaspace(scheme: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer that writes a blank before texts, as SentencePiece's do (Llama 2, Mistral, Zephyr)."""
    backend = Tokenizer(BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme=scheme)
    trainer = BpeTrainer(
        vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"], initial_alphabet=list("<|>\n"), show_progress=False
    )
    backend.train_from_iterator(["What is salt? A mineral. user assistant"] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>")


ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


def encode(tokenizer: Any, row: Row, stops: tuple[int, ...] = ()) -> dict[str, list[int]]:
    (ids,) = Tokeniser(tokenizer, stops).encode([row])
    return ids


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("prompt", [TURNS[:1], TURNS], ids=["one turn", "three turns"])
def test_conversations(tokenizer: Any, template: str, prompt: list[dict[str, str]]) -> None:
    """The prompt is what generation starts from; the answer is what the template writes, up to one stop token."""
    tokenizer.chat_template = TEMPLATES[template]
    row = pair(prompt)
    ids = encode(tokenizer, row)
    assert ids["prompt_ids"] == tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
    for name, said in {"chosen": "Good.", "rejected": "Bad, and much longer."}.items():
        answer = ids[f"{name}_ids"]
        whole = tokenizer.apply_chat_template([*prompt, *row[name]], tokenize=False)
        assert answer[-1] == tokenizer.eos_token_id
        assert answer.count(tokenizer.eos_token_id) == 1
        assert tokenizer.decode(answer[:-1]).strip() == said
        assert tokenizer.decode(ids["prompt_ids"] + answer[:-1]) == whole[: whole.rindex(said) + len(said)] + "\n" * (
            template == "no EOS"
        )


@pytest.mark.parametrize("content", ["Good.", "Good.\n", " Good. \n\n", f"Good.{EOS}", f"Good.{EOS}\n"])
@pytest.mark.parametrize("prompt", ["Q: ", TURNS[:1]], ids=["text", "conversation"])
def test_exactly_one_stop_token_ends_an_answer(tokenizer: Any, prompt: Any, content: str) -> None:
    answer = encode(tokenizer, pair(prompt, chosen=content))["chosen_ids"]
    assert answer[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(answer).rstrip().count(EOS) == (2 if EOS in content and prompt != "Q: " else 1)


def test_eos_within_a_completion_does_not_end_it(tokenizer: Any) -> None:
    completion = encode(tokenizer, pair("Q: ", chosen=f"Good.{EOS} More."))["chosen_ids"]
    assert tokenizer.decode(completion) == f"Good.{EOS} More.{EOS}"


def test_text(tokenizer: Any) -> None:
    """Plain text has no template: prompt, answer, EOS."""
    ids = encode(tokenizer, pair("Q:", " Good.", " Bad."))
    assert ids["prompt_ids"] == tokenizer("Q:").input_ids
    assert ids["chosen_ids"] == [*tokenizer(" Good.").input_ids, tokenizer.eos_token_id]
    assert ids["rejected_ids"] == [*tokenizer(" Bad.").input_ids, tokenizer.eos_token_id]


def test_a_stop_token_of_the_generation_config_ends_an_answer_too(tokenizer: Any) -> None:
    """A template that ends answers with another token than EOS gets no EOS behind it (Llama 3's <|eot_id|>)."""
    other = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    tokenizer.chat_template = CHATML.replace(EOS, "<|endoftext|>")
    assert encode(tokenizer, pair(TURNS), (other,))["chosen_ids"][-1] == other
    without = encode(tokenizer, pair(TURNS))["chosen_ids"]
    assert without[-1] == tokenizer.eos_token_id


def test_bos_comes_once(with_bos: PreTrainedTokenizerFast) -> None:
    """Before a text prompt as the tokenizer writes it, before a conversation as the template does; never in answers."""
    text, chat = encode(with_bos, pair("Q:", " Good.")), encode(with_bos, pair(TURNS))
    assert text["prompt_ids"] == with_bos("Q:").input_ids
    assert chat["prompt_ids"] == with_bos.apply_chat_template(TURNS, add_generation_prompt=True, return_dict=False)
    for ids in (text, chat):
        assert ids["prompt_ids"][0] == with_bos.bos_token_id
        assert (ids["prompt_ids"] + ids["chosen_ids"] + ids["rejected_ids"]).count(with_bos.bos_token_id) == 1
    assert text["chosen_ids"] == [*with_bos(" Good.", add_special_tokens=False).input_ids, with_bos.eos_token_id]


def test_eos_is_trained_where_it_also_pads(with_bos: PreTrainedTokenizerFast) -> None:
    assert with_bos.pad_token_id == with_bos.eos_token_id
    assert encode(with_bos, pair(TURNS))["chosen_ids"][-1] == with_bos.eos_token_id


@pytest.mark.parametrize("prompt", ["What is salt?", TURNS], ids=["text", "conversation"])
@pytest.mark.parametrize("which", ["tokenizer", "with_bos"])
def test_grpo_generates_from_the_same_ids(start: Path, tmp_path: Path, request: Any, which: str, prompt: Any) -> None:
    """TRL tokenises GRPO's prompts itself; what it samples from is what the other methods train behind."""
    tokenizer = request.getfixturevalue(which)
    trainer = GRPOTrainer(
        model=str(start),
        reward_funcs=lambda **_: [0.0],
        args=GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none"),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([{"prompt": prompt}]),
    )
    ids, *_ = trainer._tokenize_prompts([prompt])
    assert ids == [encode(tokenizer, pair(prompt))["prompt_ids"]]


@pytest.mark.parametrize(
    ("scheme", "prompt"),
    [
        *(("never", "What is salt?"), ("first", "What is salt?"), ("always", "What is salt?")),
        *(("never", TURNS[:1]), ("first", TURNS[:1]), ("always", TURNS[:1])),
    ],
    ids=lambda value: value if value in ("never", "first", "always") else "text" if "?" in value else "conversation",
)
def test_an_answer_has_the_blanks_that_it_has_behind_its_prompt(scheme: str, prompt: Any) -> None:
    """Tokenised alone, it may not begin with a blank that it does not have in its place."""
    tokenizer = metaspace(scheme)
    tokenizer.chat_template = ZEPHYR
    answer = " A mineral." if isinstance(prompt, str) else "A mineral."
    ids = encode(tokenizer, pair(prompt, answer))
    before = prompt
    if not isinstance(prompt, str):
        before = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    whole = tokenizer(before + answer + "</s>", add_special_tokens=False).input_ids
    ours, wanted = (tokenizer.convert_ids_to_tokens(i) for i in (ids["prompt_ids"] + ids["chosen_ids"], whole))
    assert "".join(ours) == "".join(wanted)


def test_no_template_is_refused_for_conversations_and_unneeded_for_text(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    assert encode(tokenizer, pair("Q:"))["chosen_ids"]
    with pytest.raises(UserError, match=r"no chat template\.\nSet model\.chat_template=chatml, or the path of a Jinja"):
        encode(tokenizer, pair(TURNS))


def test_a_template_that_refuses_a_conversation(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ raise_exception('Roles must alternate') }}"
    with pytest.raises(BadRow, match=r"refuses a conversation of user, assistant, user: Roles must alternate"):
        encode(tokenizer, pair(TURNS))


def test_an_answer_that_does_not_extend_its_prompt(tokenizer: Any) -> None:
    """A template that begins generation otherwise than it writes finished answers."""
    tokenizer.chat_template = CHATML.replace("assistant\\n' }}{% endif", "assistant\\nSo:' }}{% endif")
    with pytest.raises(BadRow, match="the chat template writes the prompt differently when an answer follows"):
        encode(tokenizer, pair(TURNS))


def test_batches_keep_rows_apart(tokenizer: Any) -> None:
    """Many rows at once have the ids that each has alone."""
    rows = [pair(TURNS), pair("Q:"), pair(TURNS[:1], "Short.", "Long, long."), {"prompt": TURNS}]
    assert Tokeniser(tokenizer, ()).encode(rows) == [encode(tokenizer, row) for row in rows]
    assert Tokeniser(tokenizer, ()).encode([]) == []


def _template(tokenizer: Any) -> None:
    tokenizer.chat_template = "A chat. " + tokenizer.chat_template


def _word(tokenizer: Any) -> None:
    tokenizer.add_tokens(["unheard-of"])


def _eos(tokenizer: Any) -> None:
    tokenizer.eos_token = "<|im_start|>"


def _bos(tokenizer: Any) -> None:
    tokenizer.bos_token = "<|im_start|>"
    special = [("<|im_start|>", tokenizer.bos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=special)


def _blank(tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


@pytest.mark.parametrize("change", [_template, _word, _eos, _bos, _blank])
def test_identity_changes_with_whatever_changes_ids(start: Path, change: Any) -> None:
    """Rows in the cache are found by it: where it stays, old ids are reused."""
    before, after = (AutoTokenizer.from_pretrained(start) for _ in range(2))
    assert Tokeniser(before, ()).identity == Tokeniser(after, ()).identity
    change(after)
    rows = [pair("Q unheard-of"), pair(TURNS)]
    assert [encode(before, row) for row in rows] != [encode(after, row) for row in rows]
    assert Tokeniser(before, ()).identity != Tokeniser(after, ()).identity


def test_identity_changes_with_the_stops(tokenizer: Any) -> None:
    assert Tokeniser(tokenizer, ()).identity != Tokeniser(tokenizer, (0,)).identity


def test_loading_gives_a_pad_token_and_the_chosen_template(with_bos: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """``model.chat_template``: chatml, a Jinja file, or the tokenizer's own."""
    with_bos.pad_token = None
    with_bos.save_pretrained(tmp_path)
    file = tmp_path / "mine.jinja"
    file.write_text("{{ messages }}")
    for asked, template in {None: with_bos.chat_template, "chatml": CHATML, str(file): "{{ messages }}"}.items():
        cfg = OmegaConf.create({"name": "m", "trust_remote_code": False, "chat_template": asked})
        loaded = load_tokenizer(tmp_path, cfg)
        assert loaded.chat_template == template
        assert loaded.pad_token == EOS
        assert loaded.padding_side == "left"
