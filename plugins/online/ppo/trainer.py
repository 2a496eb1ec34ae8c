"""PPO on TRL's machinery: its RLOO trainer samples, scores and repeats batches; what is learned from them is PPO's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from trl import RLOOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import pad, shuffle_sequence_dict, split_tensor_dict, use_adapter

from alignzoo import UserError

from . import objective
from .guards import ConstantScores, require_finite
from .value import ValueHead, answer_states

Batch = dict[str, Tensor]  #: one row an answer: ids and masks of prompt and completion, and what was found for them


class PPOTrainer(RLOOTrainer):
    """Proximal Policy Optimization (Schulman et al., 2017) of a causal language model.

    One round: ``generation_batch_size`` answers are sampled and scored, then trained on ``num_iterations`` times, each
    time cut anew into mini-batches of one update. ``objective.py`` holds the equations.

    The value head belongs to the trainer and not to the model, so that what is saved as the model is a plain policy.
    """

    _tag_names = ["alignzoo", "ppo"]
    _name = "PPO"
    _paper = {"title": "Proximal Policy Optimization Algorithms", "id": "1707.06347", "citation": ""}

    _buffered_inputs: list[Batch]  # TRL's: the round's micro-batches

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what :class:`trl.RLOOTrainer` takes, ``args`` being a :class:`.config.PPOConfig`."""
        super().__init__(*args, **kwargs)
        if self.accelerator.num_processes > 1:
            raise UserError("ppo trains in one process: its value head is not shared between several.")
        self.value_head = ValueHead(self.model.config.get_text_config().hidden_size).to(self.accelerator.device)
        self.constant_scores = ConstantScores()
        self._round: dict[str, float | None] = {}  # of the latest rollouts; each of their updates logs it

    def create_optimizer(self, model: Any = None) -> Any:
        """Add the value head as a group of its own, at its own learning rate and without weight decay."""
        made = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if made:
            group = {"params": list(self.value_head.parameters()), "lr": self.args.value_learning_rate}
            optimizer.add_param_group({**group, "weight_decay": 0.0})
        return optimizer

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any) -> Tensor:
        """Begin each update without the value head's gradient of the last one: TRL clears the policy's alone."""
        if self._step % self.args.gradient_accumulation_steps == 0:
            self.value_head.zero_grad()
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        return loss

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Keep the value head aside, in a file of its own, in checkpoints and with the final model."""
        super()._save(output_dir, state_dict)
        self.value_head.save(Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the value head with the model."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.value_head.load(Path(resume_from_checkpoint))

    def _prepare_inputs(self, generation_batch: Any) -> Batch:
        """Return the next micro-batch, sampled first where a round begins; each PPO epoch shuffles the answers anew."""
        chunks = self.args.steps_per_generation
        number, epoch = self._step % chunks, self._step // chunks % self.num_iterations
        if self.model.training and number == 0 and epoch and self._buffered_inputs:
            parts = self._buffered_inputs
            answers = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
            self._buffered_inputs = split_tensor_dict(shuffle_sequence_dict(answers), chunks)
        batch: Batch = super()._prepare_inputs(generation_batch)
        return {**batch, "tokens": self._tokens(number)} if self.model.training else batch

    def _tokens(self, number: int) -> Tensor:
        """Return the tokens of the mini-batch that micro-batch ``number`` is a part of, per micro-batch, a scalar.

        Every token of an update weighs the same, however many answers go through the model at once.
        """
        parts = self.args.gradient_accumulation_steps
        first = number // parts * parts
        masks = [chunk["completion_mask"] for chunk in self._buffered_inputs[first : first + parts]]
        return torch.stack([mask.sum() for mask in masks]).sum() / len(masks)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        """Sample an answer to each prompt; find its rewards, values and advantages under the policy that sampled it."""
        prompts = [row["prompt"] for row in inputs]
        prompt_ids, answer_ids, answers = self._generate(prompts)
        batch = self._padded(prompt_ids, "prompt", "left") | self._padded(answer_ids, "completion", "right")
        mask = batch["completion_mask"]
        with torch.no_grad(), disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
            old, values, _ = self._evaluate(self.model, batch)
            reference = self._reference(batch) if self.beta else old
        require_finite(self.state.global_step, log_probabilities=old, reference=reference, values=values)

        scores = self._scores(inputs, prompts, answers, answer_ids)
        kl = objective.kl_estimate(old, reference, self.args.kl_estimator)
        rewards = objective.token_rewards(scores, kl, mask, self.beta)
        advantages = objective.estimate_advantages(rewards, values, mask, self.args.gamma, self.args.lam)
        returns = advantages + values
        self._round |= {
            "kl": float(objective.masked_mean(kl, mask)),
            "objective": float(rewards.sum(1).mean()),
            "value": float(objective.masked_mean(values, mask)),
            "explained_variance": objective.explained_variance(values, returns, mask),
        }
        advantages = objective.whiten(advantages, mask) if self.args.normalize_advantages else advantages
        require_finite(self.state.global_step, rewards=rewards, advantages=advantages)
        self._logs["advantages"].extend((advantages.sum(1) / mask.sum(1)).tolist())
        return {**batch, "old": old, "old_values": values, "returns": returns, "advantages": advantages}

    def _padded(self, rows: list[list[int]], name: str, side: str) -> Batch:
        """Return ``rows`` as one tensor of ids and one of masks."""
        fill, device = {"padding_side": side, "pad_to_multiple_of": self.pad_to_multiple_of}, self.accelerator.device
        ids = pad([torch.tensor(row) for row in rows], padding_value=self._tokenizer.pad_token_id, **fill)
        mask = pad([torch.ones(len(row), dtype=torch.long) for row in rows], padding_value=0, **fill)
        return {f"{name}_ids": ids.to(device), f"{name}_mask": mask.to(device)}

    def _log_probabilities(self, model: Any, batch: Batch, entropy: bool = False) -> tuple[Tensor, Tensor]:
        """Return each answer token's log-probability, at the sampling temperature, and the entropy if asked for."""
        found = self._get_per_token_logps_and_entropies(
            model,
            torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
            torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
            batch["completion_ids"].shape[1],
            self.args.per_device_train_batch_size,
            compute_entropy=entropy,
        )
        return found[0], found[1]

    def _evaluate(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return log-probability, value and entropy of each answer token, all from one forward pass."""
        policy = self.accelerator.unwrap_model(model)
        with answer_states(policy, batch["completion_ids"].shape[1]) as states:
            log_probabilities, entropy = self._log_probabilities(model, batch, entropy=True)
        return log_probabilities, self.value_head(torch.cat(states)), entropy

    def _reference(self, batch: Batch) -> Tensor:
        """Return the log-probabilities under the start model: a copy of its own, or the policy without its adapter."""
        if self.ref_model is not None:
            return self._log_probabilities(self.ref_model, batch)[0]
        with use_adapter(self.accelerator.unwrap_model(self.model), adapter_name=None):
            return self._log_probabilities(self.model, batch)[0]

    def _scores(self, inputs: Any, prompts: list[Any], answers: list[Any], ids: list[list[int]]) -> Tensor:
        """Return each answer's score, (answers,): the weighted rewards, clipped, less the penalty where unfinished."""
        device = self.accelerator.device
        rewards = self._calculate_rewards(inputs, prompts, answers, ids)
        total = rewards @ self.reward_weights.to(device)
        require_finite(self.state.global_step, rewards=rewards)
        for name, column in zip(self.reward_func_names, rewards.unbind(1), strict=True):
            self._round[f"rewards/{name}/mean"] = float(column.mean())
            self._logs["rewards"][name].extend(column.tolist())
        self._logs["prompt"].extend(prompts)
        self._logs["completion"].extend(answers)
        self._round |= {"reward": float(total.mean()), "reward_std": float(total.std())}
        if self.reward_clip_range:
            total = total.clamp(*self.reward_clip_range)
        unfinished = torch.tensor([row[-1] not in self.eos_token_ids for row in ids], device=device)
        scores: Tensor = total - self.args.missing_eos_penalty * unfinished
        self._round["score"] = float(scores.mean())
        self.constant_scores.look(scores)
        return scores

    def _compute_loss(self, model: Any, inputs: Batch) -> Tensor:
        """Return the policy's loss plus ``vf_coef`` times the value head's, means over the mini-batch's tokens."""
        mask, old = inputs["completion_mask"], inputs["old"]
        log_probabilities, values, entropy = self._evaluate(model, inputs)
        policy = objective.policy_loss(
            log_probabilities, old, inputs["advantages"], self.epsilon_low, self.epsilon_high
        )
        value = objective.value_loss(values, inputs["old_values"], inputs["returns"], self.args.cliprange_value)
        tokens = inputs.get("tokens", mask.sum())
        loss: Tensor = torch.where(mask.bool(), policy.loss + self.args.vf_coef * value.loss, 0.0).sum() / tokens
        require_finite(self.state.global_step, loss=loss)
        with torch.no_grad():
            self._note(
                policy_loss=objective.masked_mean(policy.loss, mask),
                value_loss=objective.masked_mean(value.loss, mask),
                clip_fraction=objective.masked_mean(policy.clipped.float(), mask),
                value_clip_fraction=objective.masked_mean(value.clipped.float(), mask),
                policy_change=objective.masked_mean(objective.kl_estimate(old, log_probabilities, "k3"), mask),
                entropy=objective.masked_mean(entropy, mask),
                **self._round,
            )
        return loss

    def _note(self, **numbers: Any) -> None:
        """Add to metrics, of which the next logged line shows the means; None is left out."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, number in numbers.items():
            if number is not None:
                metrics[name].append(float(number))
