"""Plans the peak memory of one run, including what this process already holds."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from alignzoo.plugin.method import ModelKind
from alignzoo.system import memory

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset
    from omegaconf import DictConfig

    from alignzoo.config.checked import Checked
    from alignzoo.data.prepare import Prepared
    from alignzoo.plan.phases import Passes, Workload
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


def plan_peak(checked: Checked, start: Path, data: Prepared, rows: Dataset) -> int | None:
    """Return the peak memory of the run that is about to begin, in bytes, as ``read_peak_memory`` will measure it.

    None, with a note in the log, for a model whose code cannot run on tensors without values.

    Args:
        start: the start model's folder.
        data: the prepared rows.
        rows: those to train on, in the method's format.
    """
    from transformers import AutoConfig

    from alignzoo.plan.phases import list_phases
    from alignzoo.plan.sharding import find_sharding
    from alignzoo.plan.workload import make_workload, read_lengths

    cfg, method, devices = checked.cfg, checked.method, checked.placement.processes
    try:
        config = AutoConfig.from_pretrained(start, trust_remote_code=cfg.model.trust_remote_code)
        work = make_workload(cfg, method, read_lengths(checked, data, rows), devices)
        passes = make_passes(cfg, method, config, work, checked.device, checked.precision, cfg.peft)
        peak = max(phase.total for phase in list_phases(passes, find_sharding(cfg.strategy.name, devices), devices))
    except Exception as error:  # a model's own code may do anything; the run itself does not need this
        log.warning("the memory of this run cannot be planned: %s: %s", type(error).__name__, error)
        return None
    memory.free_unused()  # a model that was converted leaves much that the run uses again
    return peak + (memory.read_resident() if checked.device == "cpu" else 0)
