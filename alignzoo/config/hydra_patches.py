"""Patches Hydra for this process: the time that ``--help`` takes, and its start on Python 3.14."""

from __future__ import annotations

import argparse
from typing import Any

from hydra.core.config_store import ConfigStore

CHECK = getattr(argparse.ArgumentParser, "_check_help", None)  #: of Python 3.14 and newer


def patch_hydra() -> None:
    """Patch Hydra 1.3. Safe to call twice.

    For each group that ``--help`` lists, Hydra copies its sources, and with them the store of what its plugins
    registered: more than half of the time. The store itself copies what it hands out.

    Python 3.14 reads every option's help when it is declared, where Hydra gives one that is made when it is printed:
    "badly formed help string" (hydra#3121).
    """
    # patch: hydra ConfigStore.__deepcopy__
    ConfigStore.__deepcopy__ = lambda self, memo: self
    if CHECK is not None:
        # patch: argparse ArgumentParser._check_help
        argparse.ArgumentParser._check_help = _check_text  # type: ignore[attr-defined]


def _check_text(parser: argparse.ArgumentParser, action: argparse.Action) -> Any:
    if CHECK is not None and isinstance(action.help, str):
        CHECK(parser, action)
