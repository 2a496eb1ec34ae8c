"""Measures one model on the held-out rows; :mod:`alignzoo.evaluate.metrics` computes the numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.config.metrics import choose_objective
from alignzoo.evaluate.completions import Completion, generate_greedy, generate_greedy_and_sampled
from alignzoo.evaluate.kl import Sample, estimate_kl
from alignzoo.evaluate.likelihood import compute_logprobs
from alignzoo.system import cache, ranks

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from datasets import Dataset
    from omegaconf import DictConfig
    from transformers import PreTrainedTokenizerBase

    from alignzoo.evaluate.play import Player


@dataclass(frozen=True)
class RowMeasurement:
    """One model's measurements on one held-out row."""

    text: str
    """The greedy completion."""

    tokens: int
    """Its length, without EOS."""

    ended: bool
    """Whether it ended with EOS."""

    chosen: float | None = None
    """Log-probability of the chosen answer, summed, in nats; None without pairs."""

    rejected: float | None = None

    kl: float | None = 0.0
    """KL to the start model over a sampled completion's tokens, summed, in nats; None where it was not measured."""

    kl_tokens: int = 1
    """Tokens of that sampled completion."""

    reward: float | None = None
    """Of the greedy completion."""

    teacher_kl: float | None = None
    """KL to the teacher over a sampled completion's tokens, summed, in nats; None without a teacher."""

    teacher_kl_tokens: int = 1
    """Tokens of that sampled completion."""

    turns: int | None = None
    """Turns of the greedy completion with calls of tools; None where there are none to call."""

    success: bool | None = None
    """Whether it reached the goal of the environment; None without one."""

    win: float | None = None
    """1 where the judge prefers the greedy completion to the start model's, 0 where not, 0.5 for a tie."""

    win_second: float | None = None
    """The same by the second judge."""


