"""Dynamic Fine-Tuning.

Wu et al., 2025, "On the Generalization of SFT: A Reinforcement Learning Perspective with Reward Rectification",
https://arxiv.org/abs/2508.05629. Loss: each token's negative log-likelihood times its probability, which is not
differentiated, as a mean over the completions' tokens; the prompt's are not trained.

Data: single good completions; of pairs the chosen one, of marked completions the good ones. Where a token is unlikely,
its loss is small and grows as it is learned, up to a probability of 1/e: the loss may rise while the likelihood rises.
Learning rates: 5e-5 in the authors' code (Qwen2.5-Math 1.5B, batches of 256).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch, DataFormat, Method

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class DFT(Method):
    """Dynamic Fine-Tuning (Wu et al., 2025): SFT in which a token counts by its probability."""

    name = "dft"
    data = DataFormat.SUPERVISED
    config = "trl:SFTConfig"
    trainer = "trl:SFTTrainer"
    whole_logits = False
    pinned = {"loss_type": "dft", "label_smoothing_factor": 0.0}
    headline = {"mean_token_accuracy": "token accuracy", "entropy": "entropy"}

    @classmethod
    def mean_of_rows(cls, cfg: DictConfig) -> bool:
        """Its sum goes by the tokens of the whole step."""
        return True

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Wu et al., 2025, dynamic fine-tuning, as a mean over tokens."""
        answers = batch["completion"]
        weights = answers.policy.detach().exp() * answers.mask
        loss: Tensor = -(weights * answers.policy).sum() / answers.lengths.sum()
        return loss
