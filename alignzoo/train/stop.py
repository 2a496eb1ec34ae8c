"""Saves and ends a training at the end of a step, after a signal or before a deadline."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from alignzoo.system.signals import Preempted

if TYPE_CHECKING:
    from alignzoo.system.signals import ReceivedSignal
    from alignzoo.train.checkpointing import CheckpointSaver

OUT_OF_TIME = 1_000  #: the number for the end of `train.stop_before`, above every signal's
SAFETY = 1.5  #: factor on the longest step and save so far, to leave time for the next


class StopAtStepEnd(TrainerCallback):
    """After a signal on any rank, or shortly before the deadline, all ranks save the same step and stop."""

    def __init__(self, received: ReceivedSignal, saving: CheckpointSaver, deadline: float | None) -> None:
        """``deadline``: when everything must be saved, as ``time.time()`` gives it, or None."""
        self.received, self.saving, self.deadline = received, saving, deadline
        self.reason: str | None = None
        """Why the training was stopped; None before."""

        self.longest = 0.0
        self.began = time.time()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note when the step begins."""
        self.began = time.time()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop if any rank has been asked to: if one stopped alone, the others would wait for it."""
        self.longest = max(self.longest, time.time() - self.began)
        asked = reduce_signal(self.received.signal or self._check_deadline(), args.device)
        if asked:
            self.reason = "train.stop_before" if asked == OUT_OF_TIME else signal.Signals(asked).name
            control.should_save = control.should_training_stop = True

    def _check_deadline(self) -> int:
        if self.deadline is None:
            return 0
        room = SAFETY * (self.longest + self.saving.estimate_seconds())
        return OUT_OF_TIME if time.time() + room >= self.deadline else 0


def reduce_signal(asked: int, device: Any) -> int:
    """Return the largest number of all ranks, the same on each of them."""
    import torch
    import torch.distributed as dist

    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return asked
    largest = torch.tensor([asked], device=device, dtype=torch.int32)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return int(largest.item())


def train_until_stopped(
    trainer: Any, saving: CheckpointSaver, received: ReceivedSignal, deadline: float | None
) -> None:
    """Run ``trainer.train``, from the checkpoint from which ``saving`` resumes.

    Raises:
        Preempted: the run was preempted, and is saved.
    """
    preempt = StopAtStepEnd(received, saving, deadline)
    trainer.add_callback(preempt)
    received.waits = True
    trainer.train(resume_from_checkpoint=str(saving.resume_from.folder) if saving.resume_from else None)
    received.waits = False
    if preempt.reason or received.signal:
        reason = preempt.reason or signal.Signals(received.signal).name
        where = f"step {trainer.state.global_step:,} of {trainer.state.max_steps:,}"
        raise Preempted(f"{reason} at {where}", agreed=bool(preempt.reason))
