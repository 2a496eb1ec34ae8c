"""Finds the checkpoint from which a run resumes: the newest whole one of its folder, if it is of the same run."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf.errors import OmegaConfBaseException

from alignzoo.config.plain import flatten, to_plain
from alignzoo.config.secrets import hide_secrets
from alignzoo.runs import checkpoint
from alignzoo.runs.folder import CONFIG, GENERATED, Run
from alignzoo.system import ranks
from alignzoo.system.errors import UserError
from alignzoo.system.lock import remove_left_lock

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from alignzoo.config.checked import Checked
    from alignzoo.runs.checkpoint import Checkpoint

log = logging.getLogger(__name__)

#: Keys, and groups of them, that may differ from the checkpoint: they do not change what is trained. On which machines
#: the processes are does not; how many there are does, and is compared in :func:`check`.
MAY_DIFFER = frozenset(
    {
        "evaluate",
        "judge",
        "launcher",
        "prune",
        "resume",
        "strategy.address",
        "strategy.grace",
        "strategy.name",
        "strategy.nodes",
        "strategy.processes",
        "strategy.patience",
        "strategy.rendezvous",
        "strategy.restarts",
        "telemetry",
        "tracker",
        "train.logging_steps",
        "train.save_steps",
        "train.save_strategy",
        "train.save_total_limit",
        "train.stop_before",
        "train.verify",
    }
)

#: Packages whose versions decide the last bits of a training.
PACKAGES = ("torch", "transformers", "trl", "accelerate", "peft")

SHOWN = 5  #: keys that differ to name before the rest is counted


class Refused(UserError):
    """The folder holds another run, whose files must not be touched."""


def is_finished(cfg: DictConfig, folder: Path) -> bool:
    """Return whether ``resume=auto`` finds a finished run in ``folder``, and say so.

    Raises:
        Refused: the folder holds another run.
    """
    run = Run(folder)
    if cfg.get("resume") != "auto" or not (run.is_finished or run.pruned):
        return False
    try:
        then = flatten_config(run.load_config()) if (folder / CONFIG).exists() else None
        ended = _describe_end(run)
    except (UserError, OmegaConfBaseException) as error:
        raise Refused(f"resume=auto: {error}\nChoose another hydra.run.dir, or delete it.") from None
    if then is not None:
        _refuse_difference(folder, then, flatten_config(cfg))
    remove_left_lock(folder)  # of a process that was killed behind its last write
    print(f"resume: {folder} holds {ended}: nothing to do.", flush=True)
    return True


def _describe_end(run: Run) -> str:
    if not run.is_finished:
        return f"the run that was {run.pruned}"
    if (run.folder / GENERATED).is_file():
        return "the finished generation"
    return f"the finished run ({run.read_result().get('cost', {}).get('steps', '?')} steps)"


def find(cfg: DictConfig, folder: Path) -> Checkpoint | None:
    """Return the checkpoint from which the run of ``folder`` resumes, or None where it starts; say which.

    Raises:
        Refused: the checkpoint is of another configuration; there are some, and ``resume`` is no; or those of this run
            could not be resumed.
    """
    root = folder / "checkpoints"
    if cfg.resume == "no":
        if any(root.glob(f"{checkpoint.PREFIX}*")):
            raise Refused(
                f"{folder} holds a run with checkpoints: add resume=auto to resume it, or choose another hydra.run.dir."
            )
        return None
    if any(cfg[group].get("save_only_model") for group in ("train", "method")):
        raise Refused("resume=auto needs the optimizer, which save_only_model=true leaves out of checkpoints: drop it.")
    checkpoint.tidy(root)
    found, skipped = checkpoint.find_newest(root)
    for line in skipped:
        print(f"resume: {line}", flush=True)
    if found is None:
        print(f"resume: no {'whole ' if skipped else ''}checkpoint in {folder}: the run starts anew.", flush=True)
        return None
    _refuse_difference(found.folder, found.facts["config"], flatten_config(cfg))
    _warn_versions(found.facts["versions"])
    print(f"resume: from {found.folder} (step {found.step:,}).", flush=True)
    return found


def collect_facts(
    checked: Checked, start: Path, data: Mapping[str, str], teacher: Path | None = None
) -> dict[str, Any]:
    """Return what a checkpoint of this run must have been made of.

    ``start`` and ``teacher``: these models' folders; ``data``: the manifest's fingerprints.
    """
    return {
        "config": flatten_config(checked.cfg),
        "data": dict(data),
        "start": _list_sizes(start),
        "teacher": _list_sizes(teacher) if teacher else {},
        "device": {"device": checked.device, "precision": checked.precision, "processes": ranks.world_size()},
        "versions": _versions(),
    }


def _list_sizes(folder: Path) -> dict[str, int]:
    """Return the sizes of a model's files: not their times, since a cache is made anew."""
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}


