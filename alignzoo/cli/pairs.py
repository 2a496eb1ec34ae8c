"""Measures for `evaluate --pairs` how often a model prefers the chosen completion of a file's pairs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.config.metrics import NUMBERS

if TYPE_CHECKING:
    from alignzoo.evaluate.targets import Target
    from alignzoo.train.inputs import RunInputs

COLUMN = "subset"  #: of the file: what its accuracies are told apart by


def measure_pairs(
    target: Target, file: Path, words: Sequence[str], load: Callable[[Target, RunInputs], tuple[Any, bool]]
) -> dict[str, Any]:
    """Return the accuracies on the file's pairs, and how many pairs were left out for which reason.

    ``load`` returns the target's model.
    """
    from alignzoo.config.check import check
    from alignzoo.data.convert import with_pairs
    from alignzoo.data.manifest import reasons
    from alignzoo.evaluate.pair_accuracy import summarise_pairs
    from alignzoo.train.measured_pairs import prepare_pairs

    inputs = prepare_pairs(check(target.cfg), file, words)
    rows = with_pairs(inputs.data.heldout, inputs.data.kind)
    lines = _measure(target, inputs, rows, load)
    subsets = [str(json.loads(extra).get(COLUMN, "")) for extra in rows["extra"]]
    kind = "reward_model" if inputs.trains_reward_model else "policy"
    return {**summarise_pairs(lines, subsets, kind), "left_out": reasons(inputs.data.manifest)}


def _measure(target: Target, inputs: RunInputs, rows: Any, load: Callable[..., tuple[Any, bool]]) -> list[Any]:
    from omegaconf import OmegaConf

    from alignzoo.evaluate.reward_yardstick import RewardYardstick
    from alignzoo.evaluate.yardstick import Yardstick
    from alignzoo.models.shared_prefix.patch import prefixes_shared

    cfg: Any = OmegaConf.merge(inputs.cfg.evaluate, {"rows": len(rows), "enabled": True})
    if inputs.trains_reward_model:
        scorer = RewardYardstick(cfg, rows, inputs.tokenizer)
        scores = scorer.measure(load(target, inputs)[0], None)
        return scorer.make_lines(scores, scores)
    yardstick = Yardstick(cfg, rows, inputs.tokenizer, inputs.eos_ids, sharing=partial(prefixes_shared, inputs.cfg))
    before = yardstick.measure_pairs(inputs.load_model(inputs.against).to(inputs.checked.device))
    return yardstick.make_lines(before, yardstick.measure_pairs(load(target, inputs)[0]))


def print_pairs(found: dict[str, Any]) -> None:
    """Print the accuracies by subset, section and over all pairs, with their intervals, and what was left out."""
    from rich.text import Text

    from alignzoo.system.console import make_console
    from alignzoo.system.tables import plain_table

    keys = [*found["all"]]
    table = plain_table("subset", "pairs", *(NUMBERS[key].short for key in keys))
    rows = [*found.get("subsets", {}).items()]
    rows += [(f"section {name}", one) for name, one in found.get("sections", {}).items()]
    rows += [
        (f"mean of {what}", found[key]) for key, what in (("mean", "subsets"), ("score", "sections")) if key in found
    ]
    for name, one in [*rows, ("all pairs", {"pairs": found["pairs"], **found["all"]})]:
        pairs = f"{one['pairs']:,}" if "pairs" in one else ""
        table.add_row(*map(Text, (name, pairs, *(_format(one[key]) for key in keys))))
    console = make_console()
    console.print(table)
    for reason, count in found["left_out"].items():
        console.print(Text(f"left out {count:,}: {reason}"), soft_wrap=True)


def _format(found: Sequence[float]) -> str:
    value, low, high = (f"{part:.1%}" for part in found)
    return f"{value} ({low.removesuffix('%')} to {high})"
