"""Plans the peak memory of one run, including what this process already holds."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from alignzoo.config.plain import to_plain
from alignzoo.plugin.method import ModelKind
from alignzoo.system import memory

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset
    from omegaconf import DictConfig

    from alignzoo.config.checked import Checked
    from alignzoo.data.prepare import Prepared
    from alignzoo.plan.phases import Passes, Workload
    from alignzoo.plan.sharding import Sharding
    from alignzoo.plugin.method import Method

log = logging.getLogger(__name__)


def make_passes(
    cfg: DictConfig, method: type[Method], config: Any, work: Workload, device: str, precision: str, peft: DictConfig
) -> Passes:
    """Return the passes of a run of ``method`` with the adapter ``peft``; ``config`` is the model's."""
    from alignzoo.plan.packed import apply_packing
    from alignzoo.plan.passes import Settings
    from alignzoo.plan.phases import Holding, Passes
    from alignzoo.plan.skeleton import build_skeleton

    checkpointing = cfg.train.gradient_checkpointing
    settings = Settings(
        device=device,
        precision=precision,
        checkpointing=device != "cpu" if checkpointing == "auto" else bool(checkpointing),
        whole_logits=method.whole_logits,
        accumulates=work.batches > 1,
        classifies=method.trains is ModelKind.REWARD_MODEL,
    )
    adapted = peft.name != "none"
    holding = Holding(
        reference=method.holds_reference(cfg) and not adapted,
        precomputes=method.needs_reference and bool(cfg.method.get("precompute_ref_log_probs", False)),
    )
    model = build_skeleton(config, cfg, precision, peft, method.trains)
    return Passes(model, apply_packing(cfg, work, model, device), settings, holding)


@dataclass(frozen=True)
class _Run:
    """All that a run's peak depends on; most jobs of a sweep have the same, and it is found once."""

    settings: str
    method: type[Method]
    work: Workload
    sharding: Sharding
    devices: int
    make_passes: Callable[[], Passes] = field(compare=False)


@lru_cache(maxsize=64)
def _find_peak(run: _Run) -> int:
    """Return the bytes of the largest phase."""
    from alignzoo.plan.phases import list_phases

    return max(phase.total for phase in list_phases(run.make_passes(), run.sharding, run.devices))


def _describe_settings(checked: Checked, config: Any) -> str:
    """Return, as JSON, the model's architecture and every key but those that matter only by what the method holds."""
    cfg = {key: value for key, value in to_plain(checked.cfg).items() if key not in ("seed", "method", "resume")}
    held = (checked.method.holds_reference(checked.cfg), checked.cfg.method.get("precompute_ref_log_probs"))
    return json.dumps([config.to_dict(), cfg, checked.device, checked.precision, held], sort_keys=True, default=str)


def plan_peak(checked: Checked, start: Path, data: Prepared, rows: Dataset) -> int | None:
    """Return the peak memory of the run that is about to begin, in bytes, as ``read_peak_memory`` will measure it.

    None, with a note in the log, for a model whose code cannot run on tensors without values.

    Args:
        start: the start model's folder.
        data: the prepared rows.
        rows: those to train on, in the method's format.
    """
    from transformers import AutoConfig

    from alignzoo.plan.sharding import find_sharding
    from alignzoo.plan.workload import make_workload, read_lengths

    cfg, method, devices = checked.cfg, checked.method, checked.placement.processes
    try:
        config = AutoConfig.from_pretrained(start, trust_remote_code=cfg.model.trust_remote_code)
        work = make_workload(cfg, method, read_lengths(checked, data, rows), devices)
        make = partial(make_passes, cfg, method, config, work, checked.device, checked.precision, cfg.peft)
        sharding = find_sharding(cfg.strategy.name, devices)
        peak = _find_peak(_Run(_describe_settings(checked, config), method, work, sharding, devices, make))
    except Exception as error:  # a model's own code may do anything; the run itself does not need this
        log.warning("the memory of this run cannot be planned: %s: %s", type(error).__name__, error)
        return None
    memory.free_unused()  # a model that was converted leaves much that the run uses again
    return peak + (memory.read_resident() if checked.device == "cpu" else 0)
