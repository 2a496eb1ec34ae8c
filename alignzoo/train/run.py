"""Trains one run, from the checked configuration to the written result."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import transformers

from alignzoo.config.plain import to_plain
from alignzoo.data.findings import findings
from alignzoo.data.manifest import fingerprints
from alignzoo.evaluate.judge import build_configured_judges
from alignzoo.evaluate.metrics import summarise_sides
from alignzoo.models import start_model
from alignzoo.models.sampling.patch import sampling_together
from alignzoo.models.shared_prefix.choice import Chooser
from alignzoo.models.shared_prefix.patch import choose_by_time, share_prefixes, sharing_ends
from alignzoo.plan.footprint import plan_peak
from alignzoo.report.model_card import Training, write_card
from alignzoo.report.terminal import print_answers, print_generated, print_plan, print_result
from alignzoo.report.training_curves import draw_curves
from alignzoo.runs import resume
from alignzoo.runs.folder import Run
from alignzoo.system import ranks
from alignzoo.system.disk import require_space
from alignzoo.system.signals import catch_signals
from alignzoo.train import guards
from alignzoo.train.batches import bound_batches
from alignzoo.train.callbacks import make_callbacks
from alignzoo.train.checkpointing import CheckpointSaver
from alignzoo.train.cost import Stopwatch, estimate_flops, read_peak_memory
from alignzoo.train.following import make_answers_on_the_way
from alignzoo.train.inputs import RunInputs, prepare_run
from alignzoo.train.measuring import Measuring
from alignzoo.train.processes import check_strategy_in_effect
from alignzoo.train.progress import restore_terminal
from alignzoo.train.pruning import make_pruning
from alignzoo.train.selection import find_selection
from alignzoo.train.stop import train_until_stopped

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from alignzoo.config.checked import Checked
    from alignzoo.runs.checkpoint import Checkpoint
    from alignzoo.runs.record import Record
    from alignzoo.runs.trackers import Tracker

#: Rows whose texts are inspected before a training; `alignzoo check` inspects all.
INSPECTED = 20_000


def train(
    checked: Checked,
    record: Record,
    tracker: Tracker,
    started: float,
    resume_from: Checkpoint | None,
    selects: bool = False,
    sweep: str | None = None,
) -> None:
    """Align and measure the configured model, and write the result into ``record``; each process of a run calls this.

    ``started``: when this start of the run began, as ``time.time()`` gives it; ``selects``: whether a sweep chooses its
    next jobs by the run's number; ``sweep``: the sweep's folder, where the run is one of its jobs.
    """
    inputs = prepare_run(checked)
    data = fingerprints(inputs.data.manifest)
    facts = resume.collect_facts(checked, inputs.start, data, inputs.teacher_folder)
    resume_from = ranks.broadcast(resume_from)
    resume.check(resume_from, facts)
    record.write_manifest(inputs.data.manifest)
    _print_inputs(inputs)
    judges = build_configured_judges(checked.cfg.judge)
    args = inputs.make_trl_config(record.folder)  # before a weight is loaded: TRL may refuse it

    planned_memory = plan_peak(checked, inputs.start, inputs.data, inputs.rows)
    model = inputs.load_model()
    require_space(record.folder, model.get_memory_footprint(), "the trained model")
    measuring = Measuring(inputs, judges)
    measuring.measure_start(model)

    with Stopwatch() as training:
        callbacks = _make_callbacks(inputs, record, measuring)
        trainer, saving = _train_model(inputs, args, model, record, started, facts, resume_from, callbacks, sweep)
    record.watch.check()
    record.save_model(trainer, whole=inputs.trains_reward_model)
    measuring.measure_trained(trainer, record.folder)
    if ranks.rank() == 0:  # the main process alone judges, and writes the result
        cost = _summarise_cost(inputs, trainer, saving, training, measuring.watch, started)
        selection = find_selection(inputs, trainer, selects or checked.cfg.prune.rule != "none")
        found = {**selection, "cost": {**cost, "planned_memory_bytes": planned_memory}}
        _report(inputs, record, tracker, measuring, facts, found)


def _report(
    inputs: RunInputs,
    record: Record,
    tracker: Tracker,
    measuring: Measuring,
    facts: dict[str, Any],
    found: dict[str, Any],
) -> None:
    """Judge the answers, and write and print the result; ``found``: what it holds beside inputs and numbers."""
    measured = measuring.judge()
    start = _describe_start(inputs, measuring.objective, facts)
    result = {**start, **summarise_sides(measured), **found}
    _write_results(result, measured, inputs.checked, inputs.data.manifest, record)
    tracker.summary({**result["after"], **result["cost"]})
    print_answers(measured["heldout"], inputs.cfg.evaluate.shown)
    print_result(result, record.folder)


def _print_inputs(inputs: RunInputs) -> None:
    """Print how the data was read, what was found in it, and how much will be trained on."""
    found = findings(inputs.cfg, inputs.data, stops=False, most=INSPECTED)
    print_generated(inputs.cfg.dataset)
    print_plan(inputs.data, inputs.method.data, inputs.plan, found)


def _train_model(
    inputs: RunInputs,
    args: Any,
    model: Any,
    record: Record,
    started: float,
    facts: dict[str, Any],
    resume_from: Checkpoint | None,
    callbacks: Sequence[Any],
    sweep: str | None,
) -> tuple[Any, CheckpointSaver]:
    """Train ``model``, with the reference's pass before it; return the trainer, and what saves its checkpoints.

    Raises:
        UserError: a guard has stopped the training.
        Preempted: the run was preempted, and is saved.
        Pruned: it has fallen behind the other jobs of its sweep.
    """
    cfg, time_limit = inputs.cfg, inputs.checked.time_limit
    with catch_signals() as received, sharing_ends():
        transformers.set_seed(cfg.seed)  # TRL makes an adapter's weights before it sets the seed
        trainer = inputs.build_trainer(args, model, [*make_callbacks(inputs.checked, record), *callbacks])
        share_prefixes(cfg, *_list_frozen(trainer))
        _choose_by_time(trainer, facts, resume_from, sweep)
        bound_batches(cfg, trainer)
        saving = CheckpointSaver(trainer, record.folder / "checkpoints", facts, resume_from)
        check_strategy_in_effect(cfg, trainer)
        unmoved = guards.sum_weights(trainer.model)
        with restore_terminal(trainer), sampling_together(cfg, trainer):
            train_until_stopped(trainer, saving, received, time_limit and started + time_limit)
        guards.check_trained(trainer, unmoved)
    return trainer, saving


def _choose_by_time(trainer: Any, facts: dict[str, Any], resume_from: Checkpoint | None, sweep: str | None) -> None:
    """Let the first batch decide whether prompts are shared, and enter what it decides into ``facts``.

    A run that is resumed keeps its choice. Several processes have no part in it: their batches and their times differ.
    """
    if ranks.world_size() == 1:
        before = resume_from.facts.get("sharing") if resume_from else None
        chooser = Chooser(before, sweep, tell=lambda choice: facts.update(sharing=vars(choice)))
        choose_by_time(trainer.accelerator.unwrap_model(trainer.model), chooser)


def _make_callbacks(inputs: RunInputs, record: Record, measuring: Measuring) -> list[Any]:
    """Return what asks the model on its way: for some answers, and for the number by which it may be pruned."""
    yardsticks, before = measuring.yardsticks, measuring.before
    answers = make_answers_on_the_way(inputs, record.folder, yardsticks["heldout"], before["heldout"])
    return [*answers, *make_pruning(inputs, record, yardsticks, before, measuring.judges)]


def _list_frozen(trainer: Any) -> list[Any]:
    """Return the reference model and the teacher that the trainer holds, without a strategy's wrapper."""
    held = [getattr(trainer, name, None) for name in ("ref_model", "teacher_model")]
    return [trainer.accelerator.unwrap_model(model) for model in held if model is not None]


