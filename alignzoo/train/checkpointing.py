"""Saves a trainer's checkpoints whole or not at all, with the state that transformers and TRL leave out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from alignzoo.runs import checkpoint
from alignzoo.system.disk import explain_full_disk, require_space
from alignzoo.system.files import put_in_place
from alignzoo.train.trainer_state import load_rest, save_rest

if TYPE_CHECKING:
    from alignzoo.runs.checkpoint import Checkpoint

STATE = "trainer_state.json"  #: transformers' name
WRITE_SPEED = 100e6  #: bytes a second: a slow disk's, to estimate the seconds of the first save
MARGIN = 1.1  #: free disk needed, as a multiple of a checkpoint's bytes


class CheckpointSaver(TrainerCallback):
    """Takes over a trainer's saving: writes aside, seals, renames, prunes; restores the rest on resume.

    Every rank of a distributed run has one, and saves at the same steps.
    """

    def __init__(self, trainer: Any, root: Path, facts: Mapping[str, Any], resume_from: Checkpoint | None) -> None:
        """Attach to ``trainer``, whose checkpoints go below ``root``; ``facts`` are sealed into each.

        ``resume_from``: the checkpoint from which ``trainer.train`` resumes, if any.
        """
        self.trainer, self.root, self.facts, self.resume_from = trainer, root, facts, resume_from
        self.before_resume = TimeBeforeResume(resume_from)
        self.longest = 0.0
        # patch: transformers Trainer._save_checkpoint
        self._write, trainer._save_checkpoint = trainer._save_checkpoint, self.save
        # patch: transformers Trainer._run_epoch
        self._train_epoch, trainer._run_epoch = trainer._run_epoch, self.run_epoch
        # patch: transformers Trainer._finalize_training
        self._end, trainer._finalize_training = trainer._finalize_training, self.finalize
        self.limit, trainer.args.save_total_limit = trainer.args.save_total_limit, None  # we remove the old ones
        trainer.add_callback(self)

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, which renames and removes folders."""
        return bool(self.trainer.is_world_process_zero())

    def estimate_seconds(self) -> float:
        """Return the seconds that the next save may take."""
        return self.longest or self.estimate_bytes() / WRITE_SPEED

    def estimate_bytes(self) -> int:
        """Return the bytes of a checkpoint: the last one's, or a guess: trained weights and AdamW's two moments."""
        weights = [weight for weight in self.trainer.model.parameters() if weight.requires_grad]
        guess = sum(weight.numel() * (weight.element_size() + 8) for weight in weights)
        return int(MARGIN * (checkpoint.measure_newest(self.root) or guess))

    def save(self, model: Any, trial: Any = None) -> None:
        """Save the step that the trainer has reached: in place of ``Trainer._save_checkpoint``.

        Raises:
            UserError: the disk has no room for it; the checkpoints before are whole.
        """
        began, trainer = time.monotonic(), self.trainer
        step, scratch = trainer.state.global_step, self.root / checkpoint.UNFINISHED
        if self.is_main:
            shutil.rmtree(scratch, ignore_errors=True)
            require_space(self.root, self.estimate_bytes(), f"checkpoint {step}")
            scratch.mkdir(parents=True)
        trainer.accelerator.wait_for_everyone()
        aside = checkpoint.folder_of(scratch, step)
        # patch: transformers Trainer._get_output_dir
        trainer._get_output_dir = lambda trial=None: str(scratch)
        try:
            with explain_full_disk(self.root, f"checkpoint {step} was not saved, checkpoints before it are whole"):
                self._write(model, trial)
                save_rest(trainer, aside)
                trainer.accelerator.wait_for_everyone()
                if self.is_main:
                    self._finish(aside, step)
        except Exception:
            if self.is_main:
                shutil.rmtree(scratch, ignore_errors=True)  # the part
            raise
        finally:
            del trainer._get_output_dir
        trainer.accelerator.wait_for_everyone()
        self.longest = max(self.longest, time.monotonic() - began)

    def _finish(self, aside: Path, step: int) -> None:
        state, target = self.trainer.state, checkpoint.folder_of(self.root, step)
        best = checkpoint.folder_of(self.root, state.best_global_step) if state.best_global_step else None
        if best is not None and (best == target or best.exists()):
            state.best_model_checkpoint = str(best)  # transformers only knows the folder aside
            state.save_to_json(str(aside / STATE))
        checkpoint.seal(aside, step, {**self.facts, "spent": self.before_resume.summarise()})
        put_in_place(aside, target)  # a kill in here leaves the one aside, which `checkpoint.tidy` finds
        shutil.rmtree(aside.parent)
        checkpoint.prune(self.root, self.limit, best)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Restore what transformers does not, after it has set up the rest; logging and saving may have changed."""
        if self.resume_from is not None:
            load_rest(self.trainer, self.resume_from.folder)
            state.compute_steps(args, state.max_steps)
            # patch: transformers Trainer._initial_global_step
            self.trainer._initial_global_step = 0  # the mean loss at the end is that of all steps

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell the sampler its epoch: accelerate does not reach it where it skips batches on several processes."""
        samplers = _list_samplers(kwargs["train_dataloader"])
        sampler = next((found for found in samplers if hasattr(found, "set_epoch")), None)
        if sampler is not None:
            sampler.set_epoch(int((state.epoch or 0) + 1e-6))

    def run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Leave out the step that transformers would train beyond the last, if the checkpoint is of the last."""
        if self.trainer.state.global_step >= self.trainer.state.max_steps:
            self.trainer.control.should_training_stop = True
        else:
            self._train_epoch(*args, **kwargs)

    def finalize(self, trial: Any, samples: int, start_time: float) -> Any:
        """Count the seconds before the resume in the totals that are logged at the end."""
        return self._end(trial, samples, start_time - self.before_resume.train_seconds)


class TimeBeforeResume:
    """The steps and seconds of a run before the checkpoint from which it resumes."""

    def __init__(self, resume_from: Checkpoint | None) -> None:
        before: dict[str, Any] = resume_from.facts["spent"] if resume_from else {"resumed": [], "train_seconds": 0.0}
        self.resumed: list[int] = before["resumed"] + ([resume_from.step] if resume_from else [])
        self.train_seconds: float = before["train_seconds"]
        self.began = time.monotonic()

    def summarise(self) -> dict[str, Any]:
        """Return the steps at which the run resumed, and all its seconds of training so far."""
        return {"resumed": self.resumed, "train_seconds": self.train_seconds + time.monotonic() - self.began}


def _list_samplers(loader: Any) -> Iterator[Any]:
    """Yield a data loader's samplers, from the outside in."""
    while loader is not None:
        loader = getattr(loader, "batch_sampler", None) or getattr(loader, "sampler", None)
        if loader is not None:
            yield loader
