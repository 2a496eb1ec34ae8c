"""Builds the short trainings of the checks: the method's real trainer, on the tiny model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.plugin.method import Method
from alignzoo.system.environment import restore_environment
from alignzoo.testing.rows import find_further, write_rows
from alignzoo.train.losses.compare import TEACHER

if TYPE_CHECKING:
    from torch import Tensor

    from alignzoo.train.inputs import RunInputs

BATCH = 4  #: rows of one step; one group of sampled completions

#: Keys of on-policy configs, with what keeps sampling short; a config without the key keeps its own default.
SHORT = {"num_generations": BATCH, "max_completion_length": 4, "max_new_tokens": 4}

Weights = dict[str, "Tensor"]


@dataclass(frozen=True)
class Run:
    """One training: what it was built from, its trainer, and the rewards that it asked for."""

    inputs: RunInputs
    trainer: Any
    start: Weights
    """The start model's weights."""

    rewards: list[float] = field(default_factory=list)
    """The mean reward of each call, in order; empty where the method does not ask for rewards."""

    @property
    def losses(self) -> list[float]:
        """The logged losses, one per step."""
        return [float(line["loss"]) for line in self.trainer.state.log_history if "loss" in line]

    def measure_start(self) -> list[Any]:
        """Measure the start model on the held-out rows, as a user's run does, with the configured rewards."""
        from alignzoo.models import start_model

        model = self.inputs.place_baseline(self.inputs.load_model())
        return self.inputs.make_yardstick().measure_start(model, start_model.identity(self.inputs.against))

    def measure(self, before: Sequence[Any]) -> dict[str, Any]:
        """Measure the trained model in the same way, and return the numbers that a run would show."""
        from alignzoo.evaluate.metrics import summarise

        yardstick = self.inputs.make_yardstick()
        after = yardstick.measure(self.trainer.model, self.inputs.make_baseline_loader())
        return summarise(yardstick.make_lines(before, after))

    @property
    def weights(self) -> Weights:
        """The policy's weights as they are now, copied."""
        return {name: weight.detach().clone() for name, weight in self.trainer.model.state_dict().items()}


def build(method: type[Method], layout: str, folder: Path, words: Sequence[str] = ()) -> Run:
    """Return a run on rows of that layout, ready to train, below ``folder``.

    Args:
        words: further overrides, as on the command line.

    Raises:
        UserError: the configuration, the data or the method refuses it.
    """
    from alignzoo.config.check import check
    from alignzoo.config.compose import compose
    from alignzoo.runs.record import Record
    from alignzoo.train.callbacks import make_callbacks
    from alignzoo.train.inputs import prepare_run

    rows = write_rows(layout, folder, find_further(method))
    checked = check(compose(make_words(method, rows, words)))
    checked = dataclasses.replace(checked, method=method)  # a test's own variant need not be registered
    inputs = prepare_run(checked)
    args = inputs.make_trl_config(folder)
    model = inputs.load_model()
    start = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    given: list[float] = []
    rewards = [_make_reward(given) for _ in inputs.rewards.functions] if method.uses_rewards else None
    trainer = inputs.build_trainer(args, model, make_callbacks(checked, Record(folder)), rewards)
    return Run(inputs, trainer, start, given)


def make_words(method: type[Method], rows: Path, words: Sequence[str]) -> list[str]:
    """Return the words that compose a short training on ``rows``."""
    from alignzoo.config.trl_fields import read_config_fields

    fields = read_config_fields(method.config)
    data = ["dataset=local", f"dataset.path={rows}", "dataset.heldout.fraction=0"]
    size = [f"train.global_batch_size={BATCH}", f"train.per_device_batch_size={BATCH}"]
    short = [f"++method.{key}={value}" for key, value in SHORT.items() if key in fields.keys() - method.pinned]
    quick = ["model=tiny", "strategy.device=cpu", "train.precision=fp32", "train.warmup_steps=0"]
    chosen = any(word.startswith("reward=") for word in words)
    reward = ["reward=length"] if method.uses_rewards and not chosen else []  # one of the kit's own takes its place
    teacher = TEACHER if method.uses_teacher else ()
    return [f"method={method.name}", *quick, *data, *reward, *size, *short, *teacher, *words]


def _make_reward(given: list[float]) -> Callable[..., list[float]]:
    """Return a reward as TRL calls it: the share of a sampled completion's token ids that are even.

    Dense, so that completions differ from the first step; it adds its mean of each call to ``given``.
    """

    def even_ids(
        prompts: list[Any], completions: list[Any], completion_ids: list[list[int]], **columns: Any
    ) -> list[float]:
        scores = [sum(i % 2 == 0 for i in ids) / max(1, len(ids)) for ids in completion_ids]
        given.append(sum(scores) / max(1, len(scores)))
        return scores

    return even_ids


@contextmanager
def isolate_training() -> Iterator[None]:
    """Train on one thread, which is faster for a model this small, and restore what a run sets in the process."""
    import torch

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with torch.random.fork_rng(devices=[]), restore_environment():
            yield
    finally:
        torch.set_num_threads(threads)
