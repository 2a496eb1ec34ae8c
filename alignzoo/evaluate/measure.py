"""Measures one model on the held-out rows, and compares it with the start model measured the same way."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from alignzoo import cache
from alignzoo.evaluate.answers import Answer, answer
from alignzoo.evaluate.likelihood import answer_logprobs

if TYPE_CHECKING:
    from datasets import Dataset
    from omegaconf import DictConfig
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Measured:
    """What one model says of the held-out rows. Log-probabilities are sums in nats; empty without pairs."""

    answers: list[Answer]
    chosen: list[float]
    rejected: list[float]

    def save(self) -> str:
        """Return JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Measured:
        """Return what :meth:`save` wrote."""
        content = json.loads(text)
        return cls([Answer(**item) for item in content["answers"]], content["chosen"], content["rejected"])


class Yardstick:
    """The held-out rows, the settings, and the start model's measurements, to compare a model with."""

    def __init__(
        self, cfg: DictConfig, rows: Dataset, tokenizer: PreTrainedTokenizerBase, stops: Sequence[int]
    ) -> None:
        """``cfg`` is the group ``evaluate``; ``rows`` are canonical, tokenised, held-out rows."""
        self.cfg, self.tokenizer, self.stops = cfg, tokenizer, list(stops)
        self.rows = rows.select(range(min(cfg.rows, len(rows)) if cfg.enabled else 0))
        self.prompts: list[list[int]] = list(self.rows["prompt_ids"])
        self.has_pairs = (
            len(self.rows) > 0 and "chosen_ids" in self.rows.column_names and self.rows["chosen_ids"][0] is not None
        )

    def measure(self, model: Any) -> Measured:
        """Answer and score the held-out rows. The model is left in the mode it came in."""
        training = model.training
        model.eval()  # also turns activation checkpointing off, which only acts in training mode
        try:
            settings = (self.stops, self.cfg.max_new_tokens, self.cfg.batch_size)
            answers = answer(model, self.tokenizer, self.prompts, *settings) if self.prompts else []
            return Measured(answers, self._logprobs(model, "chosen_ids"), self._logprobs(model, "rejected_ids"))
        finally:
            model.train(training)

    def measure_start(self, model: Any, identity: str) -> Measured:
        """Measure the start model, or read its measurements from the cache: once per model, rows and settings."""
        key = json.dumps([identity, self.prompts, self._ids("chosen_ids"), self._ids("rejected_ids"), self.stops])
        key += json.dumps([self.cfg.max_new_tokens, str(model.dtype)])
        file = cache.folder("measured") / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
        if file.exists():
            return Measured.read(file.read_text(encoding="utf-8"))
        measured = self.measure(model)
        aside = file.with_suffix(f".{os.getpid()}")
        aside.write_text(measured.save(), encoding="utf-8")
        aside.replace(file)
        return measured

    def _ids(self, column: str) -> list[list[int]]:
        return list(self.rows[column]) if self.has_pairs else []

    def _logprobs(self, model: Any, column: str) -> list[float]:
        pairs = list(zip(self.prompts, self._ids(column), strict=True)) if self.has_pairs else []
        return answer_logprobs(model, pairs, self.cfg.batch_size, self.tokenizer.pad_token_id)

    def numbers(self, measured: Measured, start: Measured) -> dict[str, float]:
        """Return :data:`alignzoo.evaluate.numbers.NUMBERS` for a model; ``start``: the start model's measurements."""
        numbers = _answer_numbers(measured.answers)
        if self.has_pairs:
            gains = zip(measured.chosen, start.chosen, measured.rejected, start.rejected, strict=True)
            margins = [(c - c0) - (r - r0) for c, c0, r, r0 in gains]
            lengths = [len(ids) for ids in self._ids("chosen_ids")]
            numbers |= {
                "preference_accuracy": statistics.fmean(0.5 + 0.5 * ((m > 0) - (m < 0)) for m in margins),
                "margin": statistics.fmean(margins),
                "chosen_change": (sum(measured.chosen) - sum(start.chosen)) / sum(lengths),
            }
        return numbers


def _answer_numbers(answers: Sequence[Answer]) -> dict[str, float]:
    if not answers:
        return {}
    words = [found.text.split() for found in answers]
    triples = [tuple(text[i : i + 3]) for text in words for i in range(len(text) - 2)]
    different = sum(len({tuple(text[i : i + 3]) for i in range(len(text) - 2)}) for text in words)
    return {
        "answer_tokens": statistics.fmean(found.tokens for found in answers),
        "answer_words": statistics.fmean(map(len, words)),
        "answer_words_median": float(statistics.median(map(len, words))),
        "ended": statistics.fmean(found.ended for found in answers),
        "empty": statistics.fmean(not text for text in words),
        "distinct_3": different / len(triples) if triples else 1.0,
    }
