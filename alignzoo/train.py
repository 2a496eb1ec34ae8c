"""One run, top to bottom."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alignzoo import guards, models, settings, weights
from alignzoo.callbacks import standard_callbacks
from alignzoo.data.formats import convert, with_pairs
from alignzoo.data.inspect import findings
from alignzoo.data.manifest import fingerprints
from alignzoo.data.prepare import Prepared, prepare
from alignzoo.data.tokens import Tokeniser
from alignzoo.device import check_peft, choose_device, choose_precision
from alignzoo.disk import require_space
from alignzoo.evaluate.measure import Measured, Yardstick
from alignzoo.method import Method, TrainParts
from alignzoo.plan import make_plan, mean_length
from alignzoo.record import Record, peak_memory
from alignzoo.report.card import write_card
from alignzoo.report.curves import draw_curves
from alignzoo.report.summary import print_answers, print_plan, print_result
from alignzoo.rewards import build_rewards
from alignzoo.trackers import Tracker

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from transformers import Trainer

#: Rows whose texts are looked at before a training; `alignzoo check` looks at all.
INSPECTED = 20_000


def train(cfg: DictConfig, method: type[Method], record: Record, tracker: Tracker) -> dict[str, Any]:
    """Align the model that ``cfg`` names with ``method``, and return the run's result, as ``result.json`` holds it."""
    device = choose_device(cfg.strategy.device)
    precision = choose_precision(cfg.train.precision, device)
    check_peft(cfg, device)

    start = weights.start_folder(cfg.model)
    tokenizer = models.load_tokenizer(start, cfg.model)
    data = prepare(cfg, Tokeniser(tokenizer, models.configured_stops(start)))
    rows = convert(data.train, data.kind, method.data, cfg.train.per_device_batch_size, cfg.seed)
    plan = make_plan(cfg, rows, method.data, mean_length(data.train, "prompt_ids"))
    record.manifest(data.manifest)
    print_plan(data, method.data, plan, findings(cfg, data, stops=False, most=INSPECTED))

    model = models.load_policy(start, cfg, device, precision)
    require_space(record.folder, model.get_memory_footprint(), "the trained model")
    arguments = settings.trl_arguments(cfg, method, record.folder, device, precision, plan.bound)
    stops = models.stop_ids(model, tokenizer)
    rewards: list[Any] = []
    if method.uses_rewards:
        rewards, arguments["reward_weights"] = build_rewards(cfg.reward, set(rows.column_names), stops)

    yardstick = Yardstick(cfg.evaluate, with_pairs(data.heldout, data.kind), tokenizer, stops)
    before = yardstick.measure_start(model.to(device), weights.identity(start)) if cfg.evaluate.enabled else None

    trainer = method().build_trainer(
        TrainParts(
            cfg=cfg,
            arguments=arguments,
            model=model,
            tokenizer=tokenizer,
            train=rows,
            heldout=_heldout_rows(cfg, method, data, arguments),
            peft_config=models.adapter_config(cfg.peft),
            rewards=rewards,
            callbacks=standard_callbacks(cfg, method, record, precision),
        )
    )
    seconds = _fit(trainer)
    trainer.save_model(str(record.folder / "model"))
    record.tidy()

    after = yardstick.measure(trainer.model) if before else None
    answers = _side_by_side(yardstick, before, after) if before and after else []
    result = {
        "method": cfg.method.name,
        "start": {"folder": str(start), "identity": weights.identity(start)},
        "objective": cfg.evaluate.objective,
        "before": yardstick.numbers(before, before) if before else {},
        "after": yardstick.numbers(after, before) if before and after else {},
        "data": fingerprints(data.manifest),
        "plan": vars(plan),
        "rows": data.manifest["decision"].value_counts().to_dict(),
        "cost": {
            "steps": trainer.state.global_step,
            "train_seconds": seconds,
            "total_seconds": time.time() - record.started,
            "peak_memory_bytes": peak_memory(device),
        },
    }
    draw_curves(record.history(), record.folder / "plots", f"{cfg.method.name}, {cfg.model.name}, {cfg.dataset.name}")
    write_card(record.folder / "model", cfg, method, result)
    record.answers(answers)
    record.finish(result)
    tracker.summary({**result["after"], **result["cost"]})
    print_answers(answers, cfg.evaluate.shown)
    print_result(result, record.folder)
    return result


def _fit(trainer: Trainer) -> float:
    """Train, check that something was learned, and return the seconds, which include the reference's pass."""
    before = guards.fingerprint(trainer.model)
    started = time.perf_counter()
    trainer.train()
    guards.check_trained(trainer, before)
    return time.perf_counter() - started


def _heldout_rows(cfg: DictConfig, method: type[Method], data: Prepared, arguments: dict[str, Any]) -> Any:
    """Return held-out rows for the trainer's own evaluation, where ``+train.eval_strategy`` asks for it."""
    if arguments.get("eval_strategy", "no") == "no" or not len(data.heldout):
        return None
    return convert(data.heldout, data.kind, method.data, cfg.train.per_device_batch_size, cfg.seed)


def _side_by_side(yardstick: Yardstick, before: Measured, after: Measured) -> Sequence[dict[str, Any]]:
    prompts = [json.loads(prompt)[-1]["content"] for prompt in yardstick.rows["prompt"]]
    rows = zip(yardstick.rows["id"], prompts, before.answers, after.answers, strict=True)
    return [{"id": i, "prompt": p, "before": vars(b), "after": vars(a)} for i, p, b, a in rows]
