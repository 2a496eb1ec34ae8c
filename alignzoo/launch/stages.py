"""Reads a pipeline's stages from its YAML, and makes the command line of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.config.keys import MODEL_SOURCES, STAGE_INPUTS, key_of
from alignzoo.config.plain import to_plain
from alignzoo.config.trl_fields import fits
from alignzoo.launch.rounds import Named, expand_rounds
from alignzoo.plugin.method import ModelKind
from alignzoo.plugin.registry import registry
from alignzoo.runs.folder import Run
from alignzoo.system.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig

#: Keys of a stage, with the type that each takes.
KEYS = {
    "method": "str | None",
    "generate": "str | None",
    "start": "str | None",
    "reward": "str | None",
    "data": "str | None",
    "overrides": "list",
    "install": "str | None",
}

#: Keys that name an earlier stage -> the group that is taken instead where they are null.
SOURCES = {"start": "model", "reward": "reward", "data": "dataset"}


@dataclass(frozen=True)
class Stage:
    """One stage, as the YAML has it, and its run folder."""

    name: str
    folder: Path
    method: str = ""
    """What it trains with; empty where it generates rows."""

    generate: str | None = None
    """The option of the group ``generate`` by which it makes rows of a policy's own answers; None: it trains."""

    start: str | None = None
    """The stage whose policy it starts from; None: the group ``model``."""

    reward: str | None = None
    """The stage whose reward model scores its answers; None: the group ``reward``."""

    data: str | None = None
    """The stage whose generated rows it trains on; None: the group ``dataset``."""

    overrides: tuple[str, ...] = ()
    """Words as on the command line, for this stage alone."""

    install: str | None = None
    """The distribution that adds its method, where alignzoo does not."""

    typed: str = ""
    """Its name in the YAML, where it is one of several rounds."""

    @property
    def key(self) -> str:
        """Where it stands in the configuration."""
        return f"pipeline.stages.{self.typed or self.name}"

    @property
    def is_finished(self) -> bool:
        """Whether its run is finished."""
        return Run(self.folder).is_finished

    @property
    def trains(self) -> ModelKind | None:
        """What its method trains; None where it generates rows."""
        return None if self.generate else registry().method(self.method).trains

    def error(self, reason: object) -> UserError:
        """Return the error that says ``reason`` of this stage, in one line."""
        return UserError(f"pipeline stage {self.name}: {' '.join(str(reason).split())}")


def read_stages(pipeline: DictConfig, folder: Path) -> list[Stage]:
    """Return the stages of the group ``pipeline`` in their order; their folders lie in ``folder``.

    Raises:
        UserError: a stage lacks a method, has an unknown key, or takes a model from a stage that comes later
            or trains another kind.
    """
    stages = [_read_stage(one, place) for one, place in list_stages(to_plain(pipeline), folder)]
    for place, stage in enumerate(stages):
        if not stage.generate:
            _check_method(stage)
        earlier = {other.name: other for other in stages[:place]}
        _check_source(stage, "start", ModelKind.POLICY, earlier)
        _check_source(stage, "reward", ModelKind.REWARD_MODEL, earlier)
        _check_source(stage, "data", None, earlier)
    return stages


def list_stages(pipeline: Mapping[str, Any], folder: Path) -> list[tuple[Named, Path]]:
    """Return the stages of the group ``pipeline`` in order, as the YAML has them, with their folders in ``folder``.

    Raises:
        UserError: as :func:`alignzoo.launch.rounds.expand_rounds`.
    """
    return [(one, folder / f"{number}-{one.name}") for number, one in enumerate(expand_rounds(pipeline), 1)]


