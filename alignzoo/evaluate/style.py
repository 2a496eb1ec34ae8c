"""Counts words, 3-grams, refusals, hedges and Markdown in a text, and defines the axes of `compare`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from alignzoo.data.text_features import refuses

#: Words that keep an answer from being wrong, and from being useful.
HEDGES = re.compile(
    r"\b(?:it depends|depends on|may|might|could be|can be|perhaps|maybe|possibly|probably|likely|generally|usually"
    r"|typically|often|sometimes|tends? to|in (?:general|most cases|some cases)|it is (?:possible|important to note)"
    r"|it'?s (?:possible|important to note)|i (?:think|believe|guess)|seems?|appears? to|arguably|relatively"
    r"|somewhat)\b",
    re.IGNORECASE,
)
#: Any sign of Markdown, also an unfinished one: bullets, numbered items, headings, bold, code.
_MARKDOWN = re.compile(r"^\s*(?:[-*+•]|\d+[.)]|#{1,6})\s|\*\*\S|`", re.MULTILINE)
_LIST = re.compile(r"^[ \t]*(?:[-*+•]|\d+[.)])[ \t]+\S", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}[ \t]+\S", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^\s*][^*\n]*\*\*|__[^\s_][^_\n]*__")
_CODE = re.compile(r"^[ \t]*```|`[^`\n]+`", re.MULTILINE)
_SENTENCE_END = re.compile(r"[.!?\u2026\u3002\uff01\uff1f][\"'\u201d\u2019\u00bb)\]*_]*$")


def count_words(text: str) -> int:
    """Count the words between blanks."""
    return len(text.split())


def count_trigrams(text: str) -> tuple[int, int]:
    """Count the distinct word 3-grams and all of them; words are what stands between blanks, their case kept."""
    found = text.split()
    every = list(zip(found, found[1:], found[2:], strict=False))
    return len(set(every)), len(every)


def ends_in_sentence(text: str) -> float:
    """Return 1 where the text ends in a sentence's punctuation, closing quotes and brackets aside."""
    return float(_SENTENCE_END.search(text.rstrip()) is not None)


def is_refusal(text: str) -> float:
    """Return 1 where the text begins as a refusal does ("I'm sorry", "As an AI")."""
    return float(refuses(text))


def count_hedges(text: str) -> float:
    """Count the hedges ("it depends", "may", "might", "generally")."""
    return len(HEDGES.findall(text))


def has_markdown(text: str) -> bool:
    """Tell whether anything in the text looks like Markdown."""
    return _MARKDOWN.search(text) is not None


def has_list(text: str) -> float:
    """Return 1 where a line is an item of a list, with a bullet or a number."""
    return float(_LIST.search(text) is not None)


def has_heading(text: str) -> float:
    """Return 1 where a line is a Markdown heading."""
    return float(_HEADING.search(text) is not None)


def has_bold(text: str) -> float:
    """Return 1 where something is bold in Markdown."""
    return float(_BOLD.search(text) is not None)


def has_code(text: str) -> float:
    """Return 1 where there is code in backquotes, in a line or as a block."""
    return float(_CODE.search(text) is not None)


def count_repeated_trigrams(text: str) -> float:
    """Count the word 3-grams that stood in the text before."""
    distinct, every = count_trigrams(text)
    return every - distinct


def count_hundreds_of_words(text: str) -> float:
    """Count the words, in hundreds."""
    return count_words(text) / 100


@dataclass(frozen=True)
class Axis:
    """One axis: the sum of ``count`` over completions, divided by that of ``over`` or by the number of completions."""

    group: str
    """What a reader looks for: conciseness, ending, refusal style, hedging, formatting, repetition."""

    label: str
    form: str
    count: Callable[[Any], float]
    over: Callable[[str], float] | None = None

    of: str = "text"
    """What of a completion ``count`` is given: its text, or whether it ``ended``."""

    @property
    def is_share(self) -> bool:
        """Whether each completion counts 1 or 0, so that the interval is Wilson's."""
        return self.over is None and self.form.endswith("%}")


AXES = {
    "words": Axis("conciseness", "words per completion", "{:.0f}", count_words),
    "ended": Axis("ending", "end with EOS", "{:.0%}", float, of="ended"),
    "finishes": Axis("ending", "end in a whole sentence", "{:.0%}", ends_in_sentence),
    "refusals": Axis("refusal style", "begin as a refusal", "{:.0%}", is_refusal),
    "hedges": Axis("hedging", "hedges per 100 words", "{:.1f}", count_hedges, count_hundreds_of_words),
    "lists": Axis("formatting", "with a list", "{:.0%}", has_list),
    "headings": Axis("formatting", "with a heading", "{:.0%}", has_heading),
    "bold": Axis("formatting", "with bold", "{:.0%}", has_bold),
    "code": Axis("formatting", "with code", "{:.0%}", has_code),
    "repetition": Axis(
        "repetition", "repeated word 3-grams", "{:.0%}", count_repeated_trigrams, lambda text: count_trigrams(text)[1]
    ),
}
