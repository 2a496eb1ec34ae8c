"""Supervised fine-tuning.

Maximum likelihood of good completions given their prompts (Ouyang et al., 2022, "Training language models to follow
instructions with human feedback", https://arxiv.org/abs/2203.02155, section 3.5, step 1). Loss: the mean negative
log-likelihood of the completion's tokens; the prompt's are not trained.

Data: single good completions; of pairs the chosen one, of marked completions the good ones. Learning rates: 2e-5
(Zephyr 7B), up to 1e-3 for models as small as SmolLM2-135M, 2e-4 with adapters (QLoRA).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch, DataFormat, Method, UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class SFT(Method):
    """Supervised fine-tuning (Ouyang et al., 2022): the likelihood of good completions, where alignment starts."""

    name = "sft"
    data = DataFormat.SUPERVISED
    config = "trl:SFTConfig"
    trainer = "trl:SFTTrainer"
    whole_logits = False
    pinned = {"loss_type": "nll"}
    headline = {"mean_token_accuracy": "token accuracy", "entropy": "entropy"}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse an option for rows that TRL tokenises."""
        if cfg.method.get("assistant_only_loss"):
            raise UserError(
                "method.assistant_only_loss: rows come tokenised, and only completions are trained. Leave it out."
            )

    @classmethod
    def mean_of_rows(cls, cfg: DictConfig) -> bool:
        """Its sum goes by the tokens of the whole step."""
        return True

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Ouyang et al., 2022, section 3.5, step 1.

        Not where labels are smoothed, which needs the probabilities of all other tokens.
        """
        if cfg.method.get("label_smoothing_factor") or cfg.train.get("label_smoothing_factor"):
            return None
        return -batch["completion"].policy.sum() / batch["completion"].lengths.sum()
