"""Measures GRPO end to end beside a plain TRL script: completions are sampled, rewarded and learnt from."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from alignzoo.benchmark.peer import Peer, list_programs
from alignzoo.benchmark.scratch import scratch

#: Prompts of a step, each with a group of this many completions: the default, and several prompts at once.
PROMPTS, GROUP = (1, 4), 4

Row = dict[str, Any]


def measure_sampling(model: str, steps: int, limit: int, tell: Callable[[str], None] = print) -> list[Row]:
    """Return a row for each batch: seconds of both programs and their ratios, and the tokens that they wrote.

    Each trains a step, then the other; who begins changes from turn to turn. One more step than asked for warms up.

    Args:
        model: an option of the group ``model``.
        steps: turns, whose medians are reported.
        limit: tokens of the longest completion.

    Raises:
        UserError: a program failed.
    """
    rows: list[Row] = []
    with scratch() as folder, ExitStack() as running:
        peers = []
        for name, command in list_programs(None).items():
            peers.append(Peer(name, command, folder / f"{name}.log"))
            running.callback(peers[-1].close)
        for prompts in PROMPTS:
            settings = prepare_sampling(model, prompts, steps + 1, limit, folder / str(prompts))
            runs = run_both(peers, settings, steps + 1)
            rows.append(compare_sampling(runs, f"{prompts} x {GROUP} completions, up to {limit} tokens"))
            tell(f"{rows[-1]['batch']}: {rows[-1]['faster']:.2f} x")
    return rows


def prepare_sampling(model: str, prompts: int, steps: int, limit: int, folder: Path) -> dict[str, Any]:
    """Write the prompts into ``folder``; return the settings that each program is told."""
    from alignzoo.benchmark.speed import TRLS_OWN
    from alignzoo.benchmark.steps import Side
    from alignzoo.train.trl_config import make_trl_arguments

    folder.mkdir()
    size = prompts * GROUP
    overrides = [
        *("method=grpo", f"model={model}", "reward=length", f"dataset.rows={prompts * steps}"),
        *(f"method.num_generations={GROUP}", f"method.max_completion_length={limit}", f"train.max_steps={steps}"),
        *(f"train.global_batch_size={size}", f"train.per_device_batch_size={size}", "evaluate.enabled=false"),
    ]
    side = Side(overrides, folder / "side")
    side.inputs.rows.select_columns(["prompt"]).to_json(folder / "rows.jsonl")
    arguments = make_trl_arguments(side.inputs.checked, folder, side.inputs.plan)
    return {
        "method": "grpo",
        "model": str(side.inputs.start),
        "rows": str(folder / "rows.jsonl"),
        "groups": [],
        "folder": str(folder / "trained"),
        "arguments": {name: value for name, value in arguments.items() if name not in TRLS_OWN},
        "overrides": overrides,
    }


def run_both(peers: Sequence[Peer], settings: dict[str, Any], steps: int) -> dict[str, dict[str, list[float]]]:
    """Train both in turn; return wall-clock and processor seconds, and the completions' mean length, by step."""
    runs: dict[str, dict[str, list[float]]] = {peer.name: {"seconds": [], "processor": []} for peer in peers}
    for peer in peers:
        peer.begin(settings)
    for turn in range(steps):
        for peer in peers if turn % 2 else reversed(peers):
            runs[peer.name]["seconds"].append(peer.step())
            runs[peer.name]["processor"].append(peer.processor)
    for peer in peers:
        peer.end()
        runs[peer.name]["lengths"] = peer.lengths
    return runs


def compare_sampling(runs: dict[str, dict[str, list[float]]], batch: str) -> Row:
    """Return the row of a batch; all of it is of the steps after the first.

    ``faster``: the median over the turns of TRL's processor seconds over alignzoo's; ``faster_wall``: of wall-clock
    seconds; ``faster_token``: of all turns together, of processor seconds per token that each of them wrote.
    """
    ours, trls = ({name: values[1:] for name, values in runs[side].items()} for side in ("alignzoo", "trl"))
    per_token = [sum(side["processor"]) / sum(side["lengths"]) for side in (ours, trls)]
    return {
        "batch": batch,
        "faster": _divide(trls["processor"], ours["processor"]),
        "faster_wall": _divide(trls["seconds"], ours["seconds"]),
        "faster_token": per_token[1] / per_token[0],
        **{f"{name}_alignzoo": statistics.median(values) for name, values in ours.items()},
        **{f"{name}_trl": statistics.median(values) for name, values in trls.items()},
    }


def _divide(theirs: Sequence[float], mine: Sequence[float]) -> float:
    return statistics.median(one / other for one, other in zip(theirs, mine, strict=True))
