"""The yardstick's numbers: what each one is, in which unit, and where it comes from. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Number:
    """One number.

    Its label on the terminal and a short one for tables, how it is written there, its meaning, which way is better
    ("high", "low", or "" where that depends), and its kind: a share and a median have intervals of their own.
    """

    label: str
    short: str
    form: str
    meaning: str
    better: str = ""
    kind: str = "mean"


NUMBERS = {
    "preference_accuracy": Number(
        "preference accuracy",
        "accuracy",
        "{:.0%}",
        "share of held-out pairs whose chosen answer gained more log-probability over the start model than the "
        "rejected one; ties count half, so the start model itself has 50 % (DPO's implicit reward, Rafailov et al., "
        "2023, without its beta)",
        "high",
        "share",
    ),
    "accuracy_sum": Number(
        "chosen more likely",
        "likelier",
        "{:.0%}",
        "share of held-out pairs whose chosen answer is more likely than the rejected one under the model itself, "
        "log-probabilities summed; favours short answers",
        "high",
        "share",
    ),
    "accuracy_mean": Number(
        "chosen more likely a token",
        "likelier/token",
        "{:.0%}",
        "the same with log-probabilities divided by the answer's tokens (as SimPO ranks, Meng et al., 2024)",
        "high",
        "share",
    ),
    "margin": Number(
        "margin, nats",
        "margin",
        "{:+.2f}",
        "mean over pairs of the gain in log-probability of the chosen answer less that of the rejected one, since the "
        "start model, summed over tokens; never scaled by a beta",
    ),
    "margin_token": Number(
        "margin, nats a token",
        "margin/token",
        "{:+.3f}",
        "the same with each gain divided by its answer's tokens",
    ),
    "chosen_change": Number(
        "chosen answers, nats a token",
        "chosen",
        "{:+.3f}",
        "change of the chosen answers' log-probability since the start model, over all their tokens; below zero is "
        "likelihood displacement (Razin et al., 2024)",
    ),
    "kl": Number(
        "KL to the start, nats a token",
        "KL",
        "{:.3f}",
        "mean over the tokens of sampled answers (temperature 1) of the exact KL divergence between the next-token "
        "distributions of the model and the start model (Rao-Blackwellised estimator, Amini et al., 2025)",
    ),
    "reward": Number(
        "reward", "reward", "{:.3f}", "mean reward of the greedy answers: those configured, added up by weight", "high"
    ),
    "win_rate": Number(
        "wins against the start",
        "wins",
        "{:.0%}",
        "share of held-out prompts whose greedy answer the judge prefers to the start model's; ties count half",
        "high",
        "share",
    ),
    "answer_tokens": Number(
        "answer length, tokens", "tokens", "{:.1f}", "mean length of the greedy answers, without the stop token"
    ),
    "answer_words": Number(
        "answer length, words", "words", "{:.1f}", "mean length of the greedy answers, in words between blanks"
    ),
    "answer_words_median": Number(
        "answer length, words (median)",
        "median words",
        "{:.0f}",
        "median length of the greedy answers, in words",
        kind="median",
    ),
    "ended": Number(
        "answers that end by themselves",
        "ended",
        "{:.0%}",
        "share that reached a stop token before evaluate.max_new_tokens",
        "high",
        "share",
    ),
    "empty": Number("empty answers", "empty", "{:.0%}", "share of answers without a word", "low", "share"),
    "refusals": Number(
        "refusals",
        "refusals",
        "{:.0%}",
        "share of answers that begin as a refusal does (a list of openings)",
        "",
        "share",
    ),
    "formatted": Number(
        "formatted answers",
        "formatted",
        "{:.0%}",
        "share of answers with Markdown in them: bullets, numbered items, headings, bold, code",
        "",
        "share",
    ),
    "distinct_3": Number(
        "different word triples",
        "distinct-3",
        "{:.0%}",
        "different triples of words within an answer over all its triples (Li et al., 2016): low means repetition",
        "high",
    ),
    "reward_accuracy": Number(
        "chosen scored higher",
        "RM right",
        "{:.0%}",
        "of a reward model: share of held-out pairs whose chosen answer it scores higher than the rejected one; ties "
        "count half",
        "high",
        "share",
    ),
    "reward_margin": Number(
        "margin of scores",
        "score margin",
        "{:+.2f}",
        "of a reward model: mean over pairs of the chosen answer's score less the rejected one's; a margin of m means "
        "that the model gives the chosen answer a chance of 1 / (1 + exp(-m)) (Bradley and Terry, 1952)",
    ),
}