class Yardstick:
    """The held-out rows and the settings by which every model is measured."""

    def __init__(
        self,
        cfg: DictConfig,
        rows: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        stops: Sequence[int],
        score: Callable[[Dataset, Sequence[Completion]], list[float]] | None = None,
        sharing: Callable[[Any], AbstractContextManager[Any]] = nullcontext,
        wins: str | None = None,
        teacher: tuple[Any, str] | None = None,
        player: Player | None = None,
    ) -> None:
        """``cfg`` is the group ``evaluate``; ``rows`` are canonical, tokenised, held-out rows.

        ``score`` returns the reward of each greedy completion; None where none is configured. Within
        ``sharing(model)``, a model computes once what a batch's rows have in common. ``wins``: the number by which a
        judge decides. ``teacher``: a model to compare with too, in evaluation mode, and what names its weights.
        ``player``: how completions are written where there are tools or an environment.
        """
        self.cfg, self.tokenizer, self.stops, self.score = cfg, tokenizer, list(stops), score
        self.sharing, self.wins, self.teacher, self.player = sharing, wins, teacher, player
        self.rows = rows.select(range(min(cfg.rows, len(rows)) if cfg.enabled else 0))
        # A text without a prompt begins where another ends; a model cannot go on from no token.
        self.prompts: list[list[int]] = [ids or [tokenizer.eos_token_id] for ids in self.rows["prompt_ids"]]
        self.has_pairs = (
            len(self.rows) > 0 and "chosen_ids" in self.rows.column_names and self.rows["chosen_ids"][0] is not None
        )

    @property
    def objective(self) -> str:
        """The run's number for sweeps and leaderboards."""
        return choose_objective(str(self.cfg.objective), self.score is not None, self.wins)

    def measure_start(self, model: Any, identity: str) -> list[RowMeasurement]:
        """Measure the start model, or read its measurements from the cache: once per model, rows and settings."""
        key = json.dumps([identity, self.prompts, self._ids("chosen_ids"), self._ids("rejected_ids"), self.stops])
        taught = [self.teacher[1]] if self.teacher else []
        key += json.dumps([VERSION, self.cfg.max_new_tokens, str(model.dtype), *taught])
        entry = cache.make_folder("measured") / hashlib.sha256(key.encode()).hexdigest()[:32]
        known = ranks.broadcast(read_rows(entry) if ranks.rank() == 0 and not self.player else None)
        if known is not None:
            known_rows = [RowMeasurement(**row) for row in known]
            return self._add_rewards(known_rows, [Completion(row.text, row.tokens, row.ended) for row in known_rows])
        with evaluation_mode(model):
            answers, samples = self._complete(model, samples=self.teacher is not None)
            measured = self._add_teacher(model, self._measure(model, answers), samples)
        if not self.player:  # whose tools may be other ones tomorrow under the same names
            write_rows(entry, measured)
        return self._add_rewards(measured, answers)

    def measure(self, model: Any, start: Callable[[], Any] | None) -> list[RowMeasurement]:
        """Completion and score the held-out rows, and sample for the KL; the model is left in the mode it came in.

        ``start`` loads the start model; None where ``model`` is it under an adapter.
        """
        if not self.prompts:
            return []
        with evaluation_mode(model):
            answers, samples = self._complete(model)
            measured = self._add_rewards(self._measure(model, answers), answers)
            other = start and start()
            with self.sharing(model), self.sharing(other):
                found = estimate_kl(model, other, samples, *self._scoring_arguments)
            measured = self._add_teacher(model, measured, samples)
        return [replace(row, kl=kl, kl_tokens=tokens) for row, (kl, tokens) in zip(measured, found, strict=True)]

    def measure_pairs(self, model: Any) -> list[RowMeasurement]:
        """Score the pairs alone: nothing is generated, and the completion is empty."""
        with evaluation_mode(model), self.sharing(model):
            scored = self._compute_logprobs(model)
        return [RowMeasurement("", 0, False, *pair, kl=None) for pair in zip(*scored, strict=True)]

    def answer(self, model: Any, most: int) -> list[Completion]:
        """Return the greedy completions of the first ``most`` prompts; the model is left in the mode it came in."""
        tokenizer, prompts, *others = self._generation_arguments
        with evaluation_mode(model):
            return generate_greedy(model, tokenizer, prompts[:most], *others)

    def make_lines(self, before: Sequence[RowMeasurement], after: Sequence[RowMeasurement]) -> list[dict[str, Any]]:
        """Return one line per held-out prompt, as ``answers.jsonl`` holds them."""
        lengths: list[list[Any]] = [
            [len(ids) for ids in self._ids(column)] or [None] * len(before) for column in ("chosen_ids", "rejected_ids")
        ]
        prompts = [json.loads(prompt)[-1]["content"] for prompt in self.rows["prompt"]]
        rows = zip(self.rows["id"], prompts, *lengths, before, after, strict=True)
        names = ("id", "prompt", "chosen_tokens", "rejected_tokens", "before", "after")
        return [dict(zip(names, (*row[:4], *map(asdict, row[4:])), strict=True)) for row in rows]

    @property
    def _generation_arguments(self) -> tuple[Any, ...]:
        """What completions depend on, beside the model."""
        return self.tokenizer, self.prompts, self.stops, self.cfg.max_new_tokens, self.cfg.batch_size

    @property
    def _scoring_arguments(self) -> tuple[int, int]:
        return self.cfg.batch_size, int(self.tokenizer.pad_token_id)

    def _complete(self, model: Any, samples: bool = True) -> tuple[list[Completion], list[Sample]]:
        """Return each prompt's greedy completion, and one sampled at temperature 1 where ``samples`` are asked for."""
        if not self.prompts:
            return [], []
        if self.player:
            return self.player.complete(model, self.rows, samples)
        if not samples:
            return generate_greedy(model, *self._generation_arguments), []
        answers, sampled = zip(*generate_greedy_and_sampled(model, *self._generation_arguments), strict=True)
        return list(answers), [Sample(*pair) for pair in zip(self.prompts, sampled, strict=True)]

    def _measure(self, model: Any, answers: Sequence[Completion]) -> list[RowMeasurement]:
        with self.sharing(model):
            scored = self._compute_logprobs(model)
        return [
            RowMeasurement(a.text, a.tokens, a.ended, chosen, rejected, turns=a.turns, success=a.success)
            for a, chosen, rejected in zip(answers, *scored, strict=True)
        ]

    def _add_teacher(self, model: Any, measured: list[RowMeasurement], samples: list[Sample]) -> list[RowMeasurement]:
        if self.teacher is None or not measured:
            return measured
        with self.sharing(model), self.sharing(self.teacher[0]):
            found = estimate_kl(model, self.teacher[0], samples, *self._scoring_arguments)
        return [replace(r, teacher_kl=kl, teacher_kl_tokens=n) for r, (kl, n) in zip(measured, found, strict=True)]

    def _add_rewards(self, measured: list[RowMeasurement], answers: Sequence[Completion]) -> list[RowMeasurement]:
        rewards = self.score(self.rows, answers) if measured and self.score else None
        return measured if rewards is None else [replace(s, reward=r) for s, r in zip(measured, rewards, strict=True)]

    def _ids(self, column: str) -> list[list[int]]:
        return list(self.rows[column]) if self.has_pairs else []

    def _compute_logprobs(self, model: Any) -> tuple[Sequence[float | None], Sequence[float | None]]:
        """Return the log-probabilities of the chosen and of the rejected answers."""
        if not self.has_pairs:
            return ([None] * len(self.rows),) * 2
        pairs = [
            pair for name in ("chosen_ids", "rejected_ids") for pair in zip(self.prompts, self._ids(name), strict=True)
        ]
        found = compute_logprobs(model, pairs, *self._scoring_arguments)
        return found[: len(self.rows)], found[len(self.rows) :]


def read_rows(entry: Path) -> list[dict[str, Any]] | None:
    """Return the measurements in the cache's ``entry``; None where it is to be made."""
    if cache.open_entry(entry) is None:
        return None
    cache.mark_used(entry)
    rows: list[dict[str, Any]] = json.loads((entry / FILE).read_text(encoding="utf-8"))
    return rows


@ranks.on_main
def write_rows(entry: Path, measured: Sequence[Any]) -> None:
    """Write measurements, each a dataclass, as the cache's ``entry``."""
    with cache.write_entry(entry) as folder:
        (folder / FILE).write_text(json.dumps([asdict(row) for row in measured]), encoding="utf-8")


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Put the model into evaluation mode, without dropout and checkpointing, and back into the mode it came in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


VERSION = 4  #: raised whenever the same model would get other measurements
FILE = "rows.json"
