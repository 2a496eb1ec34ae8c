"""Samples the answers batch by batch; each batch is cached when it is there, so that a kill costs one."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from alignzoo.evaluate.completions import GENERATED_PER_SCORED, Completion, order_by_length, sample_batch
from alignzoo.models.contents import hash_model
from alignzoo.system import cache, ranks
from alignzoo.system.checked_lines import CheckedLines, hash_json

if TYPE_CHECKING:
    from pathlib import Path

    from alignzoo.generate.inputs import GenerationInputs

VERSION = 1  #: raised whenever the same model would give other answers

#: Packages whose versions decide the last bits of a sample.
PACKAGES = ("torch", "transformers")

Answers = list[list[Completion]]  #: of each prompt

#: Called with the places of some prompts, and their answers.
Trial = Callable[[Sequence[int], Sequence[Sequence[Completion]]], object]


@dataclass(frozen=True)
class Sampling:
    """What samples depend on, beside the model and the prompts."""

    samples: int
    """Answers to each prompt."""

    temperature: float
    max_new_tokens: int
    batch_size: int
    """Answers that are sampled at once, at most."""

    seed: int
    dtype: str
    device: str
    attn_implementation: str | None
    versions: Mapping[str, str]

    @classmethod
    def of(cls, inputs: GenerationInputs) -> Sampling:
        """Return what the configuration says."""
        cfg, asked = inputs.cfg, inputs.cfg.generate
        return cls(
            asked.samples,
            float(asked.temperature),
            asked.max_new_tokens or cfg.evaluate.max_new_tokens,
            GENERATED_PER_SCORED * cfg.evaluate.batch_size,
            cfg.seed,
            inputs.dtype,
            inputs.checked.device,
            cfg.model.attn_implementation,
            {name: importlib.metadata.version(name) for name in PACKAGES},
        )

    def make_seed(self, batch: int) -> int:
        """Return the seed of a batch, which does not depend on what was sampled before it."""
        return int(hash_json([self.seed, batch])[:15], 16)


@dataclass(frozen=True)
class Sampled:
    """All answers, and how many batches were in the cache already."""

    answers: Answers
    batches: int
    cached: int


def sample(inputs: GenerationInputs, sampling: Sampling, trial: Trial) -> Sampled:
    """Return the answers to ``inputs.prompts``, from the cache where they are there; each process calls this.

    ``trial`` is called on the main process with the first batch, before the others are sampled, so that a reward or
    judge that cannot work costs one batch.
    """
    prompts: list[list[int]] = list(inputs.prompts["prompt_ids"])
    batches = _make_batches(prompts, sampling)
    lines = CheckedLines(_find_file(inputs, sampling, prompts), "batch", "answers", "that batch is sampled again")
    known: dict[str, Any] = ranks.broadcast(lines.read() if ranks.rank() == 0 else {})
    missing = [number for number in range(len(batches)) if str(number) not in known]
    cached, model, tried = len(batches) - len(missing), None, False
    with _show_progress(len(batches), cached) as advance:
        for part in _divide(missing):
            if part:
                model = model or inputs.load_model()
                found = _sample_part(model, inputs, sampling, prompts, {number: batches[number] for number in part})
                _append(lines, found)
                known |= found
                advance(len(part))
            if not tried:
                tried = True
                _try(trial, batches[0], _decode(known["0"]))
    answers: dict[int, list[Completion]] = {}
    for number, places in enumerate(batches):
        answers |= zip(places, _decode(known[str(number)]), strict=True)
    return Sampled([answers[place] for place in range(len(prompts))], len(batches), cached)


def _make_batches(prompts: Sequence[list[int]], sampling: Sampling) -> list[list[int]]:
    """Return the places of the prompts that are answered together, those of like length."""
    order, size = order_by_length(prompts), max(1, sampling.batch_size // sampling.samples)
    return [order[first : first + size] for first in range(0, len(order), size)]


def _divide(missing: Sequence[int]) -> Iterator[list[int]]:
    """Yield batches to sample, one for each process; the first comes alone, or an empty list where it is there."""
    rest = [number for number in missing if number]
    yield [0] if len(rest) < len(missing) else []
    every = ranks.world_size()
    yield from (rest[first : first + every] for first in range(0, len(rest), every))


def _sample_part(
    model: Any,
    inputs: GenerationInputs,
    sampling: Sampling,
    prompts: Sequence[list[int]],
    batches: Mapping[int, Sequence[int]],
) -> dict[str, Any]:
    """Return the answers of some batches, as they are cached; the processes divide the batches."""

    def work(number: int) -> list[Any]:
        chosen = [prompts[place] for place in batches[number]]
        asked = sampling.max_new_tokens, sampling.samples, sampling.temperature, sampling.make_seed(number)
        found = sample_batch(model, inputs.tokenizer, chosen, inputs.eos_ids, *asked)
        return [[[answer.text, answer.tokens, answer.ended] for answer in answers] for answers in found]

    numbers = list(batches)
    return dict(zip(map(str, numbers), ranks.share_work(work, numbers), strict=True))


def _decode(found: list[Any]) -> Answers:
    return [[Completion(*answer) for answer in answers] for answers in found]


@ranks.on_main
def _append(lines: CheckedLines, found: Mapping[str, Any]) -> None:
    with cache.explain_full_cache("the samples"):
        lines.append(found)


@ranks.on_main
def _try(trial: Trial, places: Sequence[int], answers: Answers) -> None:
    with ranks.work_alone():
        trial(places, answers)


def _find_file(inputs: GenerationInputs, sampling: Sampling, prompts: Sequence[list[int]]) -> Path:
    """Return the cache's file of these samples, named by all that they depend on."""
    digest = hashlib.sha256()
    for ids in prompts:
        digest.update(len(ids).to_bytes(8, "big") + np.array(ids, np.int64).tobytes())
    ends = [*inputs.eos_ids, inputs.tokenizer.pad_token_id]
    key = [VERSION, hash_model(inputs.start), asdict(sampling), digest.hexdigest(), ends]
    file = cache.make_folder("generated") / f"{hash_json(key)[:32]}.jsonl"
    cache.mark_used(file)
    cache.trim()
    return file


@contextmanager
def _show_progress(batches: int, done: int) -> Iterator[Callable[[int], None]]:
    """Show how many batches are there: as a bar on a terminal, once at the beginning elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from alignzoo.system.console import make_console

    if ranks.rank() == 0 and done:
        print(f"resume: {done:,} of {batches:,} batches of answers are in the cache", flush=True)
    console = make_console(stderr=True)
    bar = Progress(TextColumn("sampling"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console)
    task = bar.add_task("sampling", total=batches, completed=done)
    if console.is_terminal and ranks.rank() == 0:
        bar.start()
    try:
        yield lambda count: bar.advance(task, count)
    finally:
        if bar.live.is_started:
            bar.stop()
