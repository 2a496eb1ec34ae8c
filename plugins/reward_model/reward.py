"""Reward models.

Ouyang et al., 2022, "Training language models to follow instructions with human feedback",
https://arxiv.org/abs/2203.02155, section 3.5, equation 1, with two completions per prompt: the model of Bradley and
Terry. Loss: -log sigmoid(score of chosen - score of rejected). Since adding a number to all scores changes nothing in
it, a term keeps them around zero: coefficient x (score of chosen + score of rejected)^2 (Eisenstein et al., 2023,
https://arxiv.org/abs/2312.09244, equation 2). Where the data says by how much the chosen completion is better, the
difference has to exceed that margin: -log sigmoid(score of chosen - score of rejected - margin) (Touvron et al., 2023,
https://arxiv.org/abs/2307.09288, equation 2).

Data: pairs. Learning rates: 9e-6 (InstructGPT, 6B), 1e-5 and 5e-6 (Llama 2, 70B), ten times that with adapters. One
epoch: a second one overfits (InstructGPT, appendix C.2). What comes out is not a language model: `reward=model
reward.model.path=RUN` scores answers with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from alignzoo import Batch, DataFormat, Method, ModelKind, TrainParts, UserError

if TYPE_CHECKING:
    from datasets import Dataset
    from omegaconf import DictConfig
    from torch import Tensor


class RewardModeling(Method):
    """Reward modeling (Ouyang et al., 2022): a score for completions, so that the better of two has the higher one."""

    name = "reward"
    data = DataFormat.PREFERENCE
    trains = ModelKind.REWARD_MODEL
    config = "trl:RewardConfig"
    trainer = "trl:RewardTrainer"
    options = frozenset({"margin"})
    headline = {"accuracy": "accuracy", "margin": "margin"}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a term that would push scores away from zero."""
        weight = cfg.method.center_rewards_coefficient
        if weight is not None and weight < 0:
            raise UserError(f"method.center_rewards_coefficient={weight} must be 0 or above: below, scores run away.")

    @classmethod
    def further_columns(cls, cfg: DictConfig) -> Mapping[str, bool]:
        """The margin, where the data has one."""
        return {"margin": False} if cfg.method.margin else {}

    @classmethod
    def mean_of_rows(cls, cfg: DictConfig) -> bool:
        """A mean over pairs, the term around zero too."""
        return True

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Ouyang et al., 2022, section 3.5, equation 1, with margin and centring.

        The margin of Touvron et al., 2023, equation 2, and the term around zero of Eisenstein et al., 2023, equation 2.
        """
        from torch.nn.functional import logsigmoid

        chosen, rejected = batch.scored["chosen"], batch.scored["rejected"]
        ahead = chosen - rejected - batch.margins if cfg.method.margin else chosen - rejected
        weight = cfg.method.center_rewards_coefficient or 0
        loss: Tensor = (weight * (chosen + rejected).square() - logsigmoid(ahead)).mean()
        return loss

    def trainer_arguments(self, parts: TrainParts) -> dict[str, Any]:
        """Join each completion to its prompt, as TRL's collator takes them."""
        heldout = parts.heldout and join_prompts(parts.heldout)
        return super().trainer_arguments(parts) | {"train_dataset": join_prompts(parts.train), "eval_dataset": heldout}


def join_prompts(rows: Dataset) -> Dataset:
    """Return ``chosen_ids`` and ``rejected_ids`` with the prompt's ids before them, and ``margin`` where it is."""

    def join(batch: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        columns = ("chosen_ids", "rejected_ids")
        return {name: [p + a for p, a in zip(batch["prompt_ids"], batch[name], strict=True)] for name in columns}

    kept = [name for name in ("prompt_ids", "chosen_ids", "rejected_ids", "margin") if name in rows.column_names]
    whole: Dataset = rows.select_columns(kept).map(join, batched=True, remove_columns=["prompt_ids"])
    return whole