def check(found: Checkpoint | None, now: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of other rows, another start model or another device; :func:`find` compared the config.

    Raises:
        Refused: it names what differs.
    """
    for kind, what in (
        ("data", "rows"),
        ("start", "start model"),
        ("teacher", "teacher"),
        ("device", "device, precision or number of processes"),
    ):
        given = now.get(kind, {})
        then = found.facts.get(kind, {}) if found is not None else given
        if found is not None and then != given:
            keys = ", ".join(f"{kind}.{key}" for key, *_ in find_differences(then, given))
            raise Refused(
                f"resume=auto: {found.folder} was made with another {what} ({keys}).\n"
                "Bring back what it was made with, or choose another hydra.run.dir."
            )


def find_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return the keys whose values differ, with both values, None where there is none; not those that may differ."""
    keys = (key for key in sorted({*then, *now}) if not _may_differ(key))
    return [(key, then.get(key), now.get(key)) for key in keys if then.get(key) != now.get(key)]


def flatten_config(cfg: DictConfig) -> dict[str, Any]:
    """Return the configuration flat, ``method.beta`` -> 0.1, as JSON would give it back, without secrets.

    A value from the environment is there as it was typed, with a hash that changes when the value does.
    """
    values, flat = flatten(to_plain(cfg)), flatten(hide_secrets(cfg))
    for key, value in flat.items():
        if isinstance(value, str) and "${" in value:
            flat[key] = f"{value} {hashlib.sha256(str(values[key]).encode()).hexdigest()[:12]}"
    done: dict[str, Any] = json.loads(json.dumps(flat, default=str))
    return done


def format_command(words: Sequence[str], folder: Path, kind: str) -> str:
    """Return the command that resumes it: ``words`` with ``resume=auto`` and the folder; ``kind`` is run or sweep."""
    own = (f"hydra.{kind}.dir=", "resume=")
    kept = [word for word in words if not word.startswith(own)]
    return shlex.join(["python", "-m", "alignzoo", *kept, f"hydra.{kind}.dir={folder}", "resume=auto"])


def _refuse_difference(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    found = find_differences(then, now)
    if not found:
        return
    shown = ", ".join(_escape(f"{key}={old} (now {new})") for key, old, new in found[:SHOWN])
    more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    raise Refused(
        f"resume=auto: {folder} was made with {shown}{more}.\n"
        "Start it with the same values, or choose another hydra.run.dir."
    )


def _escape(text: str) -> str:
    """Return a text of somebody else's file as one line that a terminal shows, and does not obey."""
    return text if text.isprintable() else ascii(text)


def _warn_versions(then: Mapping[str, str]) -> None:
    now = _versions()
    changed = [f"{name} {then.get(name)} -> {now[name]}" for name in PACKAGES if then.get(name) != now[name]]
    if changed:
        log.warning("resumed with other versions, so the last bits may differ: %s", ", ".join(changed))


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def _may_differ(key: str) -> bool:
    return any(key == known or key.startswith(f"{known}.") for known in MAY_DIFFER)
