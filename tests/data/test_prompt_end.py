"""An answer that is tokenised behind the end of its prompt has the ids that it has behind the whole prompt."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from alignzoo.data.prompt_end import cut_end, find_cuts
from alignzoo.data.tokenise import Tokeniser

ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)

TEXTS = st.lists(st.sampled_from([*"ab .<|>\n\u00e9", "</s>", "<|im_end|>", "user"]), max_size=12).map("".join)


def bytes_(start: Path) -> Any:
    return AutoTokenizer.from_pretrained(start)


def metaspace(*, legacy: bool = False) -> Any:
    """Return a tokenizer like SentencePiece's; a legacy one writes its blank before each stretch of text (Llama)."""
    backend = Tokenizer(BPE(unk_token="<unk>"))
    if legacy:
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    special = ["<unk>", "<s>", "</s>"]
    trainer = BpeTrainer(vocab_size=200, special_tokens=special, initial_alphabet=list("<|>\n"), show_progress=False)
    backend.train_from_iterator(["ab a. b user assistant\n"] * 3, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    made.chat_template = ZEPHYR
    return made


@pytest.fixture(params=["bytes", "metaspace", "legacy"])
def tokenizer(request: pytest.FixtureRequest, start: Path) -> Any:
    return bytes_(start) if request.param == "bytes" else metaspace(legacy=request.param == "legacy")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=TEXTS, before=TEXTS, said=TEXTS)
def test_ids_are_those_behind_the_whole_prompt(tokenizer: Any, asked: str, before: str, said: str) -> None:
    tokeniser = Tokeniser(tokenizer, [])
    prompt = [{"role": role, "content": text} for role, text in (("user", before), ("assistant", "b"), ("user", asked))]
    row = {"prompt": prompt, "chosen": [{"role": "assistant", "content": said}]}
    (pieces,) = tokeniser.render([row])
    (found,) = tokeniser.tokenise([pieces])
    whole = pieces[0].text
    assert pieces[1].before != whole  # something was cut
    (expected,) = tokeniser.tokenise([[pieces[0], pieces[1]._replace(before=whole)]])
    assert found == expected


def test_the_last_cut_counts(tokenizer: Any) -> None:
    cuts = find_cuts(tokenizer)
    eos = tokenizer.eos_token
    assert eos in cuts
    assert cut_end(f"a{eos}b{eos}c", [eos]) == f"{eos}c"
    assert cut_end("none", cuts) == "none"
    assert cut_end("none", []) == "none"


@pytest.mark.parametrize("change", [{"normalized": True}, {"lstrip": True}, {"rstrip": True}, {"single_word": True}])
def test_tokens_that_look_at_what_stands_beside_them_are_no_cuts(start: Path, change: dict[str, bool]) -> None:
    tokenizer = bytes_(start)
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.add_tokens([AddedToken("<turn>", **{"normalized": False, **change})])
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=tokenizer.eos_token)
    fast.chat_template = "<turn>{{ messages[0].content }}"
    assert "<turn>" not in find_cuts(fast)


@pytest.mark.parametrize("further", ["<turn>assistant", "x<turn", "n><", "<<turn>>"])
def test_tokens_that_overlap_another_are_no_cuts(start: Path, further: str) -> None:
    tokenizer = bytes_(start)
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.add_special_tokens(["<turn>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=copy.deepcopy(backend), eos_token=tokenizer.eos_token)
    fast.chat_template = "<turn>{{ messages[0].content }}"
    assert "<turn>" in find_cuts(fast)
    backend.add_special_tokens([further])
    other = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=tokenizer.eos_token)
    other.chat_template = fast.chat_template
    assert "<turn>" not in find_cuts(other)


def test_tokenizers_that_are_not_fast_or_read_special_tokens_as_text_have_none(start: Path) -> None:
    tokenizer = bytes_(start)
    assert find_cuts(tokenizer)
    tokenizer.split_special_tokens = True
    assert find_cuts(tokenizer) == []
    tokenizer = bytes_(start)
    tokenizer.chat_template = None
    assert find_cuts(tokenizer) == []
