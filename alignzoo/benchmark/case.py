"""Defines the cases of the speed benchmark: a method, a batch, lengths and a model, of which one differs at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Answers to a prompt in GRPO's and RLOO's groups.
GROUP = 8

METHODS = ("dpo", "ipo", "orpo", "kto", "grpo")

#: Groups whose keys reach the plain TRL script too, or change nothing that it computes.
FOLLOWED = ("dataset", "method", "speed", "train")


@dataclass(frozen=True)
class Case:
    """One comparison. The rows are made-up words: half to one and a half times as many as stated, evenly spread."""

    varied: str
    """What it shows beside the other cases: method, batch, lengths, or gpu."""

    model: str
    """An option of the group ``model``, or a size of :data:`alignzoo.benchmark.random_models.SIZES`."""

    method: str = "dpo"

    pairs: int = 4
    """Of a batch, which is a step; KTO takes twice as many single answers, GRPO one group of ``GROUP`` answers."""

    prompt: int = 64
    """Words of a prompt."""

    answer: int = 32
    """Words of an answer."""

    data: str | None = None
    """A dataset of pairs, as ``dataset.path`` takes it, in place of made-up words."""

    words: tuple[str, ...] = ()
    """Further words of the command line, ``KEY=VALUE``, for both programs."""

    @property
    def name(self) -> str:
        """Method, model, batch and further words of the command line: it tells the case from the others."""
        sizes = {
            "kto": f"{self.rows} x ({self.prompt} + {self.answer})",
            "grpo": f"{self.prompt} + {GROUP} x {self.answer}",
        }
        pairs = f"{self.pairs} x ({self.prompt} + 2 x {self.answer})"
        batch = f"{self.sources} of {Path(self.data).name}" if self.data else sizes.get(self.method, pairs)
        return " ".join([self.method, self.model, batch, *self.words])

    @property
    def rows(self) -> int:
        """What the method counts as rows of a batch."""
        return {"kto": 2 * self.pairs, "grpo": GROUP}.get(self.method, self.pairs)

    @property
    def sources(self) -> int:
        """Rows of the dataset that a batch is made of."""
        return {"kto": self.rows, "grpo": GROUP // 2}.get(self.method, self.pairs)

    def overrides(self, file: Path, model: Sequence[str], steps: int) -> list[str]:
        """Return the words of the command line that trains on the pairs in ``file``."""
        short = {"grpo": [f"method.num_generations={GROUP}", "method.beta=0", "reward=length"]}
        made_up = [f"dataset.path={file}", "dataset.chat=true"]
        real = [f"dataset.path={self.data}", f"dataset.rows={self.sources * steps}"]
        return [
            *(f"method={self.method}", *model, "dataset=local", *(real if self.data else made_up)),
            *("dataset.heldout.fraction=0", f"train.max_steps={steps}", *short.get(self.method, [])),
            *(f"train.global_batch_size={self.rows}", f"train.per_device_batch_size={self.rows}"),
            *self.words,
        ]


def cases(model: str) -> list[Case]:
    """Return every method on one batch, and DPO on other batches and lengths of as many words."""
    base = Case("method", model)
    return [
        *(replace(base, method=method) for method in METHODS),
        *(replace(base, varied="batch", pairs=pairs) for pairs in (1, 8)),
        *(replace(base, varied="lengths", prompt=128 - 2 * answer, answer=answer) for answer in (56, 12)),
    ]


def quick_cases() -> list[Case]:
    """Return those for the tiny model, which take seconds: every method, a single pair, and long answers."""
    return [case for case in cases("tiny") if case.pairs < 8 and case.prompt <= case.answer * 2]


def gpu_cases() -> list[Case]:
    """Return those for a GPU, in bf16 on random weights: DPO by model and batch; a word is some tokens there."""
    base = Case("gpu", "0.5b", prompt=160, answer=90)
    return [base, replace(base, model="1.5b"), replace(base, pairs=1)]


def own_cases(data: str, quick: bool) -> list[Case]:
    """Return those on a user's pairs; not KTO, whose partners of one prompt TRL and alignzoo choose differently."""
    base = Case("method", "tiny" if quick else "bundled", data=data)
    return [replace(base, method=method) for method in METHODS if method != "kto"]


def choose_cases(quick: bool, varied: str | None, data: str | None = None, words: Sequence[str] = ()) -> list[Case]:
    """Return the quick cases, or those that differ in ``varied``, or on ``data``, or all that this machine can run.

    ``words``: further words of the command line, for each case.

    Raises:
        UserError: there is no GPU for those of a GPU, or one of ``words`` would change the comparison.
    """
    chosen = _choose(quick, varied, data)
    _refuse_words(words, chosen)
    return [replace(case, words=tuple(words)) for case in chosen]


def _choose(quick: bool, varied: str | None, data: str | None) -> list[Case]:
    from alignzoo.system.device import choose_device

    gpu = choose_device("auto") == "cuda"
    if varied == "gpu" and not gpu:
        raise UserError("--cases gpu: there is no CUDA device here. Leave it out for the cases of a CPU.")
    if data:
        return own_cases(data, quick)
    every = quick_cases() if quick else [*cases("bundled"), *(gpu_cases() if gpu else [])]
    return [case for case in every if varied in (None, case.varied)]


def _refuse_words(words: Sequence[str], chosen: Sequence[Case]) -> None:
    """Refuse words that set what the benchmark sets itself, or what the plain TRL script would not follow."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    keys = [override.key_or_group for override in OverridesParser.create().parse_overrides([*words])]
    own = {word.partition("=")[0] for case in chosen for word in case.overrides(Path("rows"), [], 1)}
    own.add("train.per_device_batch_tokens")  # a step is one batch
    for word, key in zip(words, keys, strict=True):
        if key in own:
            raise UserError(f"benchmark {word}: the benchmark sets {key} itself. Leave the word out.")
        group, _, name = key.partition(".")
        if key != "seed" and (group not in FOLLOWED or not name):
            known = ", ".join(f"{group}.*" for group in FOLLOWED)
            raise UserError(
                f"benchmark {word}: the plain TRL script does not follow {key}. Words can be {known}, seed."
            )
