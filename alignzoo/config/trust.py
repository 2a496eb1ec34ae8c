"""Refuses what a configuration file must not decide by itself: which programs run, and whose code is trusted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alignzoo.config.options import config_options
from alignzoo.config.tasks import KEY as TASKS
from alignzoo.config.tasks import is_task_file
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

VARIABLE = "ALIGNZOO_TRUST_CONFIG"

#: What a file may name as ``_target_``, whole: of a prefix, Hydra would follow ``alignzoo.system.cache.shutil.copy``.
TARGETS = re.compile(
    r"""alignzoo\.launch\.hydra_callback\.SweepCallback
    | alignzoo\.study\.callback\.StudyCallback
    | hydra\._internal\.core_plugins\.basic_(launcher\.BasicLauncher|sweeper\.BasicSweeper)
    | hydra\.experimental\.callbacks\.(LogJobReturnCallback|LogComposeCallback|PickleJobInfoCallback)
    | hydra_plugins\.\w+\.\w+\.\w+(Launcher|Sweeper)
    | optuna\.(samplers|distributions)\.[A-Z]\w+""",
    re.VERBOSE,
)

#: What a file may name in ``hydra.job_logging`` and ``hydra.hydra_logging``; Python's logging calls it.
LOGGERS = frozenset(
    {
        *("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "logging.Formatter"),
        *("logging.handlers.RotatingFileHandler", "logging.handlers.TimedRotatingFileHandler"),
        *("colorlog.ColoredFormatter", "ext://sys.stdout", "ext://sys.stderr"),
    }
)

#: What Hydra or its plugins call, and Python's logging: no other part of the configuration may be copied into it.
CALLED = ("callbacks", "launcher", "sweeper", "job_logging", "hydra_logging")

LOG_FILE = "${hydra.runtime.output_dir}/${hydra.job.name}.log"  #: where alone a file may let Python's logging write

#: An interpolation that may stand there: a text of Hydra's own, which is looked at where it stands.
OWN = re.compile(r"\$\{hydra[.:][\w.]+\}")

#: Keys that hold commands, or that decide which programs are found.
COMMANDS = (
    *("hydra.job.env_set", "hydra.searchpath", "hydra.launcher.setup", "hydra.launcher.python"),
    *("hydra.launcher.srun_args", "hydra.launcher.additional_parameters", "hydra.launcher.ray.init.runtime_env"),
    "hydra.launcher.ray.remote.runtime_env",
)

CODE = "trust_remote_code"  #: in any group: whether Python code that comes with a model may run
KERNEL = "attn_implementation"  #: with a slash in it, the program of a hub's repository

#: The file from which the words of the command were read; None: the user typed them.
_words_from: ContextVar[str | None] = ContextVar("words_from", default=None)


def is_config_trusted() -> bool:
    """Tell whether the user trusts every configuration file (``ALIGNZOO_TRUST_CONFIG=1``)."""
    return os.environ.get(VARIABLE) == "1"


@contextmanager
def take_words_from(file: object) -> Iterator[None]:
    """Treat the words of the commands inside as content of ``file``: nobody types them now."""
    token = _words_from.set(str(file))
    try:
        yield
    finally:
        _words_from.reset(token)


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
    primary = _words_from.get() or primary
    files = [source.path for source in cfg.hydra.runtime.config_sources if source.schema == "file"]
    if is_config_trusted() or not (files or primary):
        return
    hydra: Any = OmegaConf.to_container(cfg.hydra, resolve=False)
    found = [*_find_callables(hydra, "hydra"), *_find_copies(hydra)]
    if primary:
        found += [(key, value) for key, value in _list_leaves(_plain(cfg)) if _is_command(key, value)]
        found += find_trusted(cfg).items()
        found += _find_stage_words(cfg)
    typed = set() if _words_from.get() else _read_typed_keys(words)
    for key, value in found:
        if key not in typed:
            raise UserError(
                f"{key}={value} comes from a file ({primary or ', '.join(files)}) and would run a program.\n"
                f"If you trust that file: type {key}=... yourself, or set {VARIABLE}=1."
            )


def refuse_handed_over_trust(cfg: DictConfig, words: Sequence[str], folder: object) -> None:
    """Refuse a run's configuration that trusts a model's code, unless the user does so too by one of ``words``.

    Raises:
        UserError: it does.
    """
    for key, value in find_trusted(cfg).items() if not is_config_trusted() else ():
        if key not in _read_typed_keys(words):
            trained = "was trained with Python code that came with its model"
            what = "names files of tasks, which can run Python code" if key == TASKS else trained
            raise UserError(f"{folder} {what} ({key}={value}).\nIf you trust that code: add {key}={value}.")


def find_trusted(cfg: DictConfig) -> dict[str, str]:
    """Return the keys by which ``cfg`` lets code run that comes with a model or a task, and what is there, as typed.

    Whatever is not plainly false counts: 1, "yes", and what an interpolation would give.
    """
    trees = [_plain(cfg)]
    for group in cfg:
        with suppress(OmegaConfBaseException):  # it lacks a value, or the run folder that is not there yet
            if group != "hydra" and OmegaConf.is_config(cfg[group]):
                trees.append({str(group): OmegaConf.to_container(cfg[group], resolve=True)})
    leaves = [leaf for tree in trees for leaf in _list_leaves(tree) if _is_trust(*leaf)]
    found = {key: "true" if key.endswith(CODE) else str(value) for key, value in leaves}
    tasks = [str(value) for key, value in leaves if key == TASKS]
    return found | ({TASKS: f"[{','.join(dict.fromkeys(tasks))}]"} if tasks else {})


def _is_trust(key: str, value: Any) -> bool:
    *_, last = key.split(".")
    trusted = (last == CODE and value not in (False, None, "false")) or (last == KERNEL and "/" in str(value))
    return trusted or (key == TASKS and is_task_file(str(value)))


def _is_command(key: str, value: Any) -> bool:
    return key.startswith(COMMANDS) and bool(value)


def _find_stage_words(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield the words of a pipeline's stages that could name programs, or allow a model's code."""
    for key, value in _list_leaves({"pipeline": _plain(cfg).get("pipeline")}):
        names = (CODE, f"{KERNEL}=", f"{TASKS}=", "_target_", "${oc.", "hydra")
        if any(text in str(value) for text in names) and not str(value).endswith(f"{CODE}=false"):
            yield key, str(value)


