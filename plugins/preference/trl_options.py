"""Refuses combinations of TRL's DPO options that TRL would name only once the model is loaded, or at the first step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from alignzoo import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

#: The divergences that TRL has.
DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")

#: The losses of TRL that another divergence than the reverse KL changes.
DIVERGING = {"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"}

#: The losses that sort the pairs of a batch, so that a pair has no weight.
SORTING = {"aot", "aot_unpaired"}


def check_options(cfg: DictConfig) -> None:
    """Refuse options of TRL's DPOTrainer that do not go together; for :meth:`alignzoo.Method.check`."""
    for fault in (*_find_loss_faults(cfg), *_find_reference_faults(cfg)):
        raise UserError(fault)


def _find_loss_faults(cfg: DictConfig) -> Iterator[str]:
    read, losses = cfg.method.get, list(cfg.method.get("loss_type") or ["sigmoid"])
    weights, divergence, smoothing = (read(key) for key in ("loss_weights", "f_divergence_type", "label_smoothing"))
    if weights is not None and len(weights) != len(losses):
        yield f"method.loss_weights has {len(weights)} weights, and method.loss_type {len(losses)} losses."
    if "exo_pair" in losses and not 0 < (smoothing or 0) < 0.5:
        yield (
            f"method.label_smoothing={smoothing or 0} must be above 0 and below 0.5 for the loss exo_pair; TRL "
            "recommends 0.001. method=exo sets it."
        )
    if divergence is not None and divergence not in DIVERGENCES:
        yield f"method.f_divergence_type={divergence} must be one of {', '.join(DIVERGENCES)}."
    others = sorted({*losses} - DIVERGING)
    if divergence not in (None, "reverse_kl") and others:
        yield f"method.f_divergence_type={divergence} has no meaning for {', '.join(others)}. Leave it out."
    if read("use_weighting") and SORTING & {*losses}:
        yield "method.use_weighting weighs pairs, and the losses aot and aot_unpaired sort them. Leave it out."
    if "discopop" in losses and (read("discopop_tau", 0.05) or 0) <= 0:
        yield f"method.discopop_tau={read('discopop_tau')} must be above 0."


def _find_reference_faults(cfg: DictConfig) -> Iterator[str]:
    if not cfg.method.get("sync_ref_model"):
        return
    if cfg.peft.name != "none":
        yield "method.sync_ref_model: TRL moves no reference beside an adapter. Use method=tr_dpo, which does."
    if cfg.method.get("precompute_ref_log_probs"):
        yield (
            "method.sync_ref_model moves the reference, whose log-probabilities are computed once. Use method=tr_dpo, "
            "or add method.precompute_ref_log_probs=false."
        )
