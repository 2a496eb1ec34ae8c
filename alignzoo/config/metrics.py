"""Defines the yardstick's numbers: label, unit, meaning and source. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Number:
    """One number of the yardstick."""

    label: str
    """As the terminal, pages and plots name it, its unit in parentheses."""

    short: str
    """As the head of a narrow column names it."""

    form: str
    """The format in which it is written."""

    meaning: str
    better: str = ""
    """``high``, ``low``, or empty where that depends."""

    kind: str = "mean"
    """``mean``, ``share`` or ``median``: the latter two have intervals of their own."""


NUMBERS = {
    "preference_accuracy": Number(
        "preference accuracy",
        "accuracy",
        "{:.0%}",
        "share of held-out pairs whose chosen completion gained more log-probability over the start model than the "
        "rejected one; ties count half, so the start model itself has 50 % (DPO's implicit reward, Rafailov et al., "
        "2023, without its beta)",
        "high",
        "share",
    ),
    "accuracy_sum": Number(
        "chosen more likely",
        "more likely",
        "{:.0%}",
        "share of held-out pairs whose chosen completion is more likely than the rejected one under the model itself, "
        "log-probabilities summed; favours short completions",
        "high",
        "share",
    ),
    "accuracy_mean": Number(
        "chosen more likely (per token)",
        "more likely/token",
        "{:.0%}",
        "the same with each log-probability divided by its completion's tokens (as SimPO ranks, Meng et al., 2024)",
        "high",
        "share",
    ),
    "margin": Number(
        "margin (nats)",
        "margin",
        "{:+.2f}",
        "mean over pairs of the gain in log-probability of the chosen completion less that of the rejected one, since "
        "the start model, summed over tokens; never scaled by a beta",
    ),
    "margin_token": Number(
        "margin (nats/token)",
        "margin/token",
        "{:+.3f}",
        "the same with each gain divided by its completion's tokens",
        "high",
    ),
    "chosen_change": Number(
        "chosen log-probability (nats/token)",
        "chosen",
        "{:+.3f}",
        "change of the chosen completions' log-probability since the start model, over all their tokens; below zero is "
        "likelihood displacement (Razin et al., 2024)",
    ),
    "kl": Number(
        "KL to the start model (nats/token)",
        "KL",
        "{:.3f}",
        "mean over the tokens of sampled completions (temperature 1) of the exact KL divergence between the next-token "
        "distributions of the model and the start model (Rao-Blackwellised estimator, Amini et al., 2025)",
    ),
    "teacher_kl": Number(
        "KL to the teacher (nats/token)",
        "KL to teacher",
        "{:.3f}",
        "the same to the teacher, where there is one: mean over the tokens of completions that the model samples "
        "(temperature 1) of the exact KL divergence of its next-token distribution from the teacher's",
        "low",
    ),
    "reward": Number(
        "reward",
        "reward",
        "{:.3f}",
        "mean reward of the greedy completions: the weighted sum of the configured rewards",
        "high",
    ),
    "success": Number(
        "success",
        "success",
        "{:.0%}",
        "share of held-out prompts whose greedy completion reached the goal of the environment",
        "high",
        "share",
    ),
    "turns": Number(
        "turns with calls",
        "turns",
        "{:.1f}",
        "mean number of turns in which the greedy completion calls tools, up to where the environment was over",
    ),
    "win_rate": Number(
        "wins against the start model",
        "wins",
        "{:.0%}",
        "share of held-out prompts whose greedy completion the judge prefers to the start model's; ties count half",
        "high",
        "share",
    ),
    "win_rate_lc": Number(
        "wins at equal length",
        "wins (LC)",
        "{:.0%}",
        "length-controlled win rate: the share that the judge would prefer if both completions were equally long, read "
        "off a logistic regression of its verdicts on the difference in characters (Dubois et al., 2024)",
        "high",
        "share",
    ),
    "win_rate_second": Number(
        "wins by the second judge",
        "wins (2nd)",
        "{:.0%}",
        "the win rate against the start model by the second judge, where one is chosen (judge@judge.second)",
        "high",
        "share",
    ),
    "answer_tokens": Number(
        "completion length (tokens)", "tokens", "{:.1f}", "mean length of the greedy completions, without EOS"
    ),
    "answer_words": Number(
        "completion length (words)", "words", "{:.1f}", "mean length of the greedy completions, in words between blanks"
    ),
    "answer_words_median": Number(
        "median completion length (words)",
        "median words",
        "{:.0f}",
        "median length of the greedy completions, in words",
        kind="median",
    ),
    "ended": Number(
        "completions that end with EOS",
        "ended",
        "{:.0%}",
        "share of greedy completions that reach EOS before evaluate.max_new_tokens",
        "high",
        "share",
    ),
    "empty": Number("empty completions", "empty", "{:.0%}", "share of completions without a word", "low", "share"),
    "refusals": Number(
        "refusals",
        "refusals",
        "{:.0%}",
        "share of completions that begin as a refusal does (a list of openings)",
        "",
        "share",
    ),
    "formatted": Number(
        "formatted completions",
        "formatted",
        "{:.0%}",
        "share of completions with Markdown: bullets, numbered items, headings, bold, code",
        "",
        "share",
    ),
    "distinct_3": Number(
        "distinct word 3-grams",
        "distinct-3",
        "{:.0%}",
        "distinct 3-grams of words within a completion over all its 3-grams (Li et al., 2016): low means repetition",
        "high",
    ),
    "reward_accuracy": Number(
        "chosen scored higher",
        "RM accuracy",
        "{:.0%}",
        "of a reward model: share of held-out pairs whose chosen completion it scores higher than the rejected one; "
        "ties count half",
        "high",
        "share",
    ),
    "reward_margin": Number(
        "score margin",
        "score margin",
        "{:+.2f}",
        "of a reward model: mean over pairs of the chosen completion's score less the rejected one's; a margin of m "
        "means that the model gives the chosen completion a chance of 1 / (1 + exp(-m)) (Bradley and Terry, 1952)",
    ),
}

AUTO = "auto"  #: ``evaluate.objective`` that leaves the choice to :func:`choose_objective`


def choose_objective(asked: str, has_reward: bool, wins: str | None) -> str:
    """Return the number that decides: the one ``asked`` for, unless that is ``auto``.

    By itself a run aims at a number that is not full once all pairs are told apart: its reward where it has one, else
    ``wins``, the win rate by its judge (:func:`alignzoo.config.judged.choose_win_rate`), else the margin per token.
    """
    if asked != AUTO:
        return asked
    return "reward" if has_reward else wins or "margin_token"
