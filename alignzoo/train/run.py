"""One run, top to bottom."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import transformers

from alignzoo.config.placement import check_divided, micro_batch
from alignzoo.data.convert import convert
from alignzoo.data.findings import findings
from alignzoo.data.manifest import fingerprints
from alignzoo.evaluate.judge import configured_judge, judged
from alignzoo.evaluate.metrics import told
from alignzoo.evaluate.rewards import Rewards, configured_rewards
from alignzoo.models import start_model
from alignzoo.models.adapter import adapter_config
from alignzoo.plan.footprint import planned_peak
from alignzoo.plugin.method import Method, ModelKind, TrainParts
from alignzoo.report.model_card import write_card
from alignzoo.report.terminal import print_answers, print_plan, print_result
from alignzoo.report.training_curves import draw_curves
from alignzoo.runs import resume
from alignzoo.runs.record import Record
from alignzoo.runs.trackers import Tracker
from alignzoo.system import ranks
from alignzoo.system.disk import require_space
from alignzoo.system.signals import listening, seconds
from alignzoo.train import guards
from alignzoo.train.callbacks import standard_callbacks
from alignzoo.train.checkpointing import Saving
from alignzoo.train.cost import Watch, peak_memory, training_flops
from alignzoo.train.inputs import Ready, make_ready
from alignzoo.train.stop import train_until_told
from alignzoo.train.trl_config import trl_config

if TYPE_CHECKING:
    from pathlib import Path

    from omegaconf import DictConfig
    from transformers import PreTrainedModel

#: Rows whose texts are looked at before a training; `alignzoo check` looks at all.
INSPECTED = 20_000


def train(cfg: DictConfig, method: type[Method], record: Record, tracker: Tracker) -> dict[str, Any]:
    """Align the model that ``cfg`` names with ``method``, and return the run's result, as ``result.json`` holds it.

    Where several processes train together, each runs this; the result is the main one's, the others' is empty.
    """
    from alignzoo.models.shared_prefix.patch import share_prefixes, sharing_ends
    from alignzoo.train.batches import bound_batches

    ready = make_ready(cfg, method)
    data = fingerprints(ready.data.manifest)
    facts = resume.facts(cfg, ready, data)
    record.came = ranks.from_main(record.came)
    resume.check(record.came, facts)
    record.manifest(ready.data.manifest)
    print_plan(ready.data, method.data, ready.plan, findings(cfg, ready.data, stops=False, most=INSPECTED))
    judge = configured_judge(cfg.judge)
    rewards = configured_rewards(cfg, method, ready.rows, ready.data.heldout, ready.stops)
    args = trl_config_of(cfg, method, ready, rewards, record.folder)  # before a weight is loaded: TRL may refuse it

    planned_memory = planned_peak(cfg, method, ready)
    model = ready.load(cfg)
    require_space(record.folder, model.get_memory_footprint(), "the trained model")
    yardstick = ready.yardstick(cfg, rewards)
    with Watch() as measuring:
        before = yardstick.measure_start(compared(cfg, ready, model), start_model.identity(ready.against))

    with Watch() as training, listening() as notice, sharing_ends():  # with the reference's pass
        transformers.set_seed(cfg.seed)  # TRL makes an adapter's weights before it sets the seed
        trainer = method().build_trainer(train_parts(cfg, method, ready, args, rewards, model, record))
        share_prefixes(cfg, reference_of(trainer))
        bound_batches(cfg, trainer)
        saving = Saving(trainer, record.folder / "checkpoints", facts, record.came)
        check_divided(cfg, trainer)
        unmoved = guards.fingerprint(trainer.model)
        time_limit = seconds(cfg.train.stop_before)
        train_until_told(trainer, saving, notice, time_limit and record.started + time_limit)
        guards.check_trained(trainer, unmoved)
    record.model(trainer, whole=method.trains is ModelKind.REWARD_MODEL)

    with measuring:
        after = yardstick.measure(ready.trained_model(cfg, trainer, record.folder), ready.start_model(cfg))
    if ranks.rank() != 0:  # the main process alone judges, and writes what the run is told by
        return {}
    with ranks.alone():
        lines = judged(yardstick.lines(before, after), judge)
    result = {
        "method": cfg.method.name,
        "objective": yardstick.objective,
        "start": {"folder": str(ready.start), "identity": start_model.identity(ready.start)},
        "against": {"folder": str(ready.against), "identity": start_model.identity(ready.against)},
        "data": data,
        "rows": ready.data.manifest["decision"].value_counts().to_dict(),
        "plan": vars(ready.plan),
        **told(lines),
        "cost": {
            "steps": trainer.state.global_step,
            "resumed": saving.spent.resumed,
            "train_seconds": saving.spent.train_seconds + training.seconds,
            "measure_seconds": measuring.seconds,
            "total_seconds": saving.spent.train_seconds + time.time() - record.started,
            "trained_tokens": ready.plan.tokens,
            "flops": training_flops(trainer.model, ready.plan.tokens, method.needs_reference),
            "peak_memory_bytes": peak_memory(ready.device),
            "planned_memory_bytes": planned_memory,
        },
    }
    write_card(record.folder / "model", cfg, method, result)
    draw_curves(record.history(), record.folder / "plots", f"{cfg.method.name}, {cfg.model.name}, {cfg.dataset.name}")
    record.answers(lines)
    record.finish(result)
    tracker.summary({**result["after"], **result["cost"]})
    print_answers(lines, cfg.evaluate.shown)
    print_result(result, record.folder)
    return result


def compared(cfg: DictConfig, ready: Ready, model: PreTrainedModel) -> Any:
    """Return the model to measure against: ``model`` before its training, or that of ``evaluate.against``."""
    return (model if ready.against == ready.start else ready.load(cfg, ready.against)).to(ready.device)


def reference_of(trainer: Any) -> Any:
    """Return the reference model that the trainer holds, out of what a strategy has wrapped it in, or None."""
    reference = getattr(trainer, "ref_model", None)
    return None if reference is None else trainer.accelerator.unwrap_model(reference)


def trl_config_of(cfg: DictConfig, method: type[Method], ready: Ready, rewards: Rewards, folder: Path) -> Any:
    """Return the method's TRL config."""
    more = {"reward_weights": rewards.weights} if method.uses_rewards else {}
    return trl_config(cfg, method, folder, ready.device, ready.precision, ready.plan, **more)


def train_parts(
    cfg: DictConfig,
    method: type[Method],
    ready: Ready,
    args: Any,
    rewards: Rewards,
    model: PreTrainedModel,
    record: Record,
) -> TrainParts:
    """Return what the method builds its trainer from."""
    from alignzoo.models.shared_prefix.patch import share_prefixes

    share_prefixes(cfg, model)
    heldout = None
    if args.eval_strategy != "no" and len(ready.data.heldout):  # asked for by +train.eval_strategy
        heldout = convert(ready.data.heldout, ready.data.kind, method.data, micro_batch(cfg), cfg.seed)
    return TrainParts(
        cfg=cfg,
        args=args,
        model=model,
        tokenizer=ready.tokenizer,
        train=ready.rows,
        heldout=heldout,
        peft_config=adapter_config(cfg.peft, method.trains),
        rewards=rewards.functions,
        callbacks=standard_callbacks(cfg, method, record, ready.precision),
    )
