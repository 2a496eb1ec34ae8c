"""First-party rewards: verifiable answers, format, length, conciseness, asked number of parts, and any reward model.

Each is a class that a config option in ``conf/reward/`` selects; several are added up with their weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from alignzoo import Reward, UserError, hookimpl
from alignzoo.data.asked_form import count_parts
from alignzoo.data.complete_answer import find_words, is_complete
from alignzoo.data.messages import join_turns


class Verifiable(Reward):
    """1 where the final answer equals the dataset's `answer`, as math-verify compares them (Lambert et al., 2024)."""

    name = "verifiable"
    columns = frozenset({"answer"})

    def __call__(self, prompts: list[str], completions: list[str], **columns: list[Any]) -> list[float]:
        """Compare final answers: numbers, fractions, LaTeX; text (True, Paris) where it is not mathematics."""
        return [
            float(self._same(completion, str(s))) for completion, s in zip(completions, columns["answer"], strict=True)
        ]

    def _same(self, completion: str, solution: str) -> bool:
        from math_verify import parse, verify

        solution = solution.rsplit("####", 1)[-1].strip()
        wanted = parse(solution if "$" in solution or "\\boxed" in solution else f"${solution}$")
        found = parse(completion.rsplit("####", 1)[-1])
        if re.fullmatch(r"[A-Za-z ]+", solution):  # words: the answer has to end in them
            return re.search(rf"\b{re.escape(solution)}[\s.!*$)}}]*$", completion, re.IGNORECASE) is not None
        return bool(found) and bool(verify(wanted, found))


class Format(Reward):
    """1 where the whole completion matches a regular expression (DeepSeek-R1's format reward by default)."""

    name = "format"

    def __init__(self, pattern: str) -> None:
        try:
            self.pattern = re.compile(pattern, re.DOTALL)
        except re.error as error:
            raise UserError(f"reward.format.pattern={pattern!r} is not a regular expression: {error}.") from None

    def __call__(self, prompts: list[str], completions: list[str], **columns: list[Any]) -> list[float]:
        """Search the stripped completion."""
        return [float(bool(self.pattern.search(completion.strip()))) for completion in completions]


class Length(Reward):
    """1 at the wanted number of words, falling linearly to 0."""

    name = "length"

    def __init__(self, words: int, slack: int) -> None:
        if slack < 1:
            raise UserError(f"reward.length.slack={slack} must be at least 1 word.")
        self.words, self.slack = words, slack

    def __call__(self, prompts: list[str], completions: list[str], **columns: list[Any]) -> list[float]:
        """Count words between blanks."""
        return [max(0.0, 1 - abs(len(completion.split()) - self.words) / self.slack) for completion in completions]


class Conciseness(Reward):
    """1 for a complete answer of so many words, half for twice as many; 0 for an incomplete one.

    What is complete, :func:`alignzoo.data.complete_answer.is_complete` says: the rule of the dataset `concise`.
    """

    name = "conciseness"

    def __init__(self, words: int, least: int) -> None:
        if words < 1:
            raise UserError(f"reward.conciseness.words={words} must be at least 1 word.")
        self.words, self.least = words, least

    def __call__(self, prompts: list[str], completions: list[str], **columns: list[Any]) -> list[float]:
        """Count the words of what is complete."""
        rows = zip(prompts, completions, columns["ended"], strict=True)
        return [self._score(prompt, completion.strip(), ended) for prompt, completion, ended in rows]

    def _score(self, prompt: str, completion: str, ended: bool) -> float:
        if not is_complete(prompt, completion, ended, self.least):
            return 0.0
        return min(1.0, self.words / len(find_words(completion)))


class Count(Reward):
    """1 for an answer of the asked number of sentences or points, `near` for one more or fewer; 0 for any other.

    How they are counted, :func:`alignzoo.data.asked_form.count_parts` says: the rule of the dataset `counted`.
    """

    name = "count"
    columns = frozenset({"form", "count"})

    def __init__(self, near: float) -> None:
        self.near = near

    def __call__(self, prompts: list[str], completions: list[str], **columns: list[Any]) -> list[float]:
        """Count the parts of each answer in the asked form."""
        rows = zip(prompts, completions, columns["ended"], columns["form"], strict=True)
        found = [count_parts(prompt, completion.strip(), ended, form) for prompt, completion, ended, form in rows]
        return [self._score(parts, int(asked)) for parts, asked in zip(found, columns["count"], strict=True)]

    def _score(self, parts: int, asked: int) -> float:
        return 1.0 if parts == asked else self.near * (parts > 0 and abs(parts - asked) == 1)


class RewardModel(Reward):
    """The score of a sequence-classification model with one output (hub id or folder)."""

    name = "model"

    def __init__(
        self, path: str, revision: str | None = None, trust_remote_code: bool = False, batch_size: int = 8
    ) -> None:
        from alignzoo.models.pretrained import RemoteCode
        from alignzoo.models.reward_model import EOS_KEY, load_classifier

        self.batch_size = batch_size
        code = RemoteCode(trust_remote_code, "reward.model.trust_remote_code=true")
        self.scorer, self.tokenizer = load_classifier(path, revision, code)
        self.stops: tuple[str, ...] = tuple(getattr(self.scorer.config, EOS_KEY, ()))

    def __call__(self, prompts: list[str], completions: list[str], **columns: list[Any]) -> list[float]:
        """Score prompt and completion as one conversation, or as plain text where the model has no chat template.

        A model that alignzoo trained reads what it was trained on: a plain prompt stays one, and the text ends in EOS.
        """
        chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
        tools = columns.get("tools", [None] * len(prompts))
        rows = zip(columns.get("whole_prompts", chats), prompts, completions, tools, strict=True)
        texts = [self._text(*row) for row in rows]
        batches = (texts[i : i + self.batch_size] for i in range(0, len(texts), self.batch_size))
        return [score for batch in batches for score in self._scores(batch)]

    def _text(self, whole: Any, prompt: str, completion: str, tools: Any) -> tuple[str, bool]:
        """Return what is read, and whether the tokenizer adds its special tokens: a template writes its own."""
        plain = isinstance(whole, str)
        if not self.tokenizer.chat_template or (plain and self.stops):
            return (self._ended(prompt + completion) if self.stops else f"{prompt}\n\n{completion}"), True
        turns = [{"role": "user", "content": prompt}] if plain else list(whole)
        messages = join_turns(turns, [{"role": "assistant", "content": completion}])
        return self._ended(str(self.tokenizer.apply_chat_template(messages, tools=tools, tokenize=False))), False

    def _ended(self, text: str) -> str:
        """Return the text as trained on: up to its EOS, with EOS appended where there is none."""
        if not self.stops:
            return text
        return text.rstrip() if text.rstrip().endswith(self.stops) else text + self.tokenizer.eos_token

    def _scores(self, rows: list[tuple[str, bool]]) -> list[float]:
        import torch

        texts, special = [text for text, _ in rows], rows[0][1]
        batch = self.tokenizer(texts, return_tensors="pt", padding=True, truncation=True, add_special_tokens=special)
        with torch.inference_mode():
            logits = self.scorer(**batch.to(self.scorer.device)).logits
        return [float(score) for score in logits[:, 0]]


@hookimpl
def alignzoo_rewards() -> Iterable[type[Reward]]:
    """Return the first-party rewards."""
    return [Verifiable, Format, Length, Conciseness, Count, RewardModel]
