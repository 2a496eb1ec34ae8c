"""States the facts of a method that follow from what it declares: data, trainer, cost, relatives, verification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from alignzoo.plugin.answer_loss import FIXED, LOSS_TYPES, AnswerLoss
from alignzoo.plugin.family import find_family
from alignzoo.plugin.method import DataFormat, Method, ModelKind
from alignzoo.plugin.pair_loss import UNREAD
from alignzoo.plugin.registry import registry
from alignzoo.train.losses.compare import has_equation, read_source

if TYPE_CHECKING:
    from omegaconf import DictConfig

#: What a method's rows are made from.
DATA = {
    DataFormat.PREFERENCE: "pairs: a prompt, a chosen and a rejected completion (scored completions are paired)",
    DataFormat.UNPAIRED: "single completions, good or bad (pairs are taken apart)",
    DataFormat.PROMPTS: "prompts; completions are sampled",
    DataFormat.SUPERVISED: "prompts with one good completion (of pairs the chosen one)",
}

#: What goes through the policy with gradient, for each row.
PASSES = {
    DataFormat.PREFERENCE: "two completions a row",
    DataFormat.UNPAIRED: "one completion a row, where dpo has two",
    DataFormat.PROMPTS: "completions are sampled before they are trained on, where dpo's are given",
    DataFormat.SUPERVISED: "one completion a row, where dpo has two",
}


def list_facts(method: type[Method], cfg: DictConfig) -> dict[str, str]:
    """Return what ``describe`` shows of a method above its keys; ``cfg``: composed with its defaults."""
    facts = {"family": f"{find_family(method)} (-m method=@{find_family(method)})", "data": DATA[method.data]}
    own = " with a loss of its own" if gives_loss(method) else ""
    facts["trainer"] = f"{method.trainer.replace(':', '.')}{own}, filled from {method.config.replace(':', '.')}"
    facts["reference model"] = name_reference(method, cfg)
    facts["further model"] = name_further_model(method)
    if method.uses_rewards:
        facts["rewards"] = "the group reward"
    facts["cost beside dpo"] = "; ".join(_list_costs(method, cfg))
    facts["fixed"] = ", ".join(list_fixed(method))
    if found := list(_list_relatives(method)):
        facts["relatives"] = "; ".join(found)
    facts["equation"] = f"{read_source(method)} (verify-losses {method.name})" if has_equation(method) else "none"
    facts["watch"] = ", ".join(method.headline)
    return {name: fact for name, fact in facts.items() if fact}


def gives_loss(method: type[Method]) -> bool:
    """Tell whether the plugin gives the loss, alone or in a trainer of its own, and not TRL."""
    return hasattr(method, "loss") or not method.trainer.startswith("trl")


def list_fixed(method: type[Method]) -> list[str]:
    """Return the fields of the TRL config that make the method what it is, as ``key=value``."""
    silent = {**FIXED, "loss_type": LOSS_TYPES[method.needs_kl]} if issubclass(method, AnswerLoss) else UNREAD
    said = {key: value for key, value in method.pinned.items() if key not in silent or value != silent[key]}
    return [f"{key}={value}" for key, value in said.items()]


def name_reference(method: type[Method], cfg: DictConfig) -> str:
    """Return what the loss compares with, or 'none'."""
    return "the start model" if method.needs_reference or method.holds_reference(cfg) else "none"


def name_further_model(method: type[Method]) -> str:
    """Return the model that is in memory beside policy and reference, or ''."""
    if find_family(method) == "distillation":
        return "the teacher"
    return "of the rewards, if one is a model" if method.uses_rewards else ""


def _list_costs(method: type[Method], cfg: DictConfig) -> list[str]:
    costs = ["the same passes" if method.data is DataFormat.PREFERENCE else PASSES[method.data]]
    if method.scores_again:
        costs.append("each batch goes through the policy once more, without gradients")
    if method.holds_reference(cfg):
        costs.append("the reference model stays in memory, where dpo computes it before training")
    elif method.needs_reference:
        costs.append("the reference is computed once before training, as dpo's" * (method.name != "dpo"))
    else:
        costs.append("no pass of a reference")
    if method.trains is ModelKind.REWARD_MODEL:
        costs.append("one score a sequence, where dpo has logits of each token")
    return [cost for cost in costs if cost]


def _list_relatives(method: type[Method]) -> list[str]:
    """Return in words which methods' loss this one's is, at which settings, and which become this one."""
    there = [f"at {_write(settings)} its loss is that of {name}" for name, settings in method.relatives.items()]
    others = [other for other, _ in registry().methods.values() if method.name in other.relatives]
    here = [f"{other.name} at {_write(other.relatives[method.name])}" for other in others]
    return [*there, *([f"its loss is that of {', '.join(sorted(here))}"] if here else [])]


def _write(settings: Mapping[str, Any]) -> str:
    return " ".join(f"method.{key}={value}" for key, value in settings.items())
