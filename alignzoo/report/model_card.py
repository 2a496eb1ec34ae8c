"""Writes the model card beside the weights."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.config.metrics import NUMBERS

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from alignzoo.plugin.method import Method


def write_card(folder: Path, cfg: DictConfig, method: type[Method], result: Mapping[str, Any]) -> None:
    """Write ``README.md``: start model, method, data, settings, and the numbers on the held-out rows."""
    start = cfg.model.path or cfg.model.wheel or cfg.model.name
    lines = [
        "---",
        "library_name: transformers",
        *([f"base_model: {cfg.model.path}"] if cfg.model.path and cfg.model.path.count("/") == 1 else []),
        f"tags: [alignzoo, trl, {method.name}]",
        "---",
        "",
        f"# {cfg.model.name}, aligned with {method.name} on {cfg.dataset.name}",
        "",
        (method.__doc__ or "").partition("\n")[0],
        "",
        f"- start model: `{start}`",
        f"- data: `{cfg.dataset.path}`{_say_generated(cfg)}, {result['rows'].get('train', 0)} rows trained on",
        f"- learning rate {cfg.method.get('learning_rate')}, beta {cfg.method.get('beta')}, "
        f"{result['cost']['steps']} steps of {cfg.train.global_batch_size} rows, adapter: {cfg.peft.name}, "
        f"seed {cfg.seed}",
        f"- made with alignzoo {importlib.metadata.version('alignzoo')} and trl {importlib.metadata.version('trl')}",
        "",
        *_make_table(result),
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _say_generated(cfg: DictConfig) -> str:
    """Return that the answers trained on are not the dataset's, where they were generated."""
    made = cfg.dataset.get("generated")
    return f", its prompts answered anew by a model (`{Path(made).name}`)" if made else ""


def _make_table(result: Mapping[str, Any]) -> list[str]:
    before, after = result["before"], result["after"]
    if not after:
        return []
    shown = [(key, number) for key, number in NUMBERS.items() if key in after]
    rows = [f"| {n.label} | {n.form.format(before[key])} | {n.form.format(after[key])} |" for key, n in shown]
    return ["| held-out rows | before | after |", "| --- | --- | --- |", *rows]
