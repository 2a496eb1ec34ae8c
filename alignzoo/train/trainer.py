"""Collects the parts of a method's trainer, and builds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from alignzoo.models.adapter import adapter_config
from alignzoo.models.load import load_further
from alignzoo.plugin.answer_loss import AnswerLoss
from alignzoo.plugin.method import find_tools_trainer, import_object
from alignzoo.plugin.pair_loss import PairLoss
from alignzoo.plugin.train_parts import TrainParts
from alignzoo.train.answer_loss import OwnAnswerLoss
from alignzoo.train.own_loss import NoReference
from alignzoo.train.pair_loss import OwnPairLoss
from alignzoo.train.token_rows import accept_token_ids

if TYPE_CHECKING:
    from datasets import Dataset
    from omegaconf import DictConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from alignzoo.config.checked import Checked
    from alignzoo.evaluate.toolbox import Toolbox
    from alignzoo.plugin.method import Method


def collect_parts(
    checked: Checked,
    args: Any,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    heldout: Dataset | None = None,
    rewards: Sequence[Callable[..., list[float]]] = (),
    callbacks: Sequence[Any] = (),
    teacher: PreTrainedModel | None = None,
    toolbox: Toolbox | None = None,
) -> TrainParts:
    """Return what the method builds its trainer from.

    Args:
        checked: the run's configuration; the method's TRL class is made to take rows of token ids.
        args: the method's TRL config.
        model: what trains.
        tokenizer: the one that tokenised the rows.
        rows: the rows to train on, in the method's format.
        heldout: held-out rows in the same format.
        rewards: rewards as TRL calls them.
        callbacks: ``transformers.TrainerCallback`` objects.
        teacher: the frozen model to learn from.
        toolbox: what the policy can call; a method that does not sample is measured with it alone.
    """
    cfg, method = checked.cfg, checked.method
    calls = toolbox if find_tools_trainer(method) else None
    trainer = _make_trainer_class(method, cfg, calls is not None)
    load = partial(load_further, cfg=cfg, device=checked.device, precision=checked.precision, tokenizer=tokenizer)
    return TrainParts(
        cfg,
        args,
        trainer,
        model,
        tokenizer,
        rows,
        load,
        heldout=heldout,
        peft_config=adapter_config(cfg.peft, method.trains),
        rewards=_choose_calls(rewards, trainer),
        tools=calls.tools if calls else [],
        environment=calls.environment if calls else None,
        teacher=teacher,
        callbacks=list(callbacks),
    )


def _make_trainer_class(method: type[Method], cfg: DictConfig, calls: bool) -> type[Any]:
    """Return the method's TRL trainer that takes rows of token ids, with the method's own loss where it gives one.

    ``calls``: whether the policy calls tools.
    """
    trainer: type[Any] = import_object(find_tools_trainer(method) if calls else method.trainer)
    if not issubclass(method, PairLoss | AnswerLoss):
        return accept_token_ids(trainer)
    own = OwnPairLoss if issubclass(method, PairLoss) else OwnAnswerLoss
    facts = {"__module__": trainer.__module__, "method": method, "cfg": cfg}
    made = accept_token_ids(type(trainer.__name__, (own, trainer), facts))
    return made if method.needs_reference else type(trainer.__name__, (NoReference, made), facts)


def _choose_calls(rewards: Sequence[Callable[..., Any]], trainer: type) -> list[Callable[..., Any]]:
    """Return the rewards, as coroutine functions where they are asynchronous and the trainer runs such at once."""
    if not any(hasattr(reward, "asynchronous") for reward in rewards):
        return list(rewards)
    from trl import GRPOTrainer, RLOOTrainer

    runs_coroutines = issubclass(trainer, GRPOTrainer | RLOOTrainer)
    return [getattr(reward, "asynchronous", reward) if runs_coroutines else reward for reward in rewards]


def build_trainer(checked: Checked, *parts: Any, **more: Any) -> Any:
    """Return the method's trainer; its arguments are those of :func:`collect_parts`."""
    return checked.method().build_trainer(collect_parts(checked, *parts, **more))
