"""Counts the sentences or points of an answer: the rule of an embedded dataset and of its reward."""

from __future__ import annotations

import itertools
import re

from alignzoo.data.complete_answer import find_stems, find_words, measure_distinct

SENTENCES, POINTS = "sentences", "points"  #: the two forms
MIN_WORDS, MIN_DISTINCT = 3, 0.9

_END = re.compile(r"(?<=[a-z0-9)])[.!?](?=\s|$)")
_POINT = re.compile(r"(\d+)\. (\S.*)")
_REQUEST = find_stems("Write two four sentences. Write numbered points.")


def count_parts(prompt: str, text: str, ended: bool, form: str) -> int:
    """Return how many sentences or points an answer consists of; 0 where it is not of that form, or not an answer.

    Sentences stand in one line and end in ``.``, ``!`` or ``?``; points are lines numbered from 1. An answer ``ended``
    by itself; has nothing else in it, no part twice and no part of fewer than MIN_WORDS words; shares a content word
    with the question and has others; and at least MIN_DISTINCT of its word 3-grams are distinct.
    """
    parts = split_sentences(text) if form == SENTENCES else split_points(text)
    asked, answered = find_stems(prompt) - _REQUEST, find_stems(text)
    sound = (
        ended
        and all(len(find_words(part)) >= MIN_WORDS for part in parts)
        and len({" ".join(find_words(part)) for part in parts}) == len(parts)
        and bool(asked & answered)
        and bool(answered - asked - _REQUEST)
        and measure_distinct(" ".join(parts)) >= MIN_DISTINCT
    )
    return len(parts) if sound else 0


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text of one line; none where there is something else in it."""
    if "\n" in text or _POINT.match(text):
        return []
    ends = [0, *(match.end() for match in _END.finditer(text))]
    if text[ends[-1] :].strip():
        return []
    return [text[start:end].strip() for start, end in itertools.pairwise(ends)]


def split_points(text: str) -> list[str]:
    """Return the points of a numbered list; none where there is something else in it."""
    found = [_POINT.fullmatch(line) for line in text.split("\n")]
    points = [match.group(2) for place, match in enumerate(found, 1) if match and match.group(1) == str(place)]
    return points if len(points) == len(found) else []
