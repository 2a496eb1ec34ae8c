"""What DPOTrainer's options make of an equation: other log-probabilities, other scores, weights of pairs and losses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from alignzoo import Batch, UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor

Equation = Callable[["DictConfig", Batch], "Tensor | None"]

SIDES = ("chosen", "rejected")

#: Losses of the difference of scores alone, to which another divergence adds nothing but its scores. IPO and
#: length-normalised DPO divide scores by lengths: a constant in a divergence's derivative would then count.
OF_DIFFERENCES = frozenset({"sigmoid", "hinge", "exo_pair", "robust", "discopop"})

#: Losses of a batch, and not of its pairs one by one: no pair of theirs can be weighed.
OF_BATCHES = frozenset({"aot", "aot_unpaired", "sft"})


#: Losses that TRL refuses with another divergence: their papers define none.
OF_LOG_RATIOS = frozenset({"nca_pair", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero", "apo_down"})

DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")

#: TRL's defaults of what an equation reads and a method's YAML may leave out.
DEFAULTS = {"label_smoothing": 0.0, "discopop_tau": 0.05}


def check_options(cfg: DictConfig, kinds: Sequence[str]) -> None:
    """Refuse what TRL refuses only once the model is loaded, or at the first step, and weights without sense."""
    chosen = cfg.method
    weights, kind = chosen.get("loss_weights"), chosen.get("f_divergence_type", "reverse_kl")
    if weights is not None and len(weights) != len(kinds):
        raise UserError(f"method.loss_weights={list(weights)}: it takes one weight for each of {', '.join(kinds)}.")
    if kind not in DIVERGENCES:
        raise UserError(f"method.f_divergence_type={kind} must be one of {', '.join(DIVERGENCES)}.")
    unfit = sorted(OF_LOG_RATIOS.intersection(kinds))
    if kind != "reverse_kl" and unfit:
        raise UserError(f"method.f_divergence_type={kind}: the loss {', '.join(unfit)} has no such form. Leave it out.")
    smoothing = chosen.get("label_smoothing") or 0
    if "exo_pair" in kinds and not 0 < smoothing < 0.5:
        raise UserError(
            f"method.label_smoothing={smoothing} must be above 0 and below 0.5 for the loss exo_pair; TRL recommends "
            "0.001. method=exo sets it."
        )
    if "discopop" in kinds and (chosen.get("discopop_tau", 0.05) or 0) <= 0:
        raise UserError(f"method.discopop_tau={chosen.get('discopop_tau')} must be above 0.")
    if chosen.get("use_weighting") and {"aot", "aot_unpaired"}.intersection(kinds):
        raise UserError("method.use_weighting weighs pairs, and aot sorts them: leave out one of the two.")
    if chosen.get("use_weighting") and "hinge" in kinds:
        raise UserError(
            "method.use_weighting: TRL 1.16 cannot differentiate the loss hinge with it. Leave out one of them."
        )
    if not 0 <= (1.0 if chosen.get("ld_alpha") is None else chosen.ld_alpha) <= 1:
        raise UserError(
            f"method.ld_alpha={chosen.ld_alpha} must be from 0 to 1: it weighs the tokens of the longer rest."
        )
    if chosen.get("sync_ref_model") and cfg.peft.name != "none":
        raise UserError(
            "method.sync_ref_model: TRL moves no reference beside an adapter. Use method=tr_dpo, which does."
        )
    if chosen.get("sync_ref_model") and chosen.get("precompute_ref_log_probs"):
        raise UserError(
            "method.sync_ref_model moves the reference, whose log-probabilities are computed once. Use method=tr_dpo, "
            "or add method.precompute_ref_log_probs=false."
        )


def add_losses(cfg: DictConfig, batch: Batch, kinds: Sequence[str], equations: Mapping[str, Equation]) -> Tensor | None:
    """Return the loss that TRL's loss types ``kinds`` and the options of ``cfg`` define, from their equations.

    None where no paper covers them: a loss type that ``equations`` lacks, a divergence whose scores are not only
    compared, weights of pairs in a loss of batches.
    """
    weights = cfg.method.get("loss_weights") or [1.0] * len(kinds)
    cfg, total = _fill(cfg), None
    for kind, weight in zip(kinds, weights, strict=True):
        loss = _compute(cfg, batch, kind, equations[kind]) if kind in equations else None
        if loss is None:
            return None
        total = weight * loss if total is None else total + weight * loss
    return total


def _fill(cfg: DictConfig) -> DictConfig:
    """Return ``cfg`` with TRL's defaults where it has none."""
    from omegaconf import OmegaConf

    filled = cfg.copy()
    for key, value in DEFAULTS.items():
        if key not in filled.method:
            OmegaConf.update(filled, f"method.{key}", value, force_add=True)
    return filled


