"""Loads tasks of lm-evaluation-harness (Gao et al., 2023) with their data: by name, or from YAML files and folders."""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alignzoo.config.tasks import KEY, is_task_file
from alignzoo.system.errors import UserError, did_you_mean, explain_missing
from alignzoo.system.hub import explain_hub_error, hub

#: What the harness says of every model that is loaded already, as all of ours are, and of metrics in their usual form.
NOISE = ("`pretrained` model kwarg is not of type", "Passed an already-initialized model", "is defined, but")


@dataclass(frozen=True)
class LoadedTask:
    """One task of the harness, with its data."""

    name: str
    """What its numbers are called: the group's name, where a group was asked for."""

    part: str
    """The harness's name of it."""

    task: Any
    """The harness's own object, which draws a random number wherever it is asked for its name."""

    @property
    def generates(self) -> bool:
        """Whether the model writes its answers; else it ranks given ones by their likelihood."""
        return bool(self.task.get_config("output_type") == "generate_until")


def load_tasks(words: Sequence[str]) -> list[LoadedTask]:
    """Return the tasks that ``evaluate.tasks`` names, their data read or downloaded.

    Raises:
        UserError: no task or file has that name, its data cannot be loaded, or it would run code that the model writes.
    """
    _silence_harness()
    with fixed_random_numbers():
        found = [task for word in words for task in (_load_files(word) if is_task_file(word) else _load_named(word))]
        for one in found:
            _prepare(one)
    parts = [(one.name, one.part) for one in found]
    for pair in parts:
        if parts.count(pair) > 1:
            raise UserError(f"{KEY} names the task {pair[1]} twice.")
    return found


@contextlib.contextmanager
def fixed_random_numbers() -> Iterator[None]:
    """Let tasks draw the same numbers each time, and those of the training be as if none had been drawn."""
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            random.seed(0)
            np.random.seed(0)
            torch.manual_seed(0)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@functools.cache
def _index_tasks() -> Any:
    """Return the harness's index of its own tasks, which takes seconds to read."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _load_named(name: str) -> list[LoadedTask]:
    manager = _index_tasks()
    entry = manager.task_index.get(name)
    if entry is None:
        near = did_you_mean(name, manager.all_tasks)
        raise UserError(f"{KEY}: lm-evaluation-harness has no task {name}, and no file has that name.{near}")
    data = str((entry.cfg or {}).get("dataset_path") or name)
    with _explain(f"{name} ({data})" if data != name else name), hub().reading(data):
        return _name_tasks(manager.load([name]), name)


def _name_tasks(loaded: Any, name: str) -> list[LoadedTask]:
    """Return the tasks under the name of their group, where ``name`` is one; the tasks of a tag have their own."""
    is_group = name in loaded["groups"]
    return [LoadedTask(name if is_group else part, part, task) for part, task in loaded["tasks"].items()]


def _load_files(word: str) -> list[LoadedTask]:
    path = Path(word).expanduser()
    if not path.exists():
        raise UserError(f"{KEY}: {word}: no such file or folder.{explain_missing(path)}")
    return _load_folder(word, path.resolve()) if path.is_dir() else _load_file(word, path.resolve())


def _load_file(word: str, file: Path) -> list[LoadedTask]:
    from lm_eval.tasks import TaskManager

    with _explain(word), contextlib.chdir(file.parent):  # the data's paths are relative to the file
        found = re.search(r"^group\s*:\s*(\S+)", file.read_text(encoding="utf-8"), re.MULTILINE)
        group = found[1].strip("'\"") if found else None
        # A group names other tasks, of the harness or beside it.
        manager = TaskManager(include_path=[file.parent]) if group else TaskManager(include_defaults=False)
        return _name_tasks(manager.load([group or str(file)]), group or "")


def _load_folder(word: str, folder: Path) -> list[LoadedTask]:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=[folder], include_defaults=False)
    entries = [manager.task_index[name] for name in manager.all_subtasks]
    indexed = {entry.yaml_path for entry in entries}
    for file in sorted(folder.rglob("*.yaml")):
        text = file.read_text(encoding="utf-8", errors="replace")
        if file not in indexed and re.search(r"^task\s*:\s*[^\s\[-]", text, re.MULTILINE) and "\ngroup:" not in text:
            raise UserError(f"{KEY}: {file} cannot be read, or another file of {word} has its task's name.")
    if not entries:
        raise UserError(f"{KEY}: {word} holds no YAML file of a task.")
    found = []
    for entry in entries:
        with _explain(f"{word}: {entry.name}"), contextlib.chdir(entry.yaml_path.parent):
            found += _name_tasks(manager.load([entry.name]), "")
    return found


def _prepare(one: LoadedTask) -> None:
    """Fix the task's number of examples and which they are, as the harness does by itself.

    Raises:
        UserError: it runs what the model writes, or shows it pictures.
    """
    from lm_eval.defaults import DEFAULT_OTHER_SEED

    if getattr(one.task, "UNSAFE_CODE", False):
        raise UserError(f"{KEY}: {one.part} would run the code that the model writes. Leave it out.")
    if getattr(one.task, "MULTIMODAL", False):
        raise UserError(f"{KEY}: {one.part} needs a model that sees or hears. Leave it out.")
    if one.task.get_config("num_fewshot") is None:
        one.task.set_config(key="num_fewshot", value=0)
    one.task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)


@contextlib.contextmanager
def _explain(what: str) -> Iterator[None]:
    """Turn what the harness and its libraries raise into one line: a task is a file that somebody wrote."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"{KEY}: {what} needs a package: {error}. Install it with pip.") from error
    except Exception as error:
        said = explain_hub_error(error).replace("name a folder", "name a YAML file with local data")
        raise UserError(f"{KEY}: {what}: {said}") from error


@functools.cache
def _silence_harness() -> None:
    """Leave out the harness's account of its work, and what it logs of every model."""
    logging.getLogger("lm_eval").setLevel(logging.WARNING)
    for name in ("models.huggingface", "api.task"):
        log = logging.getLogger(f"lm_eval.{name}")
        log.addFilter(lambda record: not any(text in record.getMessage() for text in NOISE))