def _summarise_cost(
    inputs: RunInputs, trainer: Any, saving: CheckpointSaver, training: Stopwatch, measuring: Stopwatch, started: float
) -> dict[str, Any]:
    """Return the run's steps, seconds, operations and memory."""
    before = saving.before_resume.train_seconds
    taught = inputs.teacher if inputs.method.uses_teacher else None
    return {
        "steps": trainer.state.global_step,
        "resumed": saving.before_resume.resumed,
        "train_seconds": before + training.seconds,
        "measure_seconds": measuring.seconds,
        "total_seconds": before + time.time() - started,
        "trained_tokens": inputs.plan.tokens,
        "flops": estimate_flops(trainer.model, inputs.plan.tokens, inputs.method.needs_reference, taught),
        "peak_memory_bytes": read_peak_memory(inputs.checked.device),
    }


def _describe_start(inputs: RunInputs, objective: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Return what ``result.json`` says of the run's inputs; ``facts``: what its checkpoints are made of."""
    return {
        "method": inputs.cfg.method.name,
        "objective": objective,
        "start": {"folder": str(inputs.start), "identity": start_model.identity(inputs.start)},
        "against": {"folder": str(inputs.against), "identity": start_model.identity(inputs.against)},
        **({"teacher": _describe_teacher(inputs)} if inputs.teacher_folder else {}),
        "data": facts["data"],
        "rows": inputs.data.manifest["decision"].value_counts().to_dict(),
        "unread": inputs.data.unread.describe(inputs.method.data),
        "plan": vars(inputs.plan),
        **({"sharing": facts["sharing"]} if "sharing" in facts else {}),
        **({"study": to_plain(inputs.cfg.study)} if "study" in inputs.cfg else {}),
    }


def _describe_teacher(inputs: RunInputs) -> dict[str, Any]:
    """Return which teacher it was: the folder of a hub's model names its commit."""
    folder, cfg = inputs.teacher_folder, inputs.cfg.teacher
    assert folder is not None
    named = {"name": cfg.name, "path": cfg.path or cfg.wheel, "revision": cfg.revision}
    return {**named, "folder": str(folder), "identity": start_model.identity(folder)}


def _write_results(
    result: dict[str, Any],
    measured: dict[str, list[dict[str, Any]]],
    checked: Checked,
    rows: pd.DataFrame,
    record: Record,
) -> None:
    """Write model card, curves, completions and, last of all, the result; ``rows``: the manifest."""
    cfg = checked.cfg
    record.watch.check()
    write_card(Training(Run(record.folder), cfg, checked.method, result, rows, len(measured["heldout"])))
    draw_curves(
        record.read_history(), record.folder / "plots", f"{cfg.method.name}, {cfg.model.name}, {cfg.dataset.name}"
    )
    record.write_answers(measured)
    record.write_result(result)
