"""Checks the benchmark tasks that a configuration names, before anything is loaded."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from alignzoo.config.plain import to_plain
from alignzoo.plugin.method import ModelKind
from alignzoo.system.errors import UserError
from alignzoo.system.hub import is_local_path

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from alignzoo.plugin.method import Method

KEY = "evaluate.tasks"


def is_task_file(word: str) -> bool:
    """Tell whether a word of ``evaluate.tasks`` names a file or folder, which can run Python code, and not a task."""
    return is_local_path(word) or word.endswith((".yaml", ".yml"))


def check_tasks(cfg: DictConfig, method: type[Method]) -> None:
    """Refuse tasks that cannot be measured.

    Raises:
        UserError: one is not a name or stands there twice, the method trains a reward model, or the harness is missing.
    """
    tasks: list[Any] = to_plain(cfg.evaluate.tasks)
    if not tasks:
        return
    for task in tasks:
        if not isinstance(task, str) or not task.strip():
            raise UserError(f"{KEY}: {task!r} must be the name of a task, a YAML file or a folder of them.")
        if tasks.count(task) > 1:
            raise UserError(f"{KEY} names {task} twice.")
    if method.trains is ModelKind.REWARD_MODEL:
        raise UserError(f"{KEY}: method={method.name} trains a reward model, which generates no text. Leave it out.")
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError(f"{KEY} needs lm-evaluation-harness: pip install 'alignzoo[tasks]'.")
