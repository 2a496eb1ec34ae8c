"""The first-party rewards: which score an answer gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from alignzoo_plugins.rewards import Conciseness, Format, Length, RewardModel, Verifiable, alignzoo_rewards
from repository import ROOT

from alignzoo.config.plain import to_plain
from alignzoo.system.errors import UserError


def verified(answer: str, solution: Any) -> float:
    return Verifiable()(["the question"], [answer], answer=[solution])[0]


@pytest.mark.parametrize(
    ("answer", "solution"),
    [
        ("18", "18"),
        ("The answer is 18.", "18"),
        ("First 20, then 18", "18"),
        ("Each of the 3 has 6, which makes\n\n#### 18", "She has 16 - 3 - 4 = <<16-3-4=9>>9.\n#### 18"),
        ("72 clips", "#### 72"),
        ("It costs 1,000 dollars", "1000"),
        ("1000", "1,000"),
        (r"The result is \boxed{42}", "42"),
        (r"\boxed{10,000}", "10000"),
        (r"$\boxed{\frac{3}{4}}$", "0.75"),
        (r"$\frac{1}{2}$", "1/2"),
        ("1/2", "0.5"),
        ("0.5", r"$\frac{1}{2}$"),
        ("18.00", "18"),
        ("-5", "-5"),
        ("x = 3", "3"),
        ("2^3", "8"),
        ("42", 42),
        ("True", "True"),
        ("The answer is true.", "True"),
        ("So it is **False**.", "False"),
        (r"\boxed{True}", "True"),
        ("Paris", "Paris"),
        ("The capital is PARIS!", "Paris"),
        ("It lies in New York.", "New York"),
    ],
)
def test_equal_answers(answer: str, solution: Any) -> None:
    assert verified(answer, solution) == 1


@pytest.mark.parametrize(
    ("answer", "solution"),
    [
        ("", "18"),
        ("I do not know.", "18"),
        ("17", "18"),
        ("18 and then 20", "18"),
        ("18\n#### 20", "18"),
        ("5", "-5"),
        ("0.3", "1/3"),
        ("100", "1,000"),
        (r"\boxed{}", "18"),
        ("eighteen", "18"),
        ("", "True"),
        ("False", "True"),
        ("True", "False"),
        ("It is true or it is not", "True"),
        ("Rome", "Paris"),
        ("Paris is not the one, Rome is", "Paris"),
        ("1" * 3000, "18"),
        (r"$\frac{1}{0}$", "18"),
        ("\x00 \ufffd", "18"),
    ],
)
def test_different_answers(answer: str, solution: Any) -> None:
    assert verified(answer, solution) == 0


@pytest.mark.parametrize(("answer", "solution"), [("Banana", "A"), ("This is untrue.", "True"), ("Comparis", "Paris")])
def test_a_word_that_only_ends_alike_is_different(answer: str, solution: str) -> None:
    assert verified(answer, solution) == 0


def test_a_letter_in_brackets_is_the_letter() -> None:
    assert verified("The answer is (B)", "B") == 1


def test_each_answer_is_compared_with_its_own_solution() -> None:
    assert Verifiable()(["q"] * 3, ["1", "2", "3"], answer=["1", "3", "3"]) == [1, 0, 1]


def test_verifiable_reads_the_answer_column() -> None:
    assert Verifiable.columns == {"answer"}


R1 = r"^<think>.+</think>\s*<answer>.+</answer>$"


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("<think>a</think><answer>b</answer>", 1),
        (" <think>one\ntwo</think>\n\n<answer>three\nfour</answer>\n", 1),
        ("<think></think><answer>b</answer>", 0),
        ("First: <think>a</think><answer>b</answer>", 0),
        ("<think>a</think><answer>b</answer> Done.", 0),
        ("<answer>b</answer>", 0),
        ("", 0),
    ],
)
def test_format_is_the_whole_answers(answer: str, score: float, compose_config: Any) -> None:
    pattern = compose_config("reward=format").reward.format.pattern
    assert pattern == R1
    assert Format(pattern)(["q"], [answer]) == [score]


def test_a_format_that_is_no_regular_expression_is_refused() -> None:
    with pytest.raises(UserError, match=r"reward\.format\.pattern='\(' is not a regular expression: "):
        Format("(")


@pytest.mark.parametrize(
    ("words", "score"), [(50, 1), (25, 0.5), (75, 0.5), (0, 0), (100, 0), (300, 0), (49, 0.98), (51, 0.98)]
)
def test_length_falls_on_both_sides(words: int, score: float) -> None:
    (found,) = Length(words=50, slack=50)(["q"], [" word\n" * words])
    assert found == pytest.approx(score)


def test_length_without_slack_is_refused() -> None:
    with pytest.raises(UserError, match=r"reward\.length\.slack=0 must be at least 1 word"):
        Length(words=50, slack=0)


QUESTION = "What is rain?"


def say(words: int, end: str = ".") -> str:
    """Return an answer of so many different words, one of them of the question."""
    return " ".join(["Rain", *(f"word{number}" for number in range(words - 1))]) + end


@pytest.mark.parametrize(("words", "score"), [(9, 0), (10, 1), (20, 0.5), (40, 0.25), (15, 2 / 3)])
def test_conciseness_halves_with_twice_the_words(words: int, score: float) -> None:
    assert Conciseness(words=10, least=10)([QUESTION], [say(words)], ended=[True]) == [pytest.approx(score)]


def test_conciseness_without_words_is_refused() -> None:
    with pytest.raises(UserError, match=r"reward\.conciseness\.words=0 must be at least 1 word"):
        Conciseness(words=0, least=10)


@pytest.mark.parametrize(
    ("answer", "ended"),
    [
        (say(12, ""), True),
        (say(12, ","), True),
        (say(12), False),
        (say(12).replace("Rain", "Snow"), True),
        ("", True),
        ("- " + say(12), True),
        ("I'm sorry, but rain is nothing that this model can say a word about.", True),
        ("Rain falls, rain falls, rain falls, rain falls, rain falls, rain falls, rain falls.", True),
        ("What is rain? What is rain? What is rain? What is rain.", True),
    ],
)
def test_an_incomplete_answer_is_worth_nothing(answer: str, ended: bool) -> None:
    assert Conciseness(words=10, least=10)([QUESTION], [answer], ended=[ended]) == [0]


EMBEDDED = {"concise": "conciseness", "counted": "count"}
ROWS: dict[str, list[dict[str, Any]]] = {
    name: [json.loads(line) for line in Path(ROOT, "alignzoo/data", name, "heldout.jsonl").read_text().splitlines()]
    for name in EMBEDDED
}


def ask(row: dict[str, Any]) -> str:
    return str(row["prompt"][0]["content"])


def score_embedded(name: str, compose_config: Any, answers: list[str], ended: bool = True) -> list[float]:
    """Return an embedded dataset's reward of answers to its held-out prompts."""
    (options,) = to_plain(compose_config(f"dataset={name}").reward).values()
    weight, rows = options.pop("weight"), ROWS[name]
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    reward = next(kind for kind in alignzoo_rewards() if kind.name == EMBEDDED[name])(**options)
    return [
        weight * score for score in reward([ask(row) for row in rows], answers, ended=[ended] * len(answers), **columns)
    ]


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_rule_prefers_each_chosen_answer_of_its_dataset(name: str, compose_config: Any) -> None:
    chosen, rejected = (
        score_embedded(name, compose_config, [row[side][0]["content"] for row in ROWS[name]])
        for side in ("chosen", "rejected")
    )
    assert all(better > worse for better, worse in zip(chosen, rejected, strict=True))


