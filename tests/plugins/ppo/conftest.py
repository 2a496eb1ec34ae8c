"""What the tests share: a model of random weights, and trainers on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alignzoo_plugins.online.ppo.config import PPOConfig
from alignzoo_plugins.online.ppo.trainer import PPOTrainer
from datasets import Dataset
from ppo_rewards import PROMPTS, Reward, low_ids
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignzoo.models.tiny import make_tiny


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a Llama of 2 layers with random weights."""
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny(folder)
    return folder


@pytest.fixture
def make_trainer(start: Path, tmp_path: Path) -> Callable[..., PPOTrainer]:
    """Return what builds a trainer: 16 prompts, rollouts of 8 answers of at most 12 tokens, mini-batches of 4."""

    def make(reward: Reward = low_ids, peft_config: Any = None, prompts: int = 16, **settings: Any) -> PPOTrainer:
        basis = {
            "output_dir": str(tmp_path / "run"),
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
