"""Gives the configuration of an older run the keys that came later."""

from __future__ import annotations

import importlib.resources

from omegaconf import DictConfig, OmegaConf, open_dict

#: Keys that came later -> the file of their defaults, and where in it they stand.
LATER = {
    "prune": ("config.yaml", "prune"),
    "average": ("config.yaml", "average"),
    "tools": ("config.yaml", "tools"),
    "environment": ("config.yaml", "environment"),
    "environment.name": ("environment/none.yaml", "name"),
    "dataset.validation": ("config.yaml", "dataset.validation"),
    "evaluate.on_the_way": ("evaluate/default.yaml", "on_the_way"),
    "evaluate.tasks": ("evaluate/default.yaml", "tasks"),
    "evaluate.task_items": ("evaluate/default.yaml", "task_items"),
}


def add_later_keys(cfg: DictConfig) -> None:
    """Add the keys that ``cfg`` lacks, with their defaults."""
    for key, (file, place) in LATER.items():
        group, _, name = key.rpartition(".")
        there = OmegaConf.select(cfg, group) if group else cfg
        if isinstance(there, DictConfig) and name not in there:
            text = importlib.resources.files("alignzoo_conf").joinpath(file).read_text(encoding="utf-8")
            with open_dict(there):
                there[name] = OmegaConf.select(OmegaConf.create(text), place)