def _read_stage(named: Named, folder: Path) -> Stage:
    name, keys, typed = named
    bare = Stage(name, folder, typed=typed)
    if not re.fullmatch(r"[\w-]+", name):
        raise bare.error("its name is also its folder's: letters, digits, - and _ only.")
    if not isinstance(keys, dict) or not (keys.get("method") or keys.get("generate")):
        raise bare.error(f"it has no method: add {bare.key}.method=METHOD, or generate=pairs to generate rows.")
    for key, value in keys.items():
        if key not in KEYS:
            raise bare.error(f"unknown key {key}.{did_you_mean(key, KEYS)} A stage has {', '.join(KEYS)}.")
        if not fits(value, KEYS[key]):
            raise bare.error(f"{key}={value} takes {KEYS[key].replace(' | None', ' or null')}.")
    own = {**keys, "method": keys.get("method") or "", "overrides": tuple(map(str, keys.get("overrides", ())))}
    stage = Stage(name, folder, **own, typed=typed)
    if stage.generate and (stage.method or stage.data):
        what = f"method={stage.method}" if stage.method else f"data={stage.data}"
        raise stage.error(f"{what} beside generate={stage.generate}: a stage trains or generates; leave one out.")
    _check_words(stage)
    return stage


def _check_words(stage: Stage) -> None:
    decided = {"method": "method", "generate": "generate"}  # key -> the stage's own key that sets it
    decided |= {"model": "start", "model.path": "start"} if stage.start else {}
    decided |= {"reward": "reward"} if stage.reward else {}
    decided |= {"dataset.generated": "data"} if stage.data else {}
    for word in stage.overrides:
        if "=" not in word and not word.startswith("~"):
            raise stage.error(f"its override {word!r} is not key=value.")
        if key_of(word) in decided:
            raise stage.error(f"its override {word} is decided by {stage.key}.{decided[key_of(word)]}.")


def _check_method(stage: Stage) -> None:
    try:
        registry().method(stage.method)
    except UserError as error:
        how = f" To add it: pip install {stage.install}." if stage.install else ""
        another = f" Or take another: {stage.key}.method=METHOD."
        raise stage.error(f"{error}{how}{another}") from None


def _check_source(stage: Stage, key: str, kind: ModelKind | None, earlier: Mapping[str, Stage]) -> None:
    """Check that the stage that ``key`` names comes earlier and makes a model of ``kind``, or rows where it is None."""
    name = getattr(stage, key)
    if name is None:
        return
    if name not in earlier:
        group, there = SOURCES[key], ", ".join(earlier) or "none"
        raise stage.error(f"{key}={name} is not an earlier stage (there: {there}); null takes the group `{group}`.")
    if earlier[name].trains is not kind:
        needed = f"a {kind}" if kind else "a stage that generates"
        made = f"method={earlier[name].method} trains another model" if earlier[name].method else f"{name} makes rows"
        made = made if kind else f"{name} trains"
        raise stage.error(f"{key}={name} needs {needed}, and {made}.")


def select_shared_words(words: Sequence[str]) -> list[str]:
    """Return the words of the command that hold for all stages.

    Raises:
        UserError: one is about the method, which each stage has for itself.
    """
    for word in words:
        if key_of(word) == "generate":
            raise UserError(f"{word}: a stage has its own: pipeline.stages.STAGE.{word.lstrip('+')}")
        if key_of(word).split(".")[0] == "method":
            raise UserError(f"{word}: each stage has its own method: 'pipeline.stages.STAGE.overrides=[\"{word}\"]'.")
    return [word for word in words if key_of(word).split(".")[0] != "pipeline"]


def make_stage_words(stage: Stage, shared: Sequence[str], model: DictConfig, handed: Mapping[str, Path]) -> list[str]:
    """Return the words of the command that runs the stage by itself; its own come behind those that all share.

    ``model`` is the composed group, and ``handed`` has the paths for keys of :data:`STAGE_INPUTS`.
    """
    kind = f"+generate={stage.generate}" if stage.generate else f"method={stage.method}"
    own = [kind, *stage.overrides, *_make_input_words(stage, model, handed)]
    last = {key_of(word): word for word in own}
    fitting = [word for word in shared if stage.generate or not key_of(word).startswith("generate.")]
    return [*(word for word in fitting if key_of(word) not in last), *last.values()]


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
