"""Fixes a study's protocol before its first run: a file, and a hash that each of its runs carries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from alignzoo.config.keys import key_of
from alignzoo.config.secrets import hide_in_word
from alignzoo.evaluate.intervals import LEVEL
from alignzoo.study.settings import Settings
from alignzoo.study.space import Knob
from alignzoo.system.errors import UserError
from alignzoo.system.files import write_atomically
from alignzoo.system.parsing import parse_file

FILE = "protocol.yaml"

#: Keys that follow from the others, unless a method's YAML has changed.
DERIVED = ("spaces", "trial_values", "fresh_seeds")

#: Words that say where and how a study runs, and not what it compares.
PLACES = ("hydra", "launcher", "strategy", "tracker", "telemetry", "resume")


@dataclass(frozen=True)
class Protocol:
    """All that is decided before the first run."""

    settings: Settings
    spaces: Mapping[str, Sequence[Knob]]
    """What is tuned of each method."""

    trials: Mapping[str, Sequence[Mapping[str, float]]]
    """The values of each method's trials."""

    seed: int
    """Of all trials; the fresh seeds follow it."""

    words: Sequence[str]
    """Of the command, the same for all runs: model, data, budget."""

    places: Sequence[str] = ()
    """Words of the command that say where and how it runs; they may change."""

    @property
    def fresh_seeds(self) -> list[int]:
        """The seeds of the test's runs."""
        return [self.seed + place for place in range(1, self.settings.seeds + 1)]

    def describe(self) -> dict[str, Any]:
        """Return what is hashed, as plain values."""
        settings = {key: value for key, value in asdict(self.settings).items() if key != "underpowered"}
        fixed = {
            **settings,
            "alpha": round(1 - LEVEL, 3),
            "seed": self.seed,
            "fresh_seeds": self.fresh_seeds,
            "words": [hide_in_word(word) for word in self.words],
            "spaces": {name: [asdict(knob) for knob in knobs] for name, knobs in self.spaces.items()},
            "trial_values": {name: [dict(values) for values in found] for name, found in self.trials.items()},
        }
        plain: dict[str, Any] = json.loads(json.dumps(fixed))
        return plain

    @property
    def hash(self) -> str:
        """The first 16 digits of its SHA-256."""
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()[:16]

    def fix(self, folder: Path) -> None:
        """Write it into the study's folder, or check that the one that is there is the same.

        Raises:
            UserError: the folder holds a study with another protocol.
        """
        file = folder / FILE
        if file.is_file():
            self._refuse_other(file)
        folder.mkdir(parents=True, exist_ok=True)
        more = {"places": [*self.places], "underpowered": self.settings.underpowered}
        content = {"hash": self.hash, "protocol": self.describe(), **more}
        with write_atomically(file) as aside:
            aside.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    def _refuse_other(self, file: Path) -> None:
        then, now = parse_file(file, _parse)["protocol"], self.describe()
        changed = [key for key in {**then, **now} if then.get(key) != now.get(key)]
        causes = [key for key in changed if key not in DERIVED] or changed
        if causes:
            told = [f"{key} was {_shorten(then.get(key))}, is {_shorten(now.get(key))}" for key in causes[:3]]
            shown = "; ".join(told)
            raise UserError(
                f"{file.parent} holds a study with another protocol ({shown}): choose another hydra.sweep.dir, or "
                "start it with the same words."
            )


def _shorten(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _parse(text: str) -> dict[str, Any]:
    found = yaml.safe_load(text)
    if not isinstance(found, dict) or not isinstance(found.get("protocol"), dict):
        raise ValueError("it is not a study's protocol")
    return found


def read_protocol(folder: Path) -> Protocol:
    """Return the protocol of the study in ``folder``.

    Raises:
        UserError: there is none, or it is not what was written.
    """
    file = folder / FILE
    if not file.is_file():
        raise UserError(f"{folder} is not a study's folder: there is no {FILE} in it.")
    return parse_file(file, _rebuild)


def _rebuild(text: str) -> Protocol:
    found = _parse(text)
    fixed = found["protocol"]
    names = Settings.__dataclass_fields__
    more = {"underpowered": found["underpowered"], "rates": tuple(fixed["rates"])}
    settings = {key: fixed[key] for key in names if key in fixed} | more
    protocol = Protocol(
        Settings(**settings),
        {name: [Knob(**knob) for knob in knobs] for name, knobs in fixed["spaces"].items()},
        fixed["trial_values"],
        fixed["seed"],
        fixed["words"],
        found.get("places", []),
    )
    if protocol.hash != found.get("hash"):
        raise ValueError("its hash is another: somebody changed it")
    return protocol


def is_place(word: str) -> bool:
    """Tell whether a word says only where and how a study runs."""
    return key_of(word).split(".")[0].split("/")[0] in PLACES
