"""``python -m alignzoo evaluate``: measures a run, a checkpoint or any model as every run is measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alignzoo.cli.options import FILE, WORD, json_option, libraries_on_stderr, print_json
from alignzoo.config.metrics import NUMBERS
from alignzoo.config.tasks import KEY
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from alignzoo.evaluate.targets import Target
    from alignzoo.train.inputs import RunInputs


@click.command
@click.argument("words", nargs=-1, metavar="[TARGET | KEY=VALUE]...")
@click.option("--tasks", type=WORD, metavar="NAMES", help="Benchmarks too: names, YAML files or folders, as a,b.yaml.")
@click.option(
    "--pairs", type=FILE, metavar="FILE", help="Only how often FILE's chosen completions are preferred, by its subset."
)
@click.option("--save", is_flag=True, help="Write the numbers into the run folders.")
@json_option
@click.option("--explain", is_flag=True, help="Say what each number means, and measure nothing.")
def command(
    words: Sequence[str], tasks: str | None, pairs: Path | None, save: bool, as_json: bool, explain: bool
) -> int:
    """Measure each TARGET against its start model, and print the numbers with their intervals.

    A TARGET is a run folder, a checkpoint, the folder of a model or a hub id; KEY=VALUE changes the configuration.
    """
    if explain:
        print("\n\n".join(f"{key} ({number.label}): {number.meaning}." for key, number in NUMBERS.items()))
        return 0
    overrides = [word for word in words if "=" in word]
    overrides += [f"{KEY}=[{','.join(repr(name) for name in tasks.split(','))}]"] if tasks else []
    names = [word for word in words if "=" not in word]
    if not names:
        raise UserError("evaluate needs a run folder, a model folder or a hub id.")
    if pairs and (tasks or save):
        raise UserError(
            f"--pairs measures nothing else, and saves nothing: leave out {'--tasks' if tasks else '--save'}."
        )
    with libraries_on_stderr(as_json):
        if pairs:
            found = {name: _measure_pairs(name, pairs, overrides, as_json) for name in names}
        else:
            found = {name: _measured(name, overrides, save, as_json) for name in names}
    if as_json:
        print_json(found)
    return 0


def _measure_pairs(word: str, file: Path, overrides: Sequence[str], silent: bool) -> dict[str, Any]:
    from alignzoo.cli.pairs import measure_pairs, print_pairs
    from alignzoo.evaluate.targets import resolve_target

    target = resolve_target(word, [*overrides, f"{KEY}=[]"])
    found = measure_pairs(target, file, overrides, _model)
    if not silent:
        print(f"\n{word}, on the pairs of {file}")
        print_pairs(found)
    return {"pairs": found}


def _measured(word: str, overrides: Sequence[str], save: bool, silent: bool) -> dict[str, Any]:
    from alignzoo.evaluate.metrics import summarise_sides
    from alignzoo.evaluate.targets import resolve_target

    named = resolve_target(word, overrides)
    if save and (named.run is None or named.folder != named.run / "model"):
        raise UserError(f"--save: {word} is not a run folder; its numbers have no place.")
    measured, data = measure(named)
    result = {**summarise_sides(measured), "data": data}
    if save and named.run is not None:
        from alignzoo.runs.record import Record

        Record.of(named.run).replace_measurements(measured, result)
    if not silent:
        _print(word, result)
    return result


def measure(target: Target) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """Return the target's lines on the held-out and validation rows, and the hashes of its configuration's rows."""
    from alignzoo.config.check import check
    from alignzoo.data.manifest import fingerprints
    from alignzoo.evaluate.judge import build_configured_judges, judge_lines
    from alignzoo.models import start_model
    from alignzoo.train.inputs import prepare_run

    inputs = prepare_run(check(target.cfg))
    _warn_seen(target, inputs)
    judges = build_configured_judges(target.cfg.judge)
    yardsticks = inputs.make_yardsticks()
    start = inputs.load_model(inputs.against).to(inputs.checked.device)
    before = {s: y.measure_start(start, start_model.identity(inputs.against)) for s, y in yardsticks.items()}
    model, adapted = _model(target, inputs)
    load = None if adapted and inputs.against == inputs.start else lambda: start
    found = {s: judge_lines(y.make_lines(before[s], y.measure(model, load)), judges) for s, y in yardsticks.items()}
    return found, fingerprints(inputs.data.manifest)


def _model(target: Target, inputs: RunInputs) -> tuple[Any, bool]:
    """Return the target's model, and whether it is the start model under an adapter."""
    from alignzoo.models import start_model
    from alignzoo.models.embeddings import refuse_ids_beyond
    from alignzoo.models.load import load_trained
    from alignzoo.models.pretrained import RemoteCode, is_scorer

    cfg, checked, folder = inputs.cfg, inputs.checked, target.folder
    if folder is None:
        folder = start_model.find_further(cfg.model, target.name)
        refuse_ids_beyond(target.name, folder, RemoteCode.of(cfg.model), inputs.tokenizer, [inputs.data.heldout])
    if inputs.trains_reward_model:
        if not is_scorer(folder):
            raise UserError(f"{target.name} is not a reward model, and method={cfg.method.name} trains one.")
        return inputs.load_model(folder).to(checked.device), False
    return load_trained(folder, inputs.start, cfg, checked.device, checked.precision)


def _warn_seen(target: Target, inputs: RunInputs) -> None:
    """A run's numbers on rows that it was trained on measure nothing."""
    from alignzoo.cli.manifest import read_manifest
    from alignzoo.data import manifest

    if target.run is None or not (target.run / manifest.FILE).is_file():
        return
    count = manifest.count_trained_on(read_manifest(target.run), inputs.data.manifest)
    if count:
        import logging

        logging.getLogger(__name__).warning(
            "%s was trained on %s of these held-out rows: its numbers do not measure it.", target.name, f"{count:,}"
        )


def _print(word: str, result: dict[str, Any]) -> None:
    from alignzoo.report.terminal import print_numbers

    print(f"\n{word}, against its start model")
    print_numbers(result)
