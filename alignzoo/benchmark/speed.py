"""Measures alignzoo beside a plain TRL script and LLaMA-Factory, on the same rows, model and settings, in turn.

Each program has a process of its own. They train one step each, one after the other, so that what else the machine
does hits all alike; medians of the ratios within a turn are reported, never one timing.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alignzoo.benchmark import random_models
from alignzoo.benchmark.case import GROUP, Case
from alignzoo.benchmark.data import write_pairs
from alignzoo.benchmark.peer import Peer, list_programs
from alignzoo.benchmark.scratch import scratch
from alignzoo.benchmark.work import Batch, Limit, make_limit

if TYPE_CHECKING:
    from alignzoo.benchmark.steps import Side

#: What LLaMA-Factory is compared on: its losses of the others are other ones (IPO's by 24 on `tiny`, as measured).
WITH_LLAMAFACTORY = ("dpo",)

#: TRL's arguments that the benchmark leaves at TRL's default, because they are what alignzoo does in another way.
TRLS_OWN = ("precompute_ref_log_probs", "output_dir", "run_name")

Row = dict[str, Any]


def measure_speed(
    chosen: Sequence[Case], steps: int, llamafactory: str | None = None, tell: Callable[[str], None] = print
) -> list[Row]:
    """Return a row for each case and program: what :func:`compare` says. One more step than asked for warms up.

    Raises:
        UserError: a program failed.
    """
    rows: list[Row] = []
    with scratch() as folder, ExitStack() as running:
        peers = []
        for name, command in list_programs(llamafactory).items():
            peers.append(Peer(name, command, folder / f"{name}.log"))
            running.callback(peers[-1].close)
        for number, case in enumerate(chosen):
            tell(f"{number + 1}/{len(chosen)}: {case.name}")
            settings, limit = prepare_case(case, steps + 1, folder / str(number))
            having = [peer for peer in peers if peer.name != "llamafactory" or case.method in WITH_LLAMAFACTORY]
            found = compare(case, limit, run_in_turn(having, settings, steps + 1, limit))
            rows += found
            tell(", ".join(f"{row['program']} {row['seconds']:.3f} s" for row in found))
            shutil.rmtree(folder / str(number))
    return rows


def prepare_case(case: Case, steps: int, folder: Path) -> tuple[dict[str, Any], Limit]:
    """Write the rows into ``folder``; return the settings that each program is told, and the limit of its steps."""
    from alignzoo.benchmark.steps import Side
    from alignzoo.train.trl_config import make_trl_arguments

    folder.mkdir()
    if not case.data:
        write_rows(folder / "rows.parquet", case, steps)
    overrides = case.overrides(folder / "rows.parquet", _model(case.model, folder.parent), steps)
    side = Side(overrides, folder / "side")
    groups = _groups(side, steps) if case.method == "grpo" else []
    _in_order(side, case).to_json(folder / "rows.jsonl")
    arguments = make_trl_arguments(side.inputs.checked, folder, side.inputs.plan)
    settings = {
        "method": case.method,
        "model": str(side.inputs.start),
        "rows": str(folder / "rows.jsonl"),
        "groups": groups,
        "folder": str(folder / "trained"),
        "arguments": {name: value for name, value in arguments.items() if name not in TRLS_OWN},
        "overrides": overrides,
    }
    return settings, make_limit(side)


def write_rows(file: Path, case: Case, steps: int) -> None:
    """Write pairs for so many steps; for KTO one answer of each, good and bad in turn, so that no prompt repeats."""
    import pandas

    write_pairs(file, case.sources * steps, case.prompt, case.answer)
    if case.method == "kto":
        pairs = pandas.read_parquet(file)
        good = pairs.index % 2 == 0
        answers = pairs["chosen"].where(good, pairs["rejected"])
        pandas.DataFrame({"prompt": pairs["prompt"], "completion": answers, "label": good}).to_parquet(file)


def _model(name: str, folder: Path) -> list[str]:
    """Return the overrides of a model; one of random weights is made if need be, and sharing prefixes is asked for."""
    if name not in random_models.SIZES:
        return [f"model={name}"]
    made = folder / name
    if not made.exists():
        random_models.make_random(made, random_models.SIZES[name])
    return ["model=local", f"model.path={made}", "speed.shared_prefix=on"]  # auto may fall back


def _groups(side: Side, steps: int) -> list[dict[str, Any]]:
    """Return for each step a prompt, and the answers of its pair and of those behind it, as token ids."""
    pairs = side.inputs.data.train.to_list()
    starts = range(0, steps * GROUP // 2, GROUP // 2)
    return [
        {
            "prompt": pairs[start]["prompt_ids"],
            "answers": [pair[name] for pair in pairs[start : start + GROUP // 2] for name in PAIR],
        }
        for start in starts
    ]


PAIR = ("chosen_ids", "rejected_ids")


def _in_order(side: Side, case: Case) -> Any:
    """Return the rows as texts; KTO's in the order in which alignzoo trains them, since TRL takes a file's own."""
    from alignzoo.train.token_rows import BlockSampler

    if case.method == "grpo":
        return side.inputs.rows.select_columns(["prompt"])
    texts = side.texts()
    return texts.select(BlockSampler(len(texts), case.rows, side.cfg.seed)) if case.method == "kto" else texts


def run_in_turn(peers: Sequence[Peer], settings: dict[str, Any], steps: int, limit: Limit) -> dict[str, Run]:
    """Train all, a step each in turn; who begins changes from turn to turn. Before each step the limit is measured."""
    runs = {peer.name: Run(peer.begin(settings)) for peer in peers}
    for turn in range(steps):
        first = turn % len(peers)
        for peer in [*peers[first:], *peers[:first]]:
            limit.measure()
            runs[peer.name].seconds.append(peer.step())
    for peer in peers:
        runs[peer.name].end(peer.end())
    return runs


class Run:
    """What one program told of a case."""

    def __init__(self, reference: float) -> None:
        self.reference = reference  #: seconds of the reference pass over all rows, before the first step
        self.seconds: list[float] = []  #: of each step; the first warms up
        self.losses: list[float] = []
        self.peak = 0  #: bytes
        self.batches: list[Batch] = []  #: of each step, and maybe of one that was read ahead; alignzoo alone tells

    def end(self, answer: dict[str, Any]) -> None:
        """Take what the program told after its last step."""
        self.losses, self.peak, self.batches = answer["losses"], answer["peak"], answer.get("batches", [])


def compare(case: Case, limit: Limit, runs: dict[str, Run]) -> list[Row]:
    """Return one row a program; all of it is of the steps after the first.

    ``faster``: its steps take so many times as long as alignzoo's. ``faster_with_reference``: the same, with each of
    alignzoo's steps bearing its share of the reference pass, as in the first run on these rows; ``memory``:
    alignzoo's peak over its own.
    """
    ours = runs["alignzoo"]
    batches = ours.batches[1 : len(ours.seconds)]
    rows: list[Row] = []
    for name, run in runs.items():
        pass_each = (ours.reference if name != "alignzoo" else 0.0) / len(run.seconds)
        pairs = list(zip(run.seconds[1:], ours.seconds[1:], strict=True))
        seconds = statistics.median(run.seconds[1:])
        rows.append(
            {
                **{"case": case.name, "varied": case.varied, "method": case.method, "model": case.model},
                "precision": limit.precision,
                **{"pairs": case.pairs, "prompt_words": case.prompt, "answer_words": case.answer},
                **{"program": name, "seconds": seconds, "reference_seconds": run.reference / len(run.seconds)},
                "faster": statistics.median(theirs / mine for theirs, mine in pairs),
                "faster_with_reference": statistics.median(theirs / (mine + pass_each) for theirs, mine in pairs),
                "tokens_per_second": sum(batch["tokens"] for batch in batches) / sum(run.seconds[1:]),
                "flop_share": limit.compute_share(batches, run.seconds[1:]),
                "peak_bytes": run.peak,
                "memory": ours.peak / run.peak,
                "loss_difference": float(np.abs(np.subtract(run.losses, ours.losses)).max()),  # NaN where one is NaN
            }
        )
    return rows
