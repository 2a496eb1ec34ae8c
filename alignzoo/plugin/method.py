"""Defines a method: what it declares, and the trainer that it builds from the parts it is handed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset
    from omegaconf import DictConfig
    from torch import Tensor
    from transformers import Trainer

    from alignzoo.plugin.batch import Batch
    from alignzoo.plugin.train_parts import TrainParts


class DataFormat(StrEnum):
    """What one row holds. Token columns are lists of token ids; the core makes them, the same for every method.

    Each row has ``id`` too, and pairs what :meth:`Method.further_columns` names.

    Attributes:
        PREFERENCE: ``prompt_ids``, ``chosen_ids``, ``rejected_ids``.
        UNPAIRED: ``prompt_ids``, ``completion_ids``, ``label`` (True: good), ``KL_completion_ids`` (of another row).
        PROMPTS: ``prompt`` (messages or text) and the dataset's further columns, which rewards can read.
        SUPERVISED: ``input_ids`` of prompt and completion, ``labels`` with -100 over the prompt.
        SCORED: single completions with a ``score``: only datasets hold these, and are paired from them; no trainer.
    """

    PREFERENCE = "preference"
    UNPAIRED = "unpaired"
    PROMPTS = "prompts"
    SUPERVISED = "supervised"
    SCORED = "scored"


#: What pairs can have beside the columns of their format, where the data does (:meth:`Method.further_columns`).
FURTHER: Mapping[str, str] = {
    "margin": "margin",
    "gold_ids": "third completion, gold",
}

#: What the rows of a trainer can hold.
TRAINED = (DataFormat.PREFERENCE, DataFormat.UNPAIRED, DataFormat.SUPERVISED, DataFormat.PROMPTS)


class ModelKind(StrEnum):
    """What a method trains: which class is loaded from the start model's folder, and what is measured of it."""

    POLICY = "policy"
    """A causal language model; :class:`alignzoo.evaluate.yardstick.Yardstick` measures completions, KL and margins."""

    REWARD_MODEL = "reward model"
    """A sequence classifier with one output, a score; a start model without that output gets a random one.

    Its yardstick is :class:`alignzoo.evaluate.reward_yardstick.RewardYardstick`: which of two held-out completions
    scores higher. An adapter is merged before it is saved, so that ``reward=model reward.model.path=RUN`` takes the
    run.
    """


