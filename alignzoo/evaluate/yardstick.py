"""Measures one model on the held-out rows; :mod:`alignzoo.evaluate.metrics` makes numbers of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from alignzoo.evaluate.answers import Answer, answer, answer_and_sample
from alignzoo.evaluate.kl import own_sample_kl
from alignzoo.evaluate.likelihood import answer_logprobs
from alignzoo.system import cache, ranks
from alignzoo.system.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from datasets import Dataset
    from omegaconf import DictConfig
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Seen:
    """What one model says of one held-out row."""

    text: str
    """The greedy answer."""

    tokens: int
    """Its length, without the stop token."""

    ended: bool
    """Whether it reached a stop token."""

    chosen: float | None = None
    """Log-probability of the chosen answer, summed, in nats; None without pairs."""

    rejected: float | None = None

    kl: float | None = 0.0
    """KL to the start model over a sampled answer's tokens, summed, in nats; None where it was not measured."""

    kl_tokens: int = 1
    """Tokens of that sampled answer."""

    reward: float | None = None
    """Of the greedy answer."""

    win: float | None = None
    """1 where the judge prefers the greedy answer to the start model's, 0 where not, 0.5 for a tie."""


class Yardstick:
    """The held-out rows and the settings by which every model is measured."""

    def __init__(
        self,
        cfg: DictConfig,
        rows: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        stops: Sequence[int],
        score: Callable[[Dataset, Sequence[Seen]], list[float]] | None = None,
        sharing: Callable[[Any], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        """``cfg`` is the group ``evaluate``; ``rows`` are canonical, tokenised, held-out rows.

        ``score`` returns the reward of each greedy answer; None where none is configured. Within ``sharing(model)``, a
        model computes once what a batch's rows have in common.
        """
        self.cfg, self.tokenizer, self.stops, self.score = cfg, tokenizer, list(stops), score
        self.sharing = sharing
        self.rows = rows.select(range(min(cfg.rows, len(rows)) if cfg.enabled else 0))
        self.prompts: list[list[int]] = list(self.rows["prompt_ids"])
        self.has_pairs = (
            len(self.rows) > 0 and "chosen_ids" in self.rows.column_names and self.rows["chosen_ids"][0] is not None
        )

    @property
    def objective(self) -> str:
        """The run's number for sweeps and leaderboards."""
        return str(self.cfg.objective)

    def measure_start(self, model: Any, identity: str) -> list[Seen]:
        """Measure the start model, or read its measurements from the cache: once per model, rows and settings."""
        key = json.dumps([identity, self.prompts, self._ids("chosen_ids"), self._ids("rejected_ids"), self.stops])
        key += json.dumps([VERSION, self.cfg.max_new_tokens, str(model.dtype)])
        file = cache.make_folder("measured") / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
        known = ranks.broadcast(file.read_text(encoding="utf-8") if file.exists() else None)
        if known:
            cache.mark_used(file)
            return self._rewarded([Seen(**row) for row in json.loads(known)])
        with evaluating(model):
            seen = self._seen(model, answer(model, *self._asked))
        with write_atomically(file) as aside:
            aside.write_text(json.dumps([asdict(row) for row in seen]), encoding="utf-8")
        return self._rewarded(seen)

    def measure(self, model: Any, start: Callable[[], Any] | None) -> list[Seen]:
        """Answer and score the held-out rows, and sample for the KL; the model is left in the mode it came in.

        ``start`` loads the start model; None where ``model`` is it under an adapter.
        """
        if not self.prompts:
            return []
        with evaluating(model):
            answers, samples = zip(*answer_and_sample(model, *self._asked), strict=True)
            seen = self._rewarded(self._seen(model, answers))
            other = start and start()
            with self.sharing(model), self.sharing(other):
                sampled = list(zip(self.prompts, samples, strict=True))
                found = own_sample_kl(model, other, sampled, *self._scoring)
        return [replace(row, kl=kl, kl_tokens=tokens) for row, (kl, tokens) in zip(seen, found, strict=True)]

    def lines(self, before: Sequence[Seen], after: Sequence[Seen]) -> list[dict[str, Any]]:
        """Return one line a held-out prompt, as ``answers.jsonl`` holds them."""
        lengths: list[list[Any]] = [
            [len(ids) for ids in self._ids(column)] or [None] * len(before) for column in ("chosen_ids", "rejected_ids")
        ]
        prompts = [json.loads(prompt)[-1]["content"] for prompt in self.rows["prompt"]]
        rows = zip(self.rows["id"], prompts, *lengths, before, after, strict=True)
        names = ("id", "prompt", "chosen_tokens", "rejected_tokens", "before", "after")
        return [dict(zip(names, (*row[:4], *map(asdict, row[4:])), strict=True)) for row in rows]

    @property
    def _asked(self) -> tuple[Any, ...]:
        """What answers depend on, beside the model."""
        return self.tokenizer, self.prompts, self.stops, self.cfg.max_new_tokens, self.cfg.batch_size

    @property
    def _scoring(self) -> tuple[int, int]:
        return self.cfg.batch_size, int(self.tokenizer.pad_token_id)

    def _seen(self, model: Any, answers: Sequence[Answer]) -> list[Seen]:
        with self.sharing(model):
            scored = self._logprobs(model)
        rows = zip(answers, *scored, strict=True)
        return [Seen(a.text, a.tokens, a.ended, chosen, rejected) for a, chosen, rejected in rows]

    def _rewarded(self, seen: list[Seen]) -> list[Seen]:
        rewards = self.score(self.rows, seen) if seen and self.score else None
        return seen if rewards is None else [replace(s, reward=r) for s, r in zip(seen, rewards, strict=True)]

    def _ids(self, column: str) -> list[list[int]]:
        return list(self.rows[column]) if self.has_pairs else []

    def _logprobs(self, model: Any) -> tuple[Sequence[float | None], Sequence[float | None]]:
        """Return the log-probabilities of the chosen and of the rejected answers."""
        if not self.has_pairs:
            return ([None] * len(self.rows),) * 2
        pairs = [
            pair for name in ("chosen_ids", "rejected_ids") for pair in zip(self.prompts, self._ids(name), strict=True)
        ]
        found = answer_logprobs(model, pairs, *self._scoring)
        return found[: len(self.rows)], found[len(self.rows) :]


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Have dropout off, and activations kept rather than computed again; then the model is in the mode it came in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


VERSION = 3  #: raised whenever the same model is measured otherwise
