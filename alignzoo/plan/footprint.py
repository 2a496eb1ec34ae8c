"""Plans the peak memory of one run, including what this process already holds."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
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
    from alignzoo.plan.phases import Holding, Passes, Workload
    from alignzoo.plugin.method import Method

log = logging.getLogger(__name__)


def make_passes(
    cfg: DictConfig, method: type[Method], config: Any, work: Workload, device: str, precision: str, peft: DictConfig
) -> Passes:
    """Return the passes of a run of ``method`` with the adapter ``peft``; ``config`` is the model's."""
    from alignzoo.plan.packed import apply_packing
    from alignzoo.plan.passes import Settings
    from alignzoo.plan.phases import Passes
    from alignzoo.plan.skeleton import build_skeleton, build_teacher

    checkpointing = cfg.train.gradient_checkpointing
    settings = Settings(
        device=device,
        precision=precision,
        checkpointing=device != "cpu" if checkpointing == "auto" else bool(checkpointing),
        whole_logits=method.whole_logits,
        accumulates=work.batches > 1,
        classifies=method.trains is ModelKind.REWARD_MODEL,
        taught=method.uses_teacher,
    )
    model = build_skeleton(config, cfg, precision, peft, method.trains)
    packed, holding = apply_packing(cfg, work, model, device), _find_holding(cfg, method, peft)
    return Passes(model, packed, settings, holding, build_teacher(cfg, precision, model))


def _find_holding(cfg: DictConfig, method: type[Method], peft: DictConfig) -> Holding:
    """Return what a run of ``method`` with the adapter ``peft`` holds beside the policy."""
    from alignzoo.plan.phases import Holding

    return Holding(
        reference=method.holds_reference(cfg) and peft.name == "none",
        precomputes=method.needs_reference and bool(cfg.method.get("precompute_ref_log_probs", False)),
    )


@dataclass(frozen=True)
class _Run:
    """A run whose peak is asked for; those with the same ``key`` have the same."""

    key: str
    compute_peak: Callable[[], int] = field(compare=False)


@lru_cache(maxsize=64)
def _find_peak(run: _Run) -> int:
    """Return the peak of ``run``, computed once in a process: most jobs of a sweep have the same."""
    return run.compute_peak()


def _make_key(checked: Checked, config: Any, work: Workload) -> str:
    """Return all that a peak depends on: other groups count only by the workload, and by what the method holds."""
    cfg = {group: to_plain(checked.cfg[group]) for group in ("model", "teacher", "peft", "speed", "strategy", "train")}
    holding = _find_holding(checked.cfg, checked.method, checked.cfg.peft)
    facts = [config.to_dict(), cfg, checked.device, checked.precision, checked.placement.processes]
    return json.dumps([*facts, repr(checked.method), repr(work), repr(holding)], sort_keys=True, default=str)


def plan_peak(checked: Checked, start: Path, data: Prepared, rows: Dataset) -> int | None:
    """Return the peak memory of the run that is about to begin, in bytes, as ``read_peak_memory`` will measure it.

    None, with a note in the log, for a model whose code cannot run on tensors without values.

    Args:
        start: the start model's folder.
        data: the prepared rows.
        rows: those to train on, in the method's format.
    """
    from alignzoo.models.pretrained import RemoteCode, read_config
    from alignzoo.plan.phases import list_phases
    from alignzoo.plan.sharding import find_sharding
    from alignzoo.plan.workload import make_workload, read_lengths

    cfg, method, devices = checked.cfg, checked.method, checked.placement.processes
    try:
        config = read_config(start, RemoteCode.of(cfg.model))
        work = make_workload(cfg, method, read_lengths(checked, data, rows), devices)
        sharding = find_sharding(cfg.strategy.name, devices)

        def compute_peak() -> int:
            passes = make_passes(cfg, method, config, work, checked.device, checked.precision, cfg.peft)
            return max(phase.total for phase in list_phases(passes, sharding, devices))

        peak = _find_peak(_Run(_make_key(checked, config, work), compute_peak))
    except Exception as error:  # a model's own code may do anything; the run itself does not need this
        log.warning("the memory of this run cannot be planned: %s: %s", type(error).__name__, error)
        return None
    memory.free_unused()  # a model that was converted leaves much that the run uses again
    return peak + (memory.read_resident() if checked.device == "cpu" else 0)