class Method:
    """One way to align a model. A plugin subclasses this and declares what differs from the other methods.

    The docstring's first line, with the paper in brackets, is what ``list`` shows.
    """

    name: ClassVar[str]
    """The word after ``method=``."""

    data: ClassVar[DataFormat]
    """What its rows hold; the core converts any dataset that can be converted."""

    config: ClassVar[str]
    """The TRL config it fills, ``"module:Class"``, such as ``"trl:DPOConfig"``."""

    trainer: ClassVar[str]
    """The TRL trainer it runs, ``"module:Class"``, such as ``"trl:DPOTrainer"``."""

    tools_trainer: ClassVar[str] = ""
    """The TRL trainer it runs where the policy calls tools or acts in an environment, ``"module:Class"``.

    It takes TRL's ``tools`` and ``environment_factory``, and leaves the tokens that tools wrote out of the loss. Empty:
    there is none, and a run with tools is refused. A subclass that names another ``trainer`` has none, unless it names
    this too.
    """

    family: ClassVar[str] = ""
    """The family that ``list`` shows it in, and ``method=@FAMILY`` runs it with; empty: as its rows and rewards say."""

    relatives: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Other methods whose loss its own is, up to a constant, at these settings of ``method.*``. For ``describe``."""

    trains: ClassVar[ModelKind] = ModelKind.POLICY
    """What comes out of it: a policy, or a reward model."""

    needs_reference: ClassVar[bool] = False
    """Whether the loss compares with the start model: the first rewards are then checked to be zero."""

    uses_rewards: ClassVar[bool] = False
    """Whether it learns from the ``reward`` group, which its trainer then gets as ``reward_funcs``."""

    uses_teacher: ClassVar[bool] = False
    """Whether it learns from the group ``teacher``, which its trainer then gets as ``teacher_model``."""

    samples: ClassVar[bool] = False
    """Whether it samples completions although its rows hold some; one on prompts always does. For ``plan``."""

    whole_logits: ClassVar[bool] = True
    """Whether its loss holds the logits of a whole batch; False where TRL computes them in chunks. For ``plan``."""

    scores_again: ClassVar[bool] = False
    """Whether each batch goes through the policy once more without gradients. For ``plan``."""

    pinned: ClassVar[Mapping[str, Any]] = {}
    """Fields of the TRL config that make the method what it is; refused if the user sets them otherwise."""

    options: ClassVar[frozenset[str]] = frozenset()
    """Keys of ``method.*`` that the method reads itself and that its TRL config does not have."""

    row_options: ClassVar[frozenset[str]] = frozenset()
    """Those of :attr:`options` that choose the rows of a batch, by columns of the dataset, and leave its loss as it is.

    A loss that is compared with its equation, on made-up rows, is computed without them.
    """

    headline: ClassVar[Mapping[str, str]] = {"rewards/accuracies": "accuracy", "rewards/margins": "margin"}
    """Logged metrics to show on the progress bar and in the plots: TRL's name -> short name."""

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Raise :class:`alignzoo.UserError` for a configuration known to be wrong for this method.

        Called before a model is loaded. Must not import torch or TRL.
        """

    @classmethod
    def further_columns(cls, cfg: DictConfig) -> Mapping[str, bool]:
        """Return what its pairs have beside the columns of :class:`DataFormat`, and whether it needs each.

        ``margin`` (a number: by how much the chosen answer is better) and ``gold_ids`` (a third answer, as TPO has
        it). A needed one that a row lacks stops the run before anything is loaded; another is left out of all rows
        where no row has it.
        """
        return {}

    @classmethod
    def check_rows(cls, cfg: DictConfig, rows: Dataset) -> None:
        """Raise :class:`alignzoo.UserError` for rows, in the method's format, on which it cannot be trained.

        Called before a model is loaded.
        """

    @classmethod
    def holds_reference(cls, cfg: DictConfig) -> bool:
        """Return whether a reference model stays in memory in training, where all weights train. For ``plan``."""
        return cls.needs_reference and not cfg.method.get("precompute_ref_log_probs", False)

    @classmethod
    def mean_of_rows(cls, cfg: DictConfig) -> bool:
        """Return whether a batch's loss is the mean of its rows' losses: ``train.per_device_batch_tokens`` needs that.

        True also for a loss that counts the tokens of the whole step, as transformers does it.
        """
        return False

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """Return what the first logged loss must be, policy and reference being equal, or None if nothing follows."""
        return None

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Return the paper's loss of ``batch``, a scalar with gradient, or None where it does not cover ``cfg``.

        ``verify-losses`` compares it with what the trainer computes. Write it from the paper and not from TRL's
        code; name paper and equation in the docstring's first line, which is shown. Import torch inside. A method
        that does not override it is listed as not verified.
        """
        return None

    def build_trainer(self, parts: TrainParts) -> Trainer:
        """Return the trainer of this run. Override it, or :meth:`trainer_arguments`, where the default falls short."""
        from transformers import PrinterCallback

        trainer: Trainer = parts.trainer(**self.trainer_arguments(parts))
        trainer.remove_callback(PrinterCallback)  # the core shows progress
        return trainer

    def trainer_arguments(self, parts: TrainParts) -> dict[str, Any]:
        """Return the keyword arguments for the trainer's constructor.

        With ``reward_funcs`` where it learns from rewards, ``teacher_model`` where it learns from a teacher, ``tools``
        and ``environment_factory`` where the run has them.
        """
        more: dict[str, Any] = {"reward_funcs": list(parts.rewards)} if self.uses_rewards else {}
        more |= {"teacher_model": parts.teacher} if self.uses_teacher else {}
        more |= {"tools": list(parts.tools)} if parts.tools else {}
        more |= {"environment_factory": parts.environment} if parts.environment else {}
        return {
            "model": parts.model,
            "args": parts.args,
            "train_dataset": parts.train,
            "eval_dataset": parts.heldout,
            "processing_class": parts.tokenizer,
            "peft_config": parts.peft_config,
            "callbacks": parts.callbacks,
            **more,
        }


def find_tools_trainer(method: type[Method]) -> str:
    """Return ``tools_trainer``, or nothing where a subclass has changed ``trainer`` alone."""
    for kind in method.__mro__:
        if "tools_trainer" in vars(kind):
            found: str = vars(kind)["tools_trainer"]
            return found
        if "trainer" in vars(kind):
            break
    return ""


def import_object(spec: str) -> Any:
    """Import ``"module:name"`` and return what it names.

    Raises:
        UserError: it cannot be imported, as where a package that it needs is missing.
    """
    module, _, name = spec.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{spec} cannot be imported: {reason}") from error
