"""Patches Hydra for this process: the time that ``--help`` takes, its start on Python 3.14, and what files may call."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from alignzoo.config.trust import refuse_foreign_programs

CHECK = getattr(argparse.ArgumentParser, "_check_help", None)  #: of Python 3.14 and newer


def patch_hydra() -> None:
    """Patch Hydra 1.3. Safe to call twice.

    For each group that ``--help`` lists, Hydra copies its sources, and with them the store of what its plugins
    registered: more than half of the time. The store itself copies what it hands out.

    Python 3.14 reads every option's help when it is declared, where Hydra gives one that is made when it is printed:
    "badly formed help string" (hydra#3121).

    Hydra calls what a configuration names as ``_target_``, before anybody else sees the configuration.
    """
    # patch: hydra ConfigStore.__deepcopy__
    ConfigStore.__deepcopy__ = lambda self, memo: self
    if not hasattr(ConfigLoaderImpl.load_configuration, "__wrapped__"):
        # patch: hydra ConfigLoaderImpl.load_configuration
        ConfigLoaderImpl.load_configuration = _guard(ConfigLoaderImpl.load_configuration)
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
        found = self.repository.load_config(config_path=config_name) if config_name else None
        foreign = found is not None and found.path.startswith("file://")
        name = str(config_name).removesuffix(".yaml")
        primary = f"{found.path.removeprefix('file://')}/{name}.yaml" if found and foreign else None
        refuse_foreign_programs(cfg, overrides, primary)
        return cfg

    return guarded
