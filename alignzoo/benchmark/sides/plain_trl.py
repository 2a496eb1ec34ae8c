"""Trains as a TRL user's script does: a model, rows, a config, a trainer, and nothing of alignzoo.

``python plain_trl.py SETTINGS.json`` trains and saves; without a file, the benchmark says what to train and when.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, KTOConfig, KTOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from alignzoo.benchmark.sides.pace import Pace, score_groups, serve

TRAINERS = {
    "dpo": (DPOConfig, DPOTrainer),
    "ipo": (DPOConfig, DPOTrainer),
    "kto": (KTOConfig, KTOTrainer),
    "orpo": (ORPOConfig, ORPOTrainer),
    "grpo": (GRPOConfig, GRPOTrainer),
}


def build(settings: dict[str, Any]) -> Any:
    """Return the trainer of these settings."""
    config, trainer = TRAINERS[settings["method"]]
    more = {"reward_funcs": [length]} if settings["method"] == "grpo" else {}
    return trainer(
        model=AutoModelForCausalLM.from_pretrained(settings["model"], dtype=torch.float32),
        args=config(output_dir=settings["folder"], **settings["arguments"]),
        train_dataset=load_dataset("json", data_files=settings["rows"], split="train"),
        processing_class=AutoTokenizer.from_pretrained(settings["model"]),
        **more,
    )


def length(completions: list[Any], **columns: Any) -> list[float]:
    """Reward short answers, of chat messages or of text."""
    texts = [one if isinstance(one, str) else one[-1]["content"] for one in completions]
    return [-float(len(text)) for text in texts]


def train(settings: dict[str, Any], pace: Pace) -> None:
    """Train, or score the groups that the settings give, step by step as ``pace`` is called."""
    trainer = build(settings)
    if settings["groups"]:
        score_groups(trainer, settings["groups"], pace)
    else:
        trainer.add_callback(pace)
        trainer.train()


def main() -> None:
    """Train and save what a file describes, or serve the benchmark."""
    if sys.argv[1:]:
        trainer = build(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
        trainer.train()
        trainer.save_model()
    else:
        serve(train)


if __name__ == "__main__":
    main()
