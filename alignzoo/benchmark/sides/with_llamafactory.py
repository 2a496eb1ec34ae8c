"""Trains with LLaMA-Factory, in an environment that has it and not alignzoo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llamafactory.train.tuner import run_exp  # type: ignore[import-not-found]
from pace import Pace, serve  # type: ignore[import-not-found]  # the file beside this one

#: Those of TRL's arguments that LLaMA-Factory hands to the same transformers.TrainingArguments.
SHARED = (
    *("per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "lr_scheduler_type"),
    *("warmup_steps", "weight_decay", "max_grad_norm", "optim", "max_steps", "seed", "data_seed", "logging_steps"),
    *("bf16", "use_cpu", "report_to", "logging_first_step", "disable_tqdm"),
)


def train(settings: dict[str, Any], pace: Pace) -> None:
    """Train step by step as ``pace`` is called; the rows are texts with their template in them."""
    arguments, rows = settings["arguments"], Path(settings["rows"])
    names = {name: name for name in ("prompt", "chosen", "rejected")}
    described = {"rows": {"file_name": rows.name, "ranking": True, "columns": names}}
    (rows.parent / "dataset_info.json").write_text(json.dumps(described), encoding="utf-8")
    run_exp(
        {
            **{name: arguments[name] for name in SHARED},
            **{"stage": "dpo", "do_train": True, "finetuning_type": "full", "save_strategy": "no"},
            **{"dataset": "rows", "dataset_dir": str(rows.parent), "template": "empty"},
            "model_name_or_path": settings["model"],
            "cutoff_len": arguments["max_length"],
            "pref_loss": "sigmoid",
            "pref_beta": arguments["beta"],
            "infer_dtype": "float32",
            "disable_gradient_checkpointing": not arguments["gradient_checkpointing"],
            "output_dir": settings["folder"],
            "overwrite_output_dir": True,
        },
        callbacks=[pace],
    )


if __name__ == "__main__":
    serve(train)
