"""Trains MiniLLM on TRL's DistillationTrainer: sampled with the teacher, with rewards of what comes later."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from trl import DistillationTrainer

from .scores import compute_divergences, compute_log_probs, count_rows, score_completions


class MiniLLMTrainer(DistillationTrainer):
    """TRL's, with equations 4 to 7 and the clip of algorithm 1 of Gu et al., 2024."""

    teacher_mix: float = 0.2
    """The teacher's share of the distribution that completions are sampled from."""

    clip: float = 0.2

    # patch: trl DistillationTrainer._generate_single_turn
    def _generate_single_turn(self, prompt_ids: list[list[int]], *more: Any, **rest: Any) -> list[list[int]]:
        """Sample from the mixture; TRL's own call of ``generate`` takes no further processors of logits."""
        student = self.accelerator.unwrap_model(self.model)
        mixed = TeacherMixed(self.accelerator.unwrap_model(self.teacher_model), prompt_ids, self.teacher_mix)
        replaced = vars(student).get("generate")
        student.generate = partial(student.generate, logits_processor=[mixed])
        try:
            sampled: list[list[int]] = super()._generate_single_turn(prompt_ids, *more, **rest)
        finally:
            del student.generate
            if replaced is not None:
                student.generate = replaced
        return sampled

    # patch: trl DistillationTrainer._compute_loss
    def _compute_loss(self, student: Any, inputs: Any, num_items_in_batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return a loss whose gradient is equation 7; the entropy's sum, and the tokens, for the log."""
        mask, ids = inputs["completion_mask"], inputs["completion_ids"]
        own, taught = score_completions(self, student, inputs)
        kl, entropy = compute_divergences(own, taught, 1.0, 1.0)
        log_q, log_p = compute_log_probs(own, ids), compute_log_probs(taught, ids).detach()
        with torch.no_grad():
            mixture = torch.logaddexp(log_q + torch.log(log_q.new_tensor(1 - self.teacher_mix)), self._weigh(log_p))
            later = average_later(log_p - log_q, mask)
        ratio = (log_q - mixture).exp()
        long = later * ratio.clamp(max=1 + self.clip)  # the lesser of the ratio and the clipped one
        losses = (ratio.detach() * kl - long) * mask
        return losses.sum() / count_rows(self, inputs), (entropy * mask).sum().detach(), mask.sum()

    def _weigh(self, log_p: Tensor) -> Tensor:
        """Return the logarithm of the teacher's part of the mixture; of no teacher, minus infinity."""
        return log_p + torch.log(log_p.new_tensor(self.teacher_mix))


def average_later(rewards: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the rewards behind each token, 0 behind the last (equation 6), (rows, longest completion)."""
    kept = rewards * mask
    behind = kept.flip(-1).cumsum(-1).flip(-1) - kept
    count = mask.flip(-1).cumsum(-1).flip(-1) - mask
    return behind / count.clamp(min=1)


class TeacherMixed:
    """Turns the policy's logits into those of a mixture with the teacher (equation 4), as ``generate`` calls it."""

    def __init__(self, teacher: Any, prompts: list[list[int]], share: float) -> None:
        """``prompts``: token ids, which ``generate`` gets padded on the left; ``share``: the teacher's."""
        width = max(len(ids) for ids in prompts)
        lengths = torch.tensor([len(ids) for ids in prompts], device=teacher.device)
        self.mask = (torch.arange(width, device=teacher.device) >= (width - lengths)[:, None]).long()
        self.teacher, self.share = teacher, share
        self.cache: Any = None

    def keep_rows(self, rows: Tensor) -> None:
        """Forget all other rows: their completions have ended."""
        self.mask = self.mask[rows]
        if self.cache is not None:
            self.cache.reorder_cache(rows)

    def __call__(self, ids: Tensor, logits: Tensor) -> Tensor:
        """Return log((1 - share) q + share p) of the next tokens, (rows, vocabulary); ``ids`` has all tokens so far."""
        if not self.share:
            return logits
        new = ids if self.cache is None else ids[:, -1:]
        grown = torch.nn.functional.pad(self.mask, (0, ids.shape[1] - self.mask.shape[1]), value=1)
        with torch.no_grad():
            found = self.teacher(
                input_ids=new, attention_mask=grown, past_key_values=self.cache, use_cache=True, logits_to_keep=1
            )
        self.cache = found.past_key_values
        q, p = torch.softmax(logits.float(), -1), torch.softmax(found.logits[:, -1].float(), -1)
        return torch.log((1 - self.share) * q + self.share * p)
