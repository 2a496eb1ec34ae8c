"""Measures how far what a test asks of a training lies above its noise: over seeds, and instructions of the processor.

``python tests/learning_effects.py --seeds 30 --processors 3 grpo rloo`` prints the table of CONTRIBUTING.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tqdm import tqdm

TESTS = Path(__file__).parent
sys.path += [str(TESTS / "evaluate"), str(TESTS / "plugins")]

#: Instructions of torch and of MKL, as `nox -s machines` sets them.
PROCESSORS = (("default", "COMPATIBLE"), ("default", "AVX2"), ("avx2", "AVX2"), ("avx512", "AVX512"))

#: What a test asks for: its name, what was found, and the bound that it must exceed.
Found = list[tuple[str, float, float]]


def measure_kit(method: str, seed: int, folder: Path) -> Found:
    """Return what the conformance kit asks of a method: the rise of its rewards, or its margin and the loss's fall."""
    from alignzoo.plugin.registry import registry
    from alignzoo.testing import learning

    cls = registry().method(method)
    run = learning.train_on_separable(cls, folder, [f"seed={seed}"])
    if cls.uses_rewards:
        first, last = learning._average_ends(run.rewards, 8)
        return [(f"{method}: rise of the mean reward", last - first, learning.RISE)]
    first, last = learning._average_ends(run.losses, 4)
    found = [(f"{method}: share by which the loss falls", 1 - last / first, 0.0)]
    margin = learning._measure_margin(run)
    return found if margin is None else [*found, (f"{method}: margin (nats)", margin, learning.MARGIN)]


def measure_swapped(seed: int, folder: Path) -> Found:
    """Return how far a run on swapped labels falls behind, at the lower end of the interval."""
    from test_runs import compare_runs, lines, swap_labels

    file, words = folder / "train.jsonl", f"seed={seed}"
    swap_labels(file)
    good, bad = lines(folder / "good", words), lines(folder / "bad", words, f"dataset.path={file}")
    accuracy, margin = compare_runs(good, bad)
    return [
        ("swapped labels: difference in accuracy, lower end", accuracy.low, 0.0),
        ("swapped labels: difference in margin (nats), lower end", margin.low, 0.0),
    ]


def measure_reward_model(seed: int, folder: Path) -> Found:
    """Return what a reward model learns."""
    from inprocess import run
    from test_reward_method import LEARNS

    result = run(folder / "run", *LEARNS, f"seed={seed}").result()
    gain = result["after"]["reward_margin"] - result["before"]["reward_margin"]
    return [
        ("reward model: accuracy", result["after"]["reward_accuracy"], 0.75),
        ("reward model: gain in margin", gain, 0.5),
    ]


EFFECTS: dict[str, Callable[[int, Path], Found]] = {
    **{name: partial(measure_kit, name) for name in ("dpo", "ipo", "kto", "orpo", "sft", "reward", "grpo", "rloo")},
    "labels": measure_swapped,
    "reward-model": measure_reward_model,
}


def main() -> None:
    """Measure each effect in a process for each processor, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("effects", nargs="*", help=f"of {', '.join(EFFECTS)}; none: all")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--processors", type=int, default=3, help=f"how many of {PROCESSORS}")
    parser.add_argument("--here", action="store_true", help="measure in this process, and print lines of JSON")
    chosen = parser.parse_args()
    names = chosen.effects or list(EFFECTS)
    if chosen.here:
        measure_here(names, chosen.seeds)
        return
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for aten, mkl in PROCESSORS[: chosen.processors]:
        variables = {"ATEN_CPU_CAPABILITY": aten, "MKL_CBWR": mkl, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, "--here", "--seeds", str(chosen.seeds), *names]
        lines = subprocess.run(command, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True, check=True)
        for line in lines.stdout.splitlines():
            name, value, bound = json.loads(line)
            found[name].append((value, bound))
    print("| effect | bound | mean | sd | lowest | standard deviations above the bound | runs |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, measured in found.items():
        values, bound = [value for value, _ in measured], measured[0][1]
        mean, sd = statistics.mean(values), statistics.stdev(values)
        above = (mean - bound) / sd
        print(f"| {name} | {bound:g} | {mean:.3f} | {sd:.3f} | {min(values):.3f} | {above:.1f} | {len(values)} |")


def measure_here(names: list[str], seeds: int) -> None:
    """Print what each effect is under each seed."""
    for name in names:
        for seed in tqdm(range(seeds), desc=name):
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
                found = EFFECTS[name](seed, Path(folder))
            for line in found:
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
