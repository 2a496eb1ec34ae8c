"""Patches Hydra for this process: the time that it takes, its start on Python 3.14, and what files may call."""

from __future__ import annotations

import argparse
import functools
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.importlib_resources_config_source import ImportlibResourcesConfigSource
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from alignzoo.config.trust import refuse_foreign_programs

CHECK = getattr(argparse.ArgumentParser, "_check_help", None)  #: of Python 3.14 and newer


def patch_hydra() -> None:
    """Patch Hydra 1.3. Safe to call twice.

    For each group that ``--help`` lists, Hydra copies its sources, and with them the store of what its plugins
    registered: more than half of the time. The store itself copies what it hands out.

    Before a run Hydra composes the whole configuration to look at ``hydra.mode`` alone, and then composes it again
    (hydra#3440), each time in 0.4 s. And it parses each file anew for each job of a sweep, a third of that.

    Python 3.14 reads every option's help when it is declared, where Hydra gives one that is made when it is printed:
    "badly formed help string" (hydra#3121).

    Hydra calls what a configuration names as ``_target_``, before anybody else sees the configuration.
    """
    # patch: hydra ConfigStore.__deepcopy__
    ConfigStore.__deepcopy__ = lambda self, memo: self
    if not hasattr(ConfigLoaderImpl.load_configuration, "__wrapped__"):
        # patch: hydra ConfigLoaderImpl.load_configuration
        ConfigLoaderImpl.load_configuration = _guard(_compose_once(ConfigLoaderImpl.load_configuration))
        # patch: hydra ImportlibResourcesConfigSource._read_config
        ImportlibResourcesConfigSource._read_config = _parse_once(ImportlibResourcesConfigSource._read_config)
    if CHECK is not None:
        # patch: argparse ArgumentParser._check_help
        argparse.ArgumentParser._check_help = _check_text  # type: ignore[attr-defined]


def _check_text(parser: argparse.ArgumentParser, action: argparse.Action) -> Any:
    if CHECK is not None and isinstance(action.help, str):
        CHECK(parser, action)


def _guard(load: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    """Make Hydra's loader refuse a configuration in which a file names programs."""

    @functools.wraps(load)
    def guarded(
        self: ConfigLoaderImpl, config_name: str | None, overrides: Sequence[str], *args: Any, **kwargs: Any
    ) -> DictConfig:
        cfg = load(self, config_name, overrides, *args, **kwargs)
        found = self.repository._find_object_source(config_name, ObjectType.CONFIG) if config_name else None
        foreign = found is not None and found.scheme() == "file"
        name = str(config_name).removesuffix(".yaml")
        primary = f"{found.path}/{name}.yaml" if found and foreign else None
        refuse_foreign_programs(cfg, overrides, primary)
        return cfg

    return guarded


@dataclass(frozen=True)
class _Composed:
    """The configuration that Hydra composed to find ``hydra.mode``."""

    asked: tuple[str | None, Sequence[str]]
    cfg: DictConfig

    def answers(self, config_name: str | None, overrides: Sequence[str], run_mode: RunMode) -> bool:
        """Whether the run's own configuration is this one: where a choice is missing, a run is refused."""
        complete = run_mode is RunMode.MULTIRUN or not OmegaConf.missing_keys(self.cfg.hydra.runtime.choices)
        mode = f"hydra.mode={run_mode.name}"
        return complete and (config_name, overrides) in (self.asked, (self.asked[0], [*self.asked[1], mode]))

    def take(self, overrides: Sequence[str], run_mode: RunMode) -> DictConfig:
        """Return it with the mode that Hydra adds to the overrides where none is set."""
        if len(overrides) > len(self.asked[1]):
            self.cfg.hydra.mode = run_mode
            self.cfg.hydra.overrides.hydra.append(overrides[-1])
        return self.cfg


def _compose_once(load: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    """Make Hydra's loader hand out once what it composed to find the mode, if the run asks for the same."""

    def load_or_take(
        self: Any,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        composed, self.composed_for_mode = getattr(self, "composed_for_mode", None), None
        if validate_sweep_overrides and composed and composed.answers(config_name, overrides, run_mode):
            parsed = OverridesParser.create().parse_overrides(overrides)
            self.validate_sweep_overrides_legal(parsed, run_mode, from_shell)
            found: DictConfig = composed.take(overrides, run_mode)
            return found
        cfg = load(self, config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
        if not validate_sweep_overrides:
            self.composed_for_mode = _Composed((config_name, list(overrides)), cfg)
        return cfg

    return load_or_take


def _parse_once(read: Callable[..., Any]) -> Callable[..., Any]:
    """Make Hydra parse a package's file once in a process, until it changes."""
    known: dict[tuple[str, str, int, int], bytes] = {}

    @functools.wraps(read)
    def read_or_remember(self: ImportlibResourcesConfigSource, res: Any) -> Any:
        if not isinstance(res, Path):  # of a package in an archive
            return read(self, res)
        facts = res.stat()
        key = self.provider, str(res), facts.st_mtime_ns, facts.st_size
        if key not in known:
            known[key] = pickle.dumps(read(self, res))
        return pickle.loads(known[key])

    return read_or_remember
