"""Lets the benchmark call the steps of several programs in turn; needs transformers alone."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, TextIO

import torch
from transformers import TrainerCallback

#: What TRL logs of the completions that it sampled.
LENGTH = "completions/mean_length"


class Pace(TrainerCallback):
    """Waits for a line on stdin before each step, and answers with its seconds when it is done.

    A step ends where the trainer says so, and begins with what comes between: its logging and its next batch.
    """

    def __init__(self, answers: TextIO) -> None:
        self.answers = answers
        self.reference = 0.0  #: seconds of a reference pass before the first step
        self.lengths: list[float] = []  #: mean tokens of a sampled completion, by step
        self.count: Callable[[], dict[str, Any]] = dict  #: returns what else to tell at the end

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Say that all is loaded."""
        self.tell(reference=self.reference)
        self.wait()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell the step's time; the last one has none behind it to wait for."""
        self.done(last=state.global_step == state.max_steps)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell the losses and the memory."""
        self.lengths = [float(line[LENGTH]) for line in state.log_history if LENGTH in line]
        self.end([float(line["loss"]) for line in state.log_history if "loss" in line])

    def wait(self) -> None:
        """Wait to be called."""
        sys.stdin.readline()
        self.began, self.spent = time.perf_counter(), time.process_time()

    def done(self, last: bool = False) -> None:
        """End a step, and wait for the next one unless it is the last."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.tell(seconds=time.perf_counter() - self.began, processor=time.process_time() - self.spent)
        if not last:
            self.wait()

    def end(self, losses: list[float]) -> None:
        """Tell the loss of each step, and the process's peak memory in bytes: the GPU's where there is one."""
        scale = 1 if sys.platform == "darwin" else 1024
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
        on_gpu = torch.cuda.is_available() and torch.cuda.max_memory_allocated()
        self.tell(losses=losses, peak=on_gpu or resident, lengths=self.lengths, **self.count())

    def tell(self, **facts: Any) -> None:
        """Write one line of JSON."""
        self.answers.write(json.dumps(facts) + "\n")
        self.answers.flush()


def serve(train: Callable[[dict[str, Any], Pace], None]) -> None:
    """Run ``train`` on the settings in each line of stdin, in a process of its own; imports are paid once, before."""
    answers = os.fdopen(int(os.environ["BENCHMARK_ANSWERS"]), "w")  # not stdout, where libraries print
    for line in iter(sys.stdin.readline, ""):
        if (child := os.fork()) == 0:
            _leave_after(train, json.loads(line), Pace(answers))
        _, status = os.waitpid(child, 0)
        Pace(answers).tell(exit=os.waitstatus_to_exitcode(status))


def _leave_after(train: Callable[[dict[str, Any], Pace], None], settings: dict[str, Any], pace: Pace) -> None:
    """Train, and end the process without what its parent would do at its end."""
    try:
        train(settings, pace)
        code = 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)


def score_groups(trainer: Any, groups: list[dict[str, Any]], pace: Pace) -> None:
    """Put groups of answers through the pass that GRPO's and RLOO's losses begin with, forward and backward.

    Each of ``groups`` has ``prompt``, token ids, and ``answers``, a list of token ids each. The loss that is told is
    the mean negative log-probability of an answer's token.
    """
    trainer.model.train()
    losses: list[float] = []
    pace.on_train_begin()
    for number, group in enumerate(groups, 1):
        ids, mask, kept = (tensor.to(trainer.accelerator.device) for tensor in _batch(trainer, group))
        with trainer.accelerator.autocast():
            found = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, kept.shape[1])[0]
        loss = -(found * kept).sum() / kept.sum()
        loss.backward()
        trainer.model.zero_grad()
        losses.append(float(loss.detach()))
        pace.done(last=number == len(groups))
    pace.end(losses)


def _batch(trainer: Any, group: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ids and mask, (answers, tokens), and the mask of the answers' tokens, (answers, longest), as TRL pads."""
    from torch.nn.utils.rnn import pad_sequence

    prompt, answers = torch.tensor(group["prompt"]), [torch.tensor(answer) for answer in group["answers"]]
    kept = pad_sequence([torch.ones_like(answer) for answer in answers], batch_first=True)
    padded = pad_sequence(answers, batch_first=True, padding_value=trainer.processing_class.pad_token_id)
    prompts = prompt.expand(len(answers), -1)
    return torch.cat([prompts, padded], 1), torch.cat([torch.ones_like(prompts), kept], 1), kept
