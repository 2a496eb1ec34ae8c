"""Defines what a method's trainer is built from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset
    from omegaconf import DictConfig
    from peft import PeftConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from alignzoo.plugin.environment import Environment


@dataclass(frozen=True)
class TrainParts:
    """All that a trainer is built from. Made by the core, once a run.

    Attributes:
        cfg: the run's whole configuration.
        args: the method's TRL config, filled from ``method.*`` and ``train.*``.
        trainer: the TRL class that the method names, made to take rows of token ids.
        model: what trains, of the method's :class:`~alignzoo.ModelKind`; its ``_name_or_path`` is the start model's
            folder.
        tokenizer: with a pad token and the chat template that tokenised the rows.
        train: rows in the method's :class:`~alignzoo.DataFormat`.
        load_model: loads a further causal model, such as a teacher, from what ``model.path`` takes (a folder, a run, a
            hub id, a GGUF file, an adapter): frozen, in evaluation mode, on the run's device.
        heldout: held-out rows in the same format.
        peft_config: the adapter to train, or None where all weights train.
        rewards: rewards for on-policy methods, as TRL calls them; their weights stand in ``args``.
        tools: functions that the policy may call, of the group ``tools``.
        environment: makes an environment to act in, of the group ``environment``; None where there is none.
        teacher: the model of the group ``teacher``, frozen, in evaluation mode, on the run's device, with as many
            logits as ``model``; None where there is none.
        callbacks: ``transformers.TrainerCallback`` objects.
    """

    cfg: DictConfig
    args: Any
    trainer: type[Any]
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    train: Dataset
    load_model: Callable[[str], PreTrainedModel]
    heldout: Dataset | None = None
    peft_config: PeftConfig | None = None
    rewards: list[Callable[..., list[float]]] = field(default_factory=list)
    tools: list[Callable[..., str]] = field(default_factory=list)
    environment: Callable[[], Environment] | None = None
    teacher: PreTrainedModel | None = None
    callbacks: list[Any] = field(default_factory=list)
