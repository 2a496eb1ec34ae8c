"""Refuses what a configuration file must not decide by itself: which programs run, and whose code is trusted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from alignzoo.config.keys import key_of
from alignzoo.config.plain import flatten
from alignzoo.plugin.registry import registry
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

VARIABLE = "ALIGNZOO_TRUST_CONFIG"

#: What a file may name as ``_target_``; Hydra calls it.
TARGETS = (
    *("hydra._internal.core_plugins.", "hydra.experimental.callbacks.", "hydra_plugins."),
    *("alignzoo.", "optuna.samplers.", "optuna.distributions."),
)

#: What a file may name in ``hydra.job_logging`` and ``hydra.hydra_logging``; Python's logging calls it.
LOGGERS = frozenset(
    {
        *("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "logging.Formatter"),
        *("logging.handlers.RotatingFileHandler", "logging.handlers.TimedRotatingFileHandler"),
        *("colorlog.ColoredFormatter", "ext://sys.stdout", "ext://sys.stderr"),
    }
)

#: Keys that hold commands, or variables that decide which programs are found.
COMMANDS = (
    *("hydra.job.env_set", "hydra.launcher.setup", "hydra.launcher.python", "hydra.launcher.srun_args"),
    *("hydra.launcher.additional_parameters", "hydra.launcher.ray.init.runtime_env"),
    "hydra.launcher.ray.remote.runtime_env",
)

CODE = "trust_remote_code"  #: in any group: whether Python code that comes with a model may run


def is_config_trusted() -> bool:
    """Tell whether the user trusts every configuration file (``ALIGNZOO_TRUST_CONFIG=1``)."""
    return os.environ.get(VARIABLE) == "1"


def refuse_foreign_programs(cfg: DictConfig, words: Sequence[str], primary: str | None) -> None:
    """Refuse programs that files outside of installed packages put into ``cfg``; what was typed is the user's own.

    Callables are refused from any file. From the ``primary`` file, which may have been handed over with a run, so are
    commands and the trust in a model's code; an option of a group was chosen by its name.

    Args:
        cfg: the composed configuration, with its ``hydra`` node.
        words: the command's overrides.
        primary: the path of the file that ``--config-name`` names; None where it is alignzoo's own.

    Raises:
        UserError: there is one.
    """
    files = [source.path for source in cfg.hydra.runtime.config_sources if source.schema == "file"]
    if is_config_trusted() or not (files or primary):
        return
    hydra: Any = OmegaConf.to_container(cfg.hydra, resolve=False)
    found = list(_find_callables(hydra, "hydra"))
    if primary:
        flat = flatten(_plain(cfg))
        found += [(key, value) for key, value in flat.items() if key.startswith(COMMANDS) and value]
        found += [(key, True) for key in find_trusted(cfg)]
    typed = {key_of(word) for word in words}
    for key, value in found:
        if key not in typed and not any(str(value) in word for word in words if isinstance(value, str)):
            raise UserError(
                f"{key}={value} comes from a file ({primary or ', '.join(files)}) and would run a program.\n"
                f"If you trust that file: type {key}=... yourself, or set {VARIABLE}=1."
            )


def refuse_handed_over_trust(cfg: DictConfig, words: Sequence[str], folder: object) -> None:
    """Refuse a run's configuration that trusts a model's code, unless the user does so too by one of ``words``.

    Raises:
        UserError: it does.
    """
    for key in () if is_config_trusted() else find_trusted(cfg):
        if key not in map(key_of, words):
            raise UserError(
                f"{folder} was trained with Python code that came with its model ({key}=true).\n"
                f"If you trust that code: add {key}=true."
            )


def refuse_programs_in_words(words: Sequence[str], file: object) -> None:
    """Refuse words of a command that were read from ``file`` and that name programs: nobody typed them now.

    Raises:
        UserError: there is one.
    """
    for word in () if is_config_trusted() else words:
        key = key_of(word)
        calls = "_target_" in word or key.startswith((*COMMANDS, "hydra.job_logging", "hydra.hydra_logging"))
        if calls or (key.endswith(CODE) and not word.lower().endswith("=false")):
            raise UserError(f"{word} comes from {file} and would run a program.\nIf you trust it: set {VARIABLE}=1.")


def find_trusted(cfg: DictConfig) -> list[str]:
    """Return the keys by which ``cfg`` lets code run that comes with a model."""
    return [key for key, value in flatten(_plain(cfg)).items() if key.endswith(CODE) and value is True]


def _plain(cfg: DictConfig) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    return dict(plain)


def _find_callables(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the callables that Hydra or Python's logging would call, but for those that alignzoo knows."""
    if isinstance(tree, list):
        tree = dict(enumerate(tree))
    if not isinstance(tree, dict):
        if isinstance(tree, str) and tree.startswith(("ext://", "cfg://")) and tree not in LOGGERS:
            yield path, tree
        return
    in_logging = path.startswith(("hydra.job_logging", "hydra.hydra_logging"))
    for key, value in tree.items():
        inner = f"{path}.{key}"
        is_logger = in_logging and key in ("()", "class", "factory")
        if (key == "_target_" and not _is_known(str(value))) or (is_logger and value not in LOGGERS):
            yield inner, value
        else:
            yield from _find_callables(value, inner)


def _is_known(target: str) -> bool:
    """Tell whether ``target`` is Hydra's, one of its plugins', alignzoo's, or a package's that adds to alignzoo."""
    plugins = tuple(f"{package.partition('.')[0]}." for _, package in registry().config_packages)
    return target.startswith((*TARGETS, *plugins))
