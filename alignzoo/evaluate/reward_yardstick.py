"""Measures how a reward model scores the held-out pairs; it generates nothing, so there is no KL."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from alignzoo.evaluate.likelihood import pad_pairs
from alignzoo.evaluate.yardstick import evaluation_mode

if TYPE_CHECKING:
    from datasets import Dataset
    from omegaconf import DictConfig
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class PairScores:
    """A reward model's scores of one held-out pair, in its own unit."""

    chosen_score: float
    rejected_score: float


class RewardYardstick:
    """The held-out pairs by which every reward model is measured, as :class:`alignzoo.evaluate.yardstick.Yardstick` is.

    ``before`` is the start model with its random output, which tells half of the pairs apart by chance.
    """

    def __init__(self, cfg: DictConfig, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        """``cfg`` is the group ``evaluate``; ``rows`` are held-out pairs of token ids."""
        has_pairs = len(rows) > 0 and "chosen_ids" in rows.column_names and rows["chosen_ids"][0] is not None
        self.rows = rows.select(range(min(cfg.rows, len(rows)) if cfg.enabled and has_pairs else 0))
        self.cfg, self.pad = cfg, int(tokenizer.pad_token_id)

    @property
    def objective(self) -> str:
        """The run's number for sweeps and leaderboards, whatever ``evaluate.objective`` says of policies."""
        return "reward_accuracy"

    def measure_start(self, model: Any, identity: str) -> list[PairScores]:
        """Score the pairs before the training; unlike a policy's, this is not cached: its output is random."""
        return self.measure(model, None)

    def measure(self, model: Any, start: Callable[[], Any] | None) -> list[PairScores]:
        """Score the pairs; the model is left in the mode it came in, and ``start`` is not needed."""
        with evaluation_mode(model):
            chosen, rejected = (self._score(model, column) for column in ("chosen_ids", "rejected_ids"))
        return [PairScores(*pair) for pair in zip(chosen, rejected, strict=True)]

    def make_lines(self, before: Sequence[PairScores], after: Sequence[PairScores]) -> list[dict[str, Any]]:
        """Return one line per held-out prompt, as ``answers.jsonl`` holds them."""
        prompts = [json.loads(prompt)[-1]["content"] for prompt in self.rows["prompt"]]
        rows = zip(self.rows["id"], prompts, before, after, strict=True)
        return [{"id": i, "prompt": prompt, "before": asdict(b), "after": asdict(a)} for i, prompt, b, a in rows]

    def _score(self, model: Any, column: str) -> list[float]:
        """Score each prompt with its answer in ``column``; those of like length go through the model together."""
        import torch

        pairs = list(zip(self.rows["prompt_ids"], self.rows[column], strict=True)) if len(self.rows) else []
        order = sorted(range(len(pairs)), key=lambda i: sum(map(len, pairs[i])))
        scores = [0.0] * len(pairs)
        for start in range(0, len(order), self.cfg.batch_size):
            places = order[start : start + self.cfg.batch_size]
            ids, mask, _ = pad_pairs([pairs[i] for i in places], self.pad, model.device)
            with torch.inference_mode():
                found = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, 0]
            for place, score in zip(places, found.float().tolist(), strict=True):
                scores[place] = score
        return scores