@pytest.mark.parametrize("name", EMBEDDED)
def test_no_collapse_wins_the_rule_of_an_embedded_dataset(name: str, compose_config: Any) -> None:
    """Empty, one word, the prompt once more, a loop, a cut, and one right answer to all prompts."""
    chosen = [row["chosen"][0]["content"] for row in ROWS[name]]
    prompts = [ask(row) for row in ROWS[name]]
    collapsed = {
        "empty": [""] * len(chosen),
        "one word": ["Yes."] * len(chosen),
        "copied prompt": prompts,
        "copied prompts": [f"{prompt} {prompt} {prompt}".replace("?", ".") for prompt in prompts],
        "loop": [f"{answer} {answer} {answer}" for answer in chosen],
        "looping words": [" ".join(answer.split()[:4] * 8) + "." for answer in chosen],
    }
    for what, answers in collapsed.items():
        assert score_embedded(name, compose_config, answers) == [0] * len(chosen), what
    assert score_embedded(name, compose_config, chosen, ended=False) == [0] * len(chosen)
    right = sum(score_embedded(name, compose_config, chosen))
    assert all(sum(score_embedded(name, compose_config, [answer] * len(chosen))) < right / 3 for answer in chosen[:10])


PROMPTS = ["What is rain?", "Name three rivers of Europe, and the seas into which they flow.", "Hi"]
ANSWERS = ["Water that falls from clouds.", "Rhine, Elbe, Danube.", "Hello! How are you today? I am well."]


