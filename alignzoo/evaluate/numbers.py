"""The yardstick's numbers: what each one is, in which unit. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Number:
    """One number: its label on the terminal, how it is written there, and what it means."""

    label: str
    short: str
    form: str
    meaning: str


NUMBERS = {
    "preference_accuracy": Number(
        "preference accuracy",
        "accuracy",
        "{:.0%}",
        "share of held-out pairs whose chosen answer gained more log-probability over the start model than the "
        "rejected one; ties count half, so the start model itself has 50 %",
    ),
    "margin": Number(
        "margin, nats",
        "margin",
        "{:+.2f}",
        "mean of that difference of log-ratios, summed over tokens; never scaled by a beta",
    ),
    "chosen_change": Number(
        "chosen answers, nats a token",
        "chosen",
        "{:+.3f}",
        "change of the chosen answers' log-probability since the start model, over all their tokens",
    ),
    "answer_tokens": Number(
        "answer length, tokens", "tokens", "{:.1f}", "mean length of the greedy answers, without the stop token"
    ),
    "answer_words": Number(
        "answer length, words", "words", "{:.1f}", "mean length of the greedy answers, in words between blanks"
    ),
    "answer_words_median": Number(
        "answer length, words (median)", "median words", "{:.0f}", "median length of the greedy answers, in words"
    ),
    "ended": Number(
        "answers that end by themselves",
        "ended",
        "{:.0%}",
        "share that reached a stop token before evaluate.max_new_tokens",
    ),
    "empty": Number("empty answers", "empty", "{:.0%}", "share of answers without a word"),
    "distinct_3": Number(
        "different word triples",
        "distinct-3",
        "{:.0%}",
        "different triples of words within an answer over all its triples (Li et al., 2016): low means repetition",
    ),
}
