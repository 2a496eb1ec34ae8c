"""One run, top to bottom."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from alignzoo import guards, models, weights
from alignzoo.arguments import trl_config
from alignzoo.callbacks import standard_callbacks
from alignzoo.data.formats import convert, with_pairs
from alignzoo.data.inspect import findings
from alignzoo.data.manifest import fingerprints
from alignzoo.disk import require_space
from alignzoo.evaluate.measure import Measured, Yardstick
from alignzoo.method import Method, TrainParts
from alignzoo.ready import Ready, make_ready
from alignzoo.record import Record, peak_memory
from alignzoo.report.card import write_card
from alignzoo.report.curves import draw_curves
from alignzoo.report.summary import print_answers, print_plan, print_result
from alignzoo.rewards import RewardFunction, build_rewards
from alignzoo.trackers import Tracker

if TYPE_CHECKING:
    from pathlib import Path

    from omegaconf import DictConfig
    from transformers import PreTrainedModel

#: Rows whose texts are looked at before a training; `alignzoo check` looks at all.
INSPECTED = 20_000


def train(cfg: DictConfig, method: type[Method], record: Record, tracker: Tracker) -> dict[str, Any]:
    """Align the model that ``cfg`` names with ``method``, and return the run's result, as ``result.json`` holds it."""
    ready = make_ready(cfg, method)
    record.manifest(ready.data.manifest)
    print_plan(ready.data, method.data, ready.plan, findings(cfg, ready.data, stops=False, most=INSPECTED))
    args, rewards = trl_config_and_rewards(cfg, method, ready, record.folder)

    model = models.load_policy(ready.start, cfg, ready.device, ready.precision)
    require_space(record.folder, model.get_memory_footprint(), "the trained model")
    yardstick = Yardstick(cfg.evaluate, with_pairs(ready.data.heldout, ready.data.kind), ready.tokenizer, ready.stops)
    before = yardstick.measure_start(model.to(ready.device), weights.identity(ready.start))

    began = time.perf_counter()  # from here on, so that the reference's pass counts
    trainer = method().build_trainer(train_parts(cfg, method, ready, args, rewards, model, record))
    unmoved = guards.fingerprint(trainer.model)
    trainer.train()
    guards.check_trained(trainer, unmoved)
    seconds = time.perf_counter() - began
    record.model(trainer)

    after = yardstick.measure(trainer.model)
    answers = side_by_side(yardstick, before, after)
    result = {
        "method": cfg.method.name,
        "objective": cfg.evaluate.objective,
        "start": {"folder": str(ready.start), "identity": weights.identity(ready.start)},
        "data": fingerprints(ready.data.manifest),
        "rows": ready.data.manifest["decision"].value_counts().to_dict(),
        "plan": vars(ready.plan),
        "before": yardstick.numbers(before, before),
        "after": yardstick.numbers(after, before),
        "cost": {
            "steps": trainer.state.global_step,
            "train_seconds": seconds,
            "total_seconds": time.time() - record.started,
            "peak_memory_bytes": peak_memory(ready.device),
        },
    }
    write_card(record.folder / "model", cfg, method, result)
    draw_curves(record.history(), record.folder / "plots", f"{cfg.method.name}, {cfg.model.name}, {cfg.dataset.name}")
    record.answers(answers)
    record.finish(result)
    tracker.summary({**result["after"], **result["cost"]})
    print_answers(answers, cfg.evaluate.shown)
    print_result(result, record.folder)
    return result


def trl_config_and_rewards(
    cfg: DictConfig, method: type[Method], ready: Ready, folder: Path
) -> tuple[Any, list[RewardFunction]]:
    """Return the method's TRL config and rewards: what either refuses is known before a weight is loaded."""
    rewards: list[RewardFunction] = []
    more = {}
    if method.uses_rewards:
        rewards, more["reward_weights"] = build_rewards(cfg.reward, set(ready.rows.column_names), ready.stops)
    return trl_config(cfg, method, folder, ready.device, ready.precision, ready.plan, **more), rewards


def train_parts(
    cfg: DictConfig,
    method: type[Method],
    ready: Ready,
    args: Any,
    rewards: list[RewardFunction],
    model: PreTrainedModel,
    record: Record,
) -> TrainParts:
    """Return what the method builds its trainer from."""
    heldout = None
    if args.eval_strategy != "no" and len(ready.data.heldout):  # asked for by +train.eval_strategy
        batch = cfg.train.per_device_batch_size
        heldout = convert(ready.data.heldout, ready.data.kind, method.data, batch, cfg.seed)
    return TrainParts(
        cfg=cfg,
        args=args,
        model=model,
        tokenizer=ready.tokenizer,
        train=ready.rows,
        heldout=heldout,
        peft_config=models.adapter_config(cfg.peft),
        rewards=rewards,
        callbacks=standard_callbacks(cfg, method, record, ready.precision),
    )


def side_by_side(yardstick: Yardstick, before: Measured, after: Measured) -> list[dict[str, Any]]:
    """Return each held-out prompt's id and text, and its answers before and after."""
    if not before.answers:
        return []
    prompts = [json.loads(prompt)[-1]["content"] for prompt in yardstick.rows["prompt"]]
    rows = zip(yardstick.rows["id"], prompts, before.answers, after.answers, strict=True)
    return [{"id": i, "prompt": p, "before": vars(b), "after": vars(a)} for i, p, b, a in rows]
