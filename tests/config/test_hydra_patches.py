"""The patches of Hydra: what needs them still does, and nothing else changes."""

from __future__ import annotations

import argparse

import pytest
from hydra._internal.utils import get_args_parser

from alignzoo.config import hydra_patches


def checked_as_by_python_3_14(parser: argparse.ArgumentParser, action: argparse.Action) -> None:
    if action.help and "%s" in action.help:
        raise ValueError("badly formed help string")


def declares(*words: str, **options: str) -> argparse.Action:
    """Declare an option as Python 3.14 does, where an older one runs this test."""
    parser = argparse.ArgumentParser()
    action = parser.add_argument(*words, **options)  # type: ignore[arg-type]
    parser._check_help(action)  # type: ignore[attr-defined]
    return action


@pytest.fixture
def python_3_14(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(argparse.ArgumentParser, "_check_help", checked_as_by_python_3_14, raising=False)
    monkeypatch.setattr(hydra_patches, "CHECK", checked_as_by_python_3_14)


def test_hydras_options_are_declared_on_python_3_14(python_3_14: None) -> None:
    hydra_patches.patch_hydra()
    hydra_patches.patch_hydra()
    options = get_args_parser()._actions
    lazy = [action for action in options if action.help and not isinstance(action.help, str)]
    assert lazy, "Hydra gives texts alone now: alignzoo/config/hydra_patches.py is needed no longer"
    with pytest.raises(TypeError):
        checked_as_by_python_3_14(argparse.ArgumentParser(), lazy[0])
    for action in options:
        argparse.ArgumentParser._check_help(argparse.ArgumentParser(), action)  # type: ignore[attr-defined]


def test_a_text_is_checked_as_before(python_3_14: None) -> None:
    hydra_patches.patch_hydra()
    assert declares("--beta", help="of the method").help == "of the method"
    with pytest.raises(ValueError, match="badly formed"):
        declares("--beta", help="%s")
