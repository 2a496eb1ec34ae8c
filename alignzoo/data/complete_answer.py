"""Tells whether a text is a complete answer in plain prose: the rule of the embedded dataset and of its reward."""

from __future__ import annotations

import re

MIN_WORDS, MIN_DISTINCT = 10, 0.9

#: Words that say nothing of a question's subject.
STOP_WORDS = set(
    re.findall(
        r"[a-z]+",
        "a about an and answer are at be benefits between by can child describe difference do does each explain "
        "for from get give happens how i important in is it its make my name of on one or our someone that the "
        "they three tip to use used we what when why with you your ",
    )
)
#: Lists, headings, refusals, and talk about the answer itself.
META = re.compile(
    r"[:\n*#<>{}\"“|]|^\W*\d|^[-•+]|\b(?:sentences?|answers?|as an ai|ai assistant|sorry|i cannot|i can't|i'm|i am|my|"
    r"sure|here are|here's|to be (?:concise|honest)|this (?:is|question|phrase)|prompt)\b",
    re.IGNORECASE,
)


def is_complete(prompt: str, text: str, ended: bool, least: int = MIN_WORDS) -> bool:
    """Tell whether ``text`` is a complete answer to ``prompt``.

    It ``ended`` by itself (the model wrote EOS, or the text was cut back to its last whole sentence), in sentence
    punctuation; has at least ``least`` words; shares a content word with the prompt and has others; is plain prose,
    without a list, a heading, a refusal or talk about the answer itself; and does not repeat itself: at least
    MIN_DISTINCT of its word 3-grams are distinct.
    """
    asked, answered = find_stems(prompt), find_stems(text)
    return (
        ended
        and text.endswith((".", "!"))
        and len(find_words(text)) >= least
        and bool(asked & answered)
        and bool(answered - asked)
        and META.search(text) is None
        and measure_distinct(text) >= MIN_DISTINCT
    )


def find_words(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return re.findall(r"[a-z0-9'-]+", text.lower())


def find_stems(text: str) -> set[str]:
    """Return the first five letters of each content word: enough to match "mirror" with "mirrors"."""
    return {word[:5] for word in find_words(text) if word not in STOP_WORDS}


def measure_distinct(text: str) -> float:
    """Return the share of word 3-grams that are different from each other."""
    found = find_words(text)
    trigrams = list(zip(found, found[1:], found[2:], strict=False))
    return len(set(trigrams)) / max(1, len(trigrams))
