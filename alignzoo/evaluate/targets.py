"""Resolves what `evaluate` and `chat` are given: a run, a checkpoint, a model's folder or a hub id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from alignzoo.config.compose import compose
from alignzoo.config.later_keys import add_later_keys
from alignzoo.config.trust import refuse_handed_over_trust
from alignzoo.runs.folder import CONFIG, Run
from alignzoo.system.errors import UserError, explain_missing
from alignzoo.system.hub import is_local_path

#: Group -> what to type where a run's is not to be another one.
INSTEAD = {
    "model": "to compare with another than its start model, evaluate.against=FOLDER_OR_HUB_ID",
    "dataset": "override values, as in dataset.path=FILE, or dataset.heldout.path=FILE for held-out rows alone",
    "evaluate": "override values, as in evaluate.rows=100",
}

#: How a run's model is measured by nothing of the run's.
COPY = "A copy of its folder model, outside of the run, is measured with the configuration of your words alone."


@dataclass(frozen=True)
class Target:
    """A model to measure and the configuration for it."""

    name: str
    cfg: DictConfig
    """The data, the start model and the settings to measure it by."""

    folder: Path | None
    """The trained model's folder; None for a hub id."""

    run: Path | None
    """The run folder that it belongs to, or None."""


def resolve_target(word: str, overrides: Sequence[str]) -> Target:
    """Return what ``word`` names; a run brings its configuration, anything else takes that of ``overrides``.

    Raises:
        UserError: it is a folder without a model, or ``overrides`` choose another option of a run's group.
    """
    path = Path(word).expanduser()
    if not path.exists():
        if is_local_path(word):
            raise UserError(f"{word}: no such folder.{explain_missing(word)}")
        return Target(word, compose(overrides), None, None)
    run = next((folder for folder in (path.resolve(), *path.resolve().parents) if (folder / CONFIG).is_file()), None)
    model = path / "model" if (path / CONFIG).is_file() else path
    if not any((model / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise UserError(f"{word} holds no trained model: name a run that has finished, or a model's folder.")
    cfg = compose(overrides) if run is None else load_run_config(run, overrides)
    return Target(word, cfg, model.resolve(), run)


def load_run_config(run: Path, overrides: Sequence[str]) -> DictConfig:
    """Return the configuration of a run, with values of ``overrides`` in place of its own."""
    cfg = Run(run).load_config()
    add_later_keys(cfg)
    OmegaConf.set_struct(cfg, True)
    for word in overrides:
        key, _, value = word.partition("=")
        old = OmegaConf.select(cfg, key)
        if isinstance(old, DictConfig) and key in cfg:
            raise UserError(f"{word}: a run keeps its own {key}; {INSTEAD.get(key, 'override values of it')}.\n{COPY}")
        try:
            cfg.merge_with_dotlist([f"{key}={value}"])
        except Exception as error:  # OmegaConf has a class for each kind
            raise UserError(f"{word}: {str(error).splitlines()[0]}") from None
    refuse_handed_over_trust(cfg, overrides, run)
    return cfg
