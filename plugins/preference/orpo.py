"""Odds Ratio Preference Optimization.

Hong et al., 2024, "ORPO: Monolithic Preference Optimization without Reference Model", https://arxiv.org/abs/2403.07691,
equations 6 and 7. Loss: the mean negative log-likelihood of prompt and chosen completion (of both: TRL follows the
authors' code in this), plus beta times -log sigmoid(log odds of chosen - log odds of rejected), with odds p / (1 - p)
of the completion's length-normalised probability.

Data: pairs, no reference model. Beta is the paper's lambda: 0.1 (Mistral 7B) to 0.25 (Llama 2), up to 1.0. Learning
rates: 5e-6 (Mistral) to 8e-6 (paper, section 5), ten times DPO's, because ORPO also has to learn what SFT teaches.
The logged rewards are beta times mean log-probabilities, without a reference: not DPO's.
"""

from __future__ import annotations

import logging
from types import MethodType
from typing import TYPE_CHECKING, Any

from alignzoo import Batch, DataFormat, Method, PairLoss, Pairs, TrainParts, UserError
from alignzoo.config.trl_source import explain_missing_class

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor
    from transformers import Trainer

log = logging.getLogger(__name__)


class ORPO(Method):
    """Odds Ratio Preference Optimization (Hong et al., 2024): fine-tuning and preference in one loss, no reference."""

    name = "orpo"
    data = DataFormat.PREFERENCE
    config = "trl.experimental.orpo:ORPOConfig"
    trainer = "trl.experimental.orpo:ORPOTrainer"
    pinned = {"remove_unused_columns": False}
    whole_logits = False
    headline = {"rewards/accuracies": "accuracy", "log_odds_chosen": "log-odds"}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a weight that prefers the rejected completion."""
        if cfg.method.beta < 0:
            raise UserError(
                f"method.beta={cfg.method.beta} must be 0 or above: below, ORPO prefers the rejected completion."
            )

    def build_trainer(self, parts: TrainParts) -> Trainer:
        """Score labels through the head that TRL's stable trainers have, so that no logits are kept."""
        from trl.trainer.utils import add_fused_lm_head

        trainer: Any = super().build_trainer(parts)
        if not (trainer.is_encoder_decoder or trainer.aux_loss_enabled):
            policy = trainer.model.get_base_model() if hasattr(trainer.model, "peft_config") else trainer.model
            add_fused_lm_head(policy, outputs=("log_probs", "mean_logits"))
            # patch: trl ORPOTrainer.concatenated_forward
            trainer.concatenated_forward = MethodType(concatenated_forward, trainer)
        return trainer

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Hong et al., 2024, equations 6 and 7.

        The likelihood is that of prompt and chosen completion, each token weighing the same, as in the authors' code.
        """
        import torch
        from torch.nn.functional import logsigmoid

        prompt, chosen, rejected = batch["prompt"], batch["chosen"], batch["rejected"]
        likelihood = (prompt.policy.sum() + chosen.policy.sum()) / (prompt.lengths.sum() + chosen.lengths.sum())
        means = [answers.policy.sum(-1) / answers.lengths for answers in (chosen, rejected)]
        odds = [mean - torch.log1p(-mean.exp()) for mean in means]
        return -likelihood - float(cfg.method.beta) * logsigmoid(odds[0] - odds[1]).mean()


class OwnORPO(PairLoss):
    """Odds Ratio Preference Optimization (Hong et al., 2024): fine-tuning and preference in one loss, no reference."""

    name = "orpo"
    scores_prompts = True
    check = ORPO.check
    equation = ORPO.equation

    @classmethod
    def mean_of_rows(cls, cfg: DictConfig) -> bool:
        """The likelihood is a mean over the tokens of a batch."""
        return False

    @classmethod
    def loss(cls, cfg: DictConfig, pairs: Pairs) -> Tensor:
        """The likelihood of chosen sequences, and the odds of the two completions' mean log-probabilities."""
        from torch.nn.functional import softplus

        chosen, rejected = pairs.chosen, pairs.rejected
        likelihood = (chosen.prompt_log_probs.sum() + chosen.log_prob.sum()) / (
            chosen.prompt_mask.sum() + chosen.mask.sum()
        )
        odds = [mean - (-mean.expm1()).log() for mean in (chosen.mean_log_prob, rejected.mean_log_prob)]
        loss: Tensor = cfg.method.beta * softplus(odds[1] - odds[0]) - likelihood
        return loss

    def build_trainer(self, parts: TrainParts) -> Trainer:
        """Say which loss it is."""
        missing = explain_missing_class(ORPO.trainer)
        log.warning("%s method=orpo trains alignzoo's own loss, which is the same.", missing)
        return super().build_trainer(parts)


def choose_orpo() -> type[Method]:
    """Return the method on TRL's trainer, or the one with a loss of its own where the installed TRL has none."""
    return OwnORPO if explain_missing_class(ORPO.trainer) else ORPO


def concatenated_forward(trainer: Any, model: Any, batch: dict[str, Any]) -> tuple[Tensor, ...]:
    """Replaces the method of TRL's trainer, which keeps logits of (rows, tokens, vocabulary).

    Returns:
        Mean log-probabilities of chosen and rejected completions, (pairs,) each; the mean logits of their scored
        positions, which TRL averages again for its log; and the mean negative log-likelihood of prompts with chosen
        completions.
    """
    import torch

    rows = trainer.concatenated_inputs(batch, padding_value=trainer.padding_value, device=trainer.accelerator.device)
    ids, mask, answers = (rows[f"concatenated_{name}"] for name in ("input_ids", "attention_mask", "labels"))
    pairs = len(batch["chosen_labels"])
    labels = torch.cat([ids[:pairs].masked_fill(mask[:pairs] == 0, -100), answers[pairs:]])
    outputs = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False, fused_lm_head=True)

    scored, answered = labels[:, 1:] != -100, answers[:, 1:] != -100
    means = (outputs.log_probs * answered).sum(-1) / answered.sum(-1)
    likelihood = outputs.log_probs[:pairs].sum() / scored[:pairs].sum()
    chosen, rejected = outputs.mean_logits[:pairs][scored[:pairs]], outputs.mean_logits[pairs:][scored[pairs:]]
    return means[:pairs], means[pairs:], chosen, rejected, -likelihood
