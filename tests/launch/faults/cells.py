"""Lists all that is disturbed, and divides the faults over it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from conftest import QUICK

Report = Callable[[str, Counter[str], str], None]  #: the fixture ``report_faults``

PAIRS = ("dataset.rows=16", "train.per_device_batch_size=2")
SAMPLED = ("dataset.rows=4", "method.max_completion_length=6", "+method.num_iterations=2")

#: For each method, the rows that give about a dozen steps in three epochs.
METHODS = {
    "sft": PAIRS,
    "dpo": PAIRS,
    "ipo": (*PAIRS, "peft=lora", "peft.lora_dropout=0.2"),
    "orpo": ("dataset.rows=16", "train.logging_steps=3"),
    "kto": ("dataset.rows=8",),
    "reward": PAIRS,
    "grpo": SAMPLED,
    "rloo": SAMPLED,
}

#: Each with the number of its processes.
STRATEGIES = {"single": 1, "ddp": 2}

WORDS = (
    *(word for word in QUICK if "dataset.rows" not in word),
    *("method.learning_rate=0.001", "train.warmup_steps=0", "train.num_train_epochs=3", "evaluate.shown=0"),
    *("train.save_strategy=steps", "train.save_steps=1", "train.save_total_limit=2"),
    *("reward=length", "reward.length.slack=200"),
)

#: Those of a pipeline: each stage has a method of its own.
SHARED = (*(word for word in WORDS if not word.startswith("method.")), *PAIRS, "train.num_train_epochs=1")
STAGES = tuple(f'pipeline.stages.{name}.overrides=["method.learning_rate=0.001"]' for name in ("sft", "dpo"))

#: Several runs that one command starts; the last one compares methods over seeds.
GROUPS = {
    "pipeline": ("+pipeline=sft_dpo", *SHARED, *STAGES),
    "sweep": ("-m", *WORDS, *PAIRS, "train.num_train_epochs=1", "method.beta=0.05,0.1"),
    "study": ("-m", *WORDS, *PAIRS, "train.num_train_epochs=1", "method=sft,dpo", "seed=0,1"),
}

#: A run, a pipeline and a sweep that are disturbed at one of their writes: as few of these as may be.
SMALL = ("train.num_train_epochs=1", "dataset.rows=4", "evaluate.rows=2", "evaluate.max_new_tokens=4")
WRITING = {
    "full-run": (*WORDS, *PAIRS, *SMALL),
    "full-pipeline": ("+pipeline=sft_dpo", *SHARED, *STAGES, *SMALL),
    "full-sweep": ("-m", *WORDS, *PAIRS, *SMALL, "method.beta=0.05,0.1"),
    "cache": (*WORDS, *PAIRS, *SMALL),
}
ADAPTERS = {"adapter": ("peft=lora", *WORDS, *PAIRS, *SMALL)}

BLOCK = "grpo-block"


def list_cells(config: pytest.Config) -> list[str]:
    """Return the names of all that is disturbed; what is left over of the faults goes to the first ones."""
    strategies = config.getoption("--strategies").split(",")
    return [
        *(f"{method}-{strategy}" for method in METHODS for strategy in strategies),
        *(*GROUPS, BLOCK, *WRITING, *ADAPTERS),
    ]


def divide(metafunc: pytest.Metafunc, names: list[str]) -> None:
    """Make a test of each of the ``names`` that gets faults: arguments ``cell`` and ``wanted``."""
    cells, faults = list_cells(metafunc.config), metafunc.config.getoption("--faults")
    counts = {name: faults // len(cells) + (place < faults % len(cells)) for place, name in enumerate(cells)}
    found = [name for name in names if counts.get(name)]
    metafunc.parametrize(("cell", "wanted"), [(name, counts[name]) for name in found], ids=found)
