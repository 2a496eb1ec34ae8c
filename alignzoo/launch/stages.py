"""Reads a pipeline's stages from its YAML, and makes the command line of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.config.keys import MODEL_SOURCES, STAGE_INPUTS, key_of
from alignzoo.config.plain import to_plain
from alignzoo.config.trl_fields import fits
from alignzoo.plugin.method import ModelKind
from alignzoo.plugin.registry import registry
from alignzoo.runs.folder import Run
from alignzoo.system.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig

#: Keys of a stage, with the type that each takes.
KEYS = {"method": "str", "start": "str | None", "reward": "str | None", "overrides": "list", "install": "str | None"}


@dataclass(frozen=True)
class Stage:
    """One stage, as the YAML has it, and its run folder."""

    name: str
    folder: Path
    method: str
    start: str | None = None
    """The stage whose policy it starts from; None: the group ``model``."""

    reward: str | None = None
    """The stage whose reward model scores its answers; None: the group ``reward``."""

    overrides: tuple[str, ...] = ()
    """Words as on the command line, for this stage alone."""

    install: str | None = None
    """The distribution that adds its method, where alignzoo does not."""

    @property
    def is_finished(self) -> bool:
        """Whether its run is finished."""
        return Run(self.folder).is_finished

    @property
    def trains(self) -> ModelKind:
        """What its method trains."""
        return registry().method(self.method).trains

    def error(self, reason: object) -> UserError:
        """Return the error that says ``reason`` of this stage, in one line."""
        return UserError(f"pipeline stage {self.name}: {' '.join(str(reason).split())}")


def read_stages(pipeline: DictConfig, folder: Path) -> list[Stage]:
    """Return the stages of the group ``pipeline`` in their order; their folders lie in ``folder``.

    Raises:
        UserError: a stage lacks a method, has an unknown key, or takes a model from a stage that comes later
            or trains another kind.
    """
    named: Any = to_plain(pipeline).get("stages")
    if not isinstance(named, dict) or not named:
        raise UserError("pipeline.stages is empty: name at least one stage and its method.")
    folders = list_folders(named, folder)
    stages = [_read_stage(str(name), keys, folders[str(name)]) for name, keys in named.items()]
    for place, stage in enumerate(stages):
        _check_method(stage)
        earlier = {other.name: other for other in stages[:place]}
        _check_source(stage, "start", ModelKind.POLICY, earlier)
        _check_source(stage, "reward", ModelKind.REWARD_MODEL, earlier)
    return stages


def list_folders(names: Iterable[Any], folder: Path) -> dict[str, Path]:
    """Return the folder of each stage of the pipeline in ``folder``, by the stages' names in their order."""
    return {str(name): folder / f"{number}-{name}" for number, name in enumerate(names, 1)}


def _read_stage(name: str, keys: Any, folder: Path) -> Stage:
    bare = Stage(name, folder, "")
    if not re.fullmatch(r"[\w-]+", name):
        raise bare.error("its name is also its folder's: letters, digits, - and _ only.")
    if not isinstance(keys, dict) or not keys.get("method"):
        raise bare.error(f"it has no method: add pipeline.stages.{name}.method=METHOD.")
    for key, value in keys.items():
        if key not in KEYS:
            raise bare.error(f"unknown key {key}.{did_you_mean(key, KEYS)} A stage has {', '.join(KEYS)}.")
        if not fits(value, KEYS[key]):
            raise bare.error(f"{key}={value} takes {KEYS[key].replace(' | None', ' or null')}.")
    stage = Stage(name, folder, **{**keys, "overrides": tuple(map(str, keys.get("overrides", ())))})
    _check_words(stage)
    return stage


def _check_words(stage: Stage) -> None:
    decided = {"method": "method"}  # key -> the stage's own key that sets it
    decided |= {"model": "start", "model.path": "start"} if stage.start else {}
    decided |= {"reward": "reward"} if stage.reward else {}
    for word in stage.overrides:
        if "=" not in word and not word.startswith("~"):
            raise stage.error(f"its override {word!r} is not key=value.")
        if key_of(word) in decided:
            own = f"pipeline.stages.{stage.name}.{decided[key_of(word)]}"
            raise stage.error(f"its override {word} is decided by {own}.")


def _check_method(stage: Stage) -> None:
    try:
        registry().method(stage.method)
    except UserError as error:
        how = f" To add it: pip install {stage.install}." if stage.install else ""
        another = f" Or take another: pipeline.stages.{stage.name}.method=METHOD."
        raise stage.error(f"{error}{how}{another}") from None


def _check_source(stage: Stage, key: str, kind: ModelKind, earlier: Mapping[str, Stage]) -> None:
    name = getattr(stage, key)
    if name is None:
        return
    if name not in earlier:
        group = {"start": "model", "reward": "reward"}[key]
        there = ", ".join(earlier) or "none"
        raise stage.error(f"{key}={name} is not an earlier stage (there: {there}); null takes the group `{group}`.")
    if earlier[name].trains is not kind:
        raise stage.error(f"{key}={name} needs a {kind}, and method={earlier[name].method} trains another model.")


def select_shared_words(words: Sequence[str]) -> list[str]:
    """Return the words of the command that hold for all stages.

    Raises:
        UserError: one is about the method, which each stage has for itself.
    """
    for word in words:
        if key_of(word).split(".")[0] == "method":
            raise UserError(f"{word}: each stage has its own method: 'pipeline.stages.STAGE.overrides=[\"{word}\"]'.")
    return [word for word in words if key_of(word).split(".")[0] != "pipeline"]


def make_stage_words(stage: Stage, shared: Sequence[str], model: DictConfig, handed: Mapping[str, Path]) -> list[str]:
    """Return the words of the command that runs the stage by itself; its own come behind those that all share.

    ``model`` is the composed group, and ``handed`` has the paths for keys of :data:`STAGE_INPUTS`.
    """
    own = [f"method={stage.method}", *stage.overrides, *_make_input_words(stage, model, handed)]
    last = {key_of(word): word for word in own}
    return [*(word for word in shared if key_of(word) not in last), *last.values()]


def _make_input_words(stage: Stage, model: DictConfig, handed: Mapping[str, Path]) -> Iterator[str]:
    if stage.start:
        yield from (f"model.{key}=null" for key in MODEL_SOURCES if model.get(key) is not None)
    if stage.reward:
        yield "reward=model"
    yield from (f"{key}={quote_path(path)}" for key, path in handed.items())


def quote_path(path: Path | str) -> str:
    """Return a path as Hydra's grammar takes any text."""
    text = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


def select_settings(words: Sequence[str]) -> list[str]:
    """Return the words without those that only say where models lie, sorted: the same for the same run elsewhere."""
    return sorted(word for word in words if key_of(word) not in STAGE_INPUTS)