def _find_copies(hydra: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what is copied by an interpolation, from who knows where, into what is called."""
    for key, value in _list_leaves({name: hydra.get(name) for name in CALLED}, "hydra"):
        if isinstance(value, str) and "${" in OWN.sub("", value):
            yield key, value


def _read_typed_keys(words: Sequence[str]) -> set[str]:
    """Return the keys that words of a command line set, those in a mapping ``key={inner: value}`` among them."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    keys = set()
    for word in words:
        with suppress(HydraException):
            parsed = OverridesParser.create().parse_override(word)
            value: Any = parsed.value()
            keys |= {key for key, _ in _list_leaves({parsed.key_or_group: value})} | {parsed.key_or_group}
    return keys


def _plain(cfg: DictConfig) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    return dict(plain)


def _list_leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the key and the value of each scalar; an item of a list has the list's key."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _list_leaves(
                value, f"{prefix}{key}" if not prefix or prefix.endswith(".") else f"{prefix}.{key}"
            )
    elif isinstance(tree, list):
        for value in tree:
            yield from _list_leaves(value, prefix)
    else:
        yield prefix, tree


def _find_callables(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield what Hydra or Python's logging would call, but for what alignzoo knows, and where logging would write."""
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
        called = (key == "_target_" and not _is_known(str(value))) or (is_logger and value not in LOGGERS)
        called = called or (key == "custom_search_space" and value is not None)
        if called or (in_logging and key == "filename" and value != LOG_FILE):
            yield inner, value
        else:
            yield from _find_callables(value, inner)


def _is_known(target: str) -> bool:
    """Tell whether ``target`` is one of :data:`TARGETS`, or stands in an option of an installed package."""
    return bool(TARGETS.fullmatch(target)) or target in _read_shipped_targets()


def _read_shipped_targets() -> set[str]:
    texts = (option.text for options in config_options().values() for option in options.values())
    return {target for text in texts for target in re.findall(r"_target_: *([\w.]+)", str(text))}