def saved_scorer(folder: Path, labels: int = 1, **tokenizer_changes: Any) -> Path:
    """Save a sequence-classification model with random weights and the tiny model's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    from alignzoo.models.tiny import make_tiny

    make_tiny(folder / "tiny")
    tokenizer = AutoTokenizer.from_pretrained(folder / "tiny")
    for name, value in tokenizer_changes.items():
        setattr(tokenizer, name, value)
    config = LlamaConfig.from_pretrained(folder / "tiny")
    config.num_labels, config.pad_token_id, config.initializer_range = labels, tokenizer.pad_token_id, 0.3
    torch.manual_seed(0)
    LlamaForSequenceClassification(config).save_pretrained(folder / "scorer")
    tokenizer.save_pretrained(folder / "scorer")
    return folder / "scorer"


def plain_scores(folder: Path, texts: list[str], special: bool) -> list[float]:
    """Score one text at a time: the head's output at the last token."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    scores = []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=special).input_ids
        with torch.no_grad():
            hidden = model.model(ids).last_hidden_state[0, -1]
            scores.append(float(model.score(hidden)))
    return scores


def chat(prompt: str, answer: str) -> str:
    return f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"


@pytest.mark.parametrize("size", [1, 2, 8])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_reward_models_scores_are_a_plain_forwards(tmp_path: Path, size: int, side: str) -> None:
    folder = saved_scorer(tmp_path, padding_side=side)
    found = RewardModel(str(folder), batch_size=size)(PROMPTS, ANSWERS, ended=[True] * 3)
    wanted = plain_scores(folder, [chat(*pair) for pair in zip(PROMPTS, ANSWERS, strict=True)], special=False)
    assert found == pytest.approx(wanted, abs=1e-4)
    assert len({round(score, 2) for score in found}) == 3


def test_a_reward_model_reads_tools_and_a_begun_turn_as_one(tmp_path: Path) -> None:
    folder = saved_scorer(tmp_path)
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "It", "prefix": True}]
    found = RewardModel(str(folder))(["It"], [" is."], whole_prompts=[turns], tools=[[{"name": "f"}]])
    text = '<|im_start|>system\nTools:\n{"name": "f"}<|im_end|>\n' + chat("Q", "It is.")
    assert found == pytest.approx(plain_scores(folder, [text], special=False), abs=1e-4)


def test_a_reward_model_without_chat_template_reads_plain_text(tmp_path: Path) -> None:
    folder = saved_scorer(tmp_path, chat_template=None)
    wanted = plain_scores(folder, [f"{p}\n\n{a}" for p, a in zip(PROMPTS, ANSWERS, strict=True)], special=True)
    assert RewardModel(str(folder))(PROMPTS, ANSWERS) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("size", [1, 3])
def test_a_reward_model_without_padding_token_is_batched_alike(tmp_path: Path, size: int) -> None:
    folder = saved_scorer(tmp_path, pad_token=None)
    wanted = plain_scores(folder, [chat(*pair) for pair in zip(PROMPTS, ANSWERS, strict=True)], special=False)
    assert RewardModel(str(folder), batch_size=size)(PROMPTS, ANSWERS) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("size", [1, 3])
def test_a_reward_model_without_padding_token_reads_up_to_the_last_eos(tmp_path: Path, size: int) -> None:
    """As with Llama 3's template, whose conversations end in EOS, which then also fills up rows."""
    template = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{% endfor %}"
    folder = saved_scorer(tmp_path, pad_token=None, chat_template=template)
    texts = [chat(p, a).replace("<|im_end|>\n", "<|im_end|>") for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    wanted = plain_scores(folder, texts, special=False)
    assert RewardModel(str(folder), batch_size=size)(PROMPTS, ANSWERS) == pytest.approx(wanted, abs=1e-4)


def test_a_classifier_with_several_outputs_is_no_reward_model(tmp_path: Path) -> None:
    folder = saved_scorer(tmp_path, labels=2)
    with pytest.raises(UserError, match=r"scorer has 2 outputs; a reward model has one"):
        RewardModel(str(folder))


def test_a_reward_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"reward\.model\.path=.*nothing: "):
        RewardModel(str(tmp_path / "nothing"))
