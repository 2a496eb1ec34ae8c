"""Declares the hooks that a plugin may implement. This file is the whole plugin contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omegaconf import DictConfig

    from alignzoo.plugin.environment import Environment
    from alignzoo.plugin.judge import Judge
    from alignzoo.plugin.method import Method
    from alignzoo.plugin.reward import Reward
    from alignzoo.plugin.tool import Tool

PROJECT = "alignzoo"  #: also the name of the entry point group

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def alignzoo_methods() -> Iterable[type[Method]]:  # type: ignore[empty-body]
    """Return the alignment methods that this plugin adds.

    Called before any config is composed: neither this function nor its module may import torch or TRL.
    """


@hookspec
def alignzoo_config_packages() -> Iterable[str]:  # type: ignore[empty-body]
    """Return import names of packages that hold config groups, such as ``"alignzoo_slic.conf"``.

    Called before any config is composed. The packages are searched after alignzoo's own ``conf/``, so a plugin adds
    options and must not try to change one. A package needs an ``__init__.py``, which may be empty.
    """


@hookspec
def alignzoo_rewards() -> Iterable[type[Reward]]:  # type: ignore[empty-body]
    """Return the rewards that this plugin adds for on-policy methods.

    Called before any config is composed: neither this function nor its module may import torch or TRL.
    """


@hookspec
def alignzoo_tools() -> Iterable[type[Tool]]:  # type: ignore[empty-body]
    """Return the tools that this plugin adds, which a policy may call while it writes a completion.

    Called before any config is composed: neither this function nor its module may import torch or TRL.
    """


@hookspec
def alignzoo_environments() -> Iterable[type[Environment]]:  # type: ignore[empty-body]
    """Return the environments that this plugin adds, which a policy acts in over several turns.

    Called before any config is composed: neither this function nor its module may import torch or TRL.
    """


@hookspec
def alignzoo_judges() -> Iterable[type[Judge]]:  # type: ignore[empty-body]
    """Return the judges that this plugin adds, which say which of two answers is better.

    Called before any config is composed: neither this function nor its module may import torch or TRL.
    """


@hookspec
def alignzoo_callbacks(cfg: DictConfig) -> Iterable[Any]:  # type: ignore[empty-body]
    """Return ``transformers.TrainerCallback`` objects for the run that ``cfg`` describes.

    Called once a run, after its model is loaded. Must not change ``cfg``.
    """
