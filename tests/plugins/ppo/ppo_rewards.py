"""What PPO's tests share: prompts, a reward, and trainers on a model of random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from alignzoo_plugins.online.ppo.config import PPOConfig
from alignzoo_plugins.online.ppo.trainer import PPOTrainer
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = ["Why is the sea salt?", "Name three colours.", "What is a mirror?", "Count to five."]

Reward = Callable[..., list[float]]


def low_ids(prompts: list[Any], completions: list[Any], completion_ids: list[list[int]], **columns: Any) -> list[float]:
    """The share of the answer's tokens from the lower half of the vocabulary: about half, sampled at random."""
    return [sum(token < 512 for token in ids) / len(ids) for ids in completion_ids]


def build_trainers(start: Path, folder: Path) -> Callable[..., PPOTrainer]:
    """Return what builds a trainer: 16 prompts, rollouts of 8 answers of at most 12 tokens, mini-batches of 4."""

    def make(reward: Reward = low_ids, peft_config: Any = None, prompts: int = 16, **settings: Any) -> PPOTrainer:
        basis = {
            "output_dir": str(folder / "run"),
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 1,
            "max_completion_length": 12,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "max_steps": 8,
            "seed": 0,
        }
        return PPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(start),
            args=PPOConfig(**basis | settings),
            reward_funcs=[reward],
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS * (prompts // 4)]),
            processing_class=AutoTokenizer.from_pretrained(start, padding_side="left"),
            peft_config=peft_config,
        )

    return make
