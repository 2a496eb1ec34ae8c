"""``python -m alignzoo evaluate TARGET... [key=value ...]``: the yardstick for a run, a checkpoint, or any model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alignzoo.config.metrics import NUMBERS
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from alignzoo.evaluate.targets import Target
    from alignzoo.train.inputs import Ready


def main(words: Sequence[str]) -> int:
    """Measure each target against its start model, print the numbers with their intervals; ``--save`` them."""
    parser = argparse.ArgumentParser(prog="alignzoo evaluate", description="The yardstick, for anything.")
    parser.add_argument("words", nargs="*", metavar="TARGET or key=value", help="run, checkpoint, model folder, hub id")
    parser.add_argument("--save", action="store_true", help="write the numbers into the run folders")
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else")
    parser.add_argument("--explain", action="store_true", help="say what each number means, and measure nothing")
    options = parser.parse_args(words)
    if options.explain:
        print("\n\n".join(f"{key} ({number.label}): {number.meaning}." for key, number in NUMBERS.items()))
        return 0
    overrides = [word for word in options.words if "=" in word]
    names = [word for word in options.words if "=" not in word]
    if not names:
        raise UserError("evaluate needs a run folder, a model folder or a hub id.")
    found = {name: _measured(name, overrides, options.save, options.json) for name in names}
    if options.json:
        print(json.dumps(found, indent=2))
    return 0


def _measured(word: str, overrides: Sequence[str], save: bool, silent: bool) -> dict[str, Any]:
    from alignzoo.evaluate.metrics import told
    from alignzoo.evaluate.targets import target

    named = target(word, overrides)
    if save and (named.run is None or named.folder != named.run / "model"):
        raise UserError(f"--save: {word} is no run folder; its numbers have no place.")
    lines, data = measure(named)
    result = {**told(lines), "data": data}
    if not silent:
        _print(word, result)
    if save and named.run is not None:
        from alignzoo.runs.record import Record

        Record.of(named.run).remeasured(lines, result)
    return result


def measure(target: Target) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the target's lines of ``answers.jsonl``, and the hashes of the rows of its configuration."""
    from alignzoo.config import check
    from alignzoo.data.manifest import fingerprints
    from alignzoo.evaluate.judge import configured_judge, judged
    from alignzoo.evaluate.rewards import configured_rewards
    from alignzoo.launch.launch import quiet
    from alignzoo.models import start_model
    from alignzoo.train.inputs import make_ready

    cfg = target.cfg
    method = check.check(cfg)
    quiet(cfg)
    ready = make_ready(cfg, method)
    _warn_seen(target, ready)
    judge = configured_judge(cfg.judge)
    rewards = configured_rewards(cfg, method, ready.rows, ready.data.heldout, ready.stops)
    yardstick = ready.yardstick(cfg, rewards)
    start = ready.load(cfg, ready.against).to(ready.device)
    before = yardstick.measure_start(start, start_model.identity(ready.against))
    model, adapted = _model(target, cfg, ready)
    after = yardstick.measure(model, None if adapted and ready.against == ready.start else lambda: start)
    return judged(yardstick.lines(before, after), judge), fingerprints(ready.data.manifest)


def _model(target: Target, cfg: DictConfig, ready: Ready) -> tuple[Any, bool]:
    from omegaconf import OmegaConf

    from alignzoo.models import start_model
    from alignzoo.models.load import load_trained
    from alignzoo.models.start_model import is_scorer
    from alignzoo.plugin.method import ModelKind

    folder = target.folder
    if folder is None:
        own = {"name": target.name, "path": target.name, "revision": None, "wheel": None, "gguf_file": None}
        folder = start_model.start_folder(OmegaConf.merge(cfg.model, own))  # type: ignore[arg-type]
    if ready.kind is ModelKind.REWARD_MODEL:
        if not is_scorer(folder):
            raise UserError(f"{target.name} is no reward model, and method={cfg.method.name} trains one.")
        return ready.load(cfg, folder).to(ready.device), False
    return load_trained(folder, ready.start, cfg, ready.device, ready.precision)


def _warn_seen(target: Target, ready: Ready) -> None:
    """A run's numbers on rows that it was trained on measure nothing."""
    from alignzoo.data import manifest

    if target.run is None or not (target.run / manifest.FILE).is_file():
        return
    count = manifest.trained_on(manifest.read(target.run), ready.data.manifest)
    if count:
        import logging

        logging.getLogger(__name__).warning(
            "%s was trained on %s of these held-out rows: its numbers are no measure of it.", target.name, f"{count:,}"
        )


def _print(word: str, result: dict[str, Any]) -> None:
    from alignzoo.report.terminal import print_numbers

    print(f"\n{word}, against its start model")
    print_numbers(result)
