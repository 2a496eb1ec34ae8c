"""Along which axes answers change, and how each is counted: small functions from a text to a number."""

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
_LIST = re.compile(r"^[ \t]*(?:[-*+•]|\d+[.)])[ \t]+\S", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}[ \t]+\S", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^\s*][^*\n]*\*\*|__[^\s_][^_\n]*__")
_CODE = re.compile(r"^[ \t]*```|`[^`\n]+`", re.MULTILINE)
_SENTENCE_END = re.compile(r"[.!?\u2026\u3002\uff01\uff1f][\"'\u201d\u2019\u00bb)\]*_]*$")


def words(text: str) -> float:
    """Count the words between blanks."""
    return len(text.split())


def finishes(text: str) -> float:
    """Return 1 where the text ends in a sentence's punctuation, closing quotes and brackets aside."""
    return float(_SENTENCE_END.search(text.rstrip()) is not None)


def refusal(text: str) -> float:
    """Return 1 where the text begins as a refusal does ("I'm sorry", "As an AI")."""
    return float(refuses(text))


def hedges(text: str) -> float:
    """Count the hedges ("it depends", "may", "might", "generally")."""
    return len(HEDGES.findall(text))


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


def repeated(text: str) -> float:
    """Count the word triples, in lower case, that stood in the text before."""
    found = text.casefold().split()
    return triples(text) - len({tuple(found[i : i + 3]) for i in range(len(found) - 2)})


def triples(text: str) -> float:
    """Count the word triples."""
    return max(0, len(text.split()) - 2)


def hundreds(text: str) -> float:
    """Count the words, in hundreds."""
    return words(text) / 100


@dataclass(frozen=True)
class Axis:
    """One axis: the sum of ``told`` over answers, divided by that of ``over`` or by the number of answers."""

    group: str
    """What a reader looks for: length, ending, refusal style, hedging, formatting, repetition."""

    label: str
    form: str
    told: Callable[[Any], float]
    over: Callable[[str], float] | None = None

    of: str = "text"
    """What of an answer ``told`` is given: its text, or whether it ``ended``."""

    @property
    def is_share(self) -> bool:
        """Whether each answer counts 1 or 0, so that the interval is Wilson's."""
        return self.over is None and self.form.endswith("%}")


AXES = {
    "words": Axis("length", "words an answer", "{:.0f}", words),
    "ended": Axis("ending", "end by themselves", "{:.0%}", float, of="ended"),
    "finishes": Axis("ending", "end in a whole sentence", "{:.0%}", finishes),
    "refusals": Axis("refusal style", "begin as a refusal", "{:.0%}", refusal),
    "hedges": Axis("hedging", "hedges in 100 words", "{:.1f}", hedges, hundreds),
    "lists": Axis("formatting", "with a list", "{:.0%}", has_list),
    "headings": Axis("formatting", "with a heading", "{:.0%}", has_heading),
    "bold": Axis("formatting", "with bold", "{:.0%}", has_bold),
    "code": Axis("formatting", "with code", "{:.0%}", has_code),
    "repetition": Axis("repetition", "repeated word triples", "{:.0%}", repeated, triples),
}
