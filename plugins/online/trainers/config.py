"""The settings of trainers that need no group of completions to one prompt."""

from __future__ import annotations

from dataclasses import dataclass, field

from trl import GRPOConfig


@dataclass
class UngroupedConfig(GRPOConfig):
    """TRL's :class:`trl.GRPOConfig`, with ``num_generations`` from 1."""

    num_generations: int = field(default=1, metadata={"help": "Answers sampled for each prompt."})
    num_generations_eval: int | None = field(default=None, metadata={"help": "In evaluation: as in training."})

    def __post_init__(self) -> None:
        """Let TRL derive the rest.

        Raises:
            ValueError: a value that TRL refuses.
        """
        asked = self.num_generations
        self.num_generations_eval = self.num_generations_eval or asked
        if asked == 1:  # TRL refuses groups of one completion, which GRPO could not compare
            steps = self.steps_per_generation or self.gradient_accumulation_steps
            self.num_generations = self.generation_batch_size or self.per_device_train_batch_size * steps
        super().__post_init__()
        self.num_generations = asked