def _compute(cfg: DictConfig, batch: Batch, kind: str, equation: Equation) -> Tensor | None:
    """Return the loss of one loss type under the options."""
    if kind == "sft":
        return None if cfg.method.get("use_weighting") else equation(cfg, batch)
    weighted, scored = cfg.method.get("use_weighting"), _score(cfg, batch)
    other_divergence = cfg.method.get("f_divergence_type", "reverse_kl") != "reverse_kl"
    if (other_divergence and kind not in OF_DIFFERENCES) or (weighted and kind in OF_BATCHES):
        return None
    return _weigh_pairs(cfg, scored, batch, equation) if weighted else equation(cfg, scored)


def _score(cfg: DictConfig, batch: Batch) -> Batch:
    """Return the batch with the log-probabilities and the log-ratios that the options put in place of its own."""
    alpha, kind = cfg.method.get("ld_alpha"), cfg.method.get("f_divergence_type", "reverse_kl")
    if alpha is not None:
        batch = _desensitise(batch, alpha)
    if kind == "reverse_kl":
        return batch
    return _diverge(batch, kind, 1 - cfg.method.get("f_alpha_divergence_coef", 0.5))


def _desensitise(batch: Batch, alpha: float) -> Batch:
    """Return the batch with tokens that only a pair's longer completion has counted ``alpha`` times (LD-DPO)."""
    import torch

    shared = torch.minimum(*(batch[name].lengths for name in SIDES))[:, None]
    sides = {}
    for name in SIDES:
        side = batch[name]
        beyond = torch.arange(side.mask.shape[1])[None] >= shared
        share = torch.ones_like(side.mask).masked_fill(beyond, alpha)
        sides[name] = dataclasses.replace(side, policy=side.policy * share, reference=side.reference * share)
    return dataclasses.replace(batch, columns={**batch.columns, **sides})


def _diverge(batch: Batch, kind: str, alpha: float) -> Batch:
    """Return the batch with another divergence's derivative in place of each completion's log-ratio (f-DPO)."""
    import torch

    sides = {}
    for name in SIDES:
        side = batch[name]
        score = differentiate(kind, alpha, side.log_ratio.sum(-1).exp())[:, None]
        sides[name] = dataclasses.replace(side, policy=score, reference=torch.zeros_like(score))
    return dataclasses.replace(batch, columns={**batch.columns, **sides})


def differentiate(kind: str, alpha: float, ratio: Tensor) -> Tensor:
    """Return the derivative of a divergence at ``ratio``, policy's probability over reference's (Wang et al., 2023)."""
    import torch

    derivatives: dict[str, Callable[[Tensor], Tensor]] = {
        "forward_kl": lambda u: -1 / u,
        "js_divergence": lambda u: torch.log(2 * u / (1 + u)),
        "alpha_divergence": lambda u: (1 - u**-alpha) / alpha if alpha else u.log(),
    }
    return derivatives[kind](ratio)


def compare_pairs(cfg: DictConfig, batch: Batch) -> Tensor:
    """Return DPO's loss of a batch: -log sigmoid(beta x difference of log-ratios), a scalar."""
    from torch.nn.functional import logsigmoid

    margins = batch["chosen"].log_ratio.sum(-1) - batch["rejected"].log_ratio.sum(-1)
    return -logsigmoid(cfg.method.beta * margins).mean()


def _weigh_pairs(cfg: DictConfig, scored: Batch, batch: Batch, equation: Equation) -> Tensor | None:
    """Return the mean over pairs of their losses times their weights (Zhou et al., 2024, WPO).

    A completion weighs its mean probability per token, each over that of the vocabulary's tokens on average.
    """
    import torch

    losses = [equation(cfg, pair) for pair in _take_apart(scored)]
    weights = [
        ((batch[name].policy - batch[name].log_sum_squares).sum(-1) / batch[name].lengths).exp() for name in SIDES
    ]
    if any(loss is None for loss in losses):
        return None
    loss: Tensor = (torch.stack(losses) * (weights[0] * weights[1]).detach()).mean()  # type: ignore[arg-type]
    return loss


def _take_apart(batch: Batch) -> Iterator[Batch]:
    """Yield the pairs, each as a batch of its own."""
    for row in range(len(batch["chosen"].mask)):
        sides = {}
        for name in SIDES:
            fields = {
                part.name: getattr(batch[name], part.name)[row : row + 1] for part in dataclasses.fields(batch[name])
            }
            sides[name] = type(batch[name])(**fields)
        yield dataclasses.replace(batch, columns=sides)
