"""Makes a study's protocol from the words of its command."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.config.check import check
from alignzoo.config.compose import compose
from alignzoo.config.keys import key_of
from alignzoo.config.secrets import EXAMPLE, MASK, hide_in_word
from alignzoo.study.protocol import Protocol, is_place
from alignzoo.study.settings import read_settings
from alignzoo.study.space import draw_trials, read_space
from alignzoo.study.validation import choose_validation
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

OWN = ("hydra.sweep.dir", "hydra.run.dir", "resume")  #: keys that the study sets for its sweeps


def find_folder(words: Sequence[str]) -> Path:
    """Return the study's folder: ``hydra.sweep.dir``, or one named by the time."""
    named = [word.partition("=")[2] for word in words if key_of(word) == "hydra.sweep.dir"]
    return Path(named[-1]) if named else Path(f"outputs/studies/{datetime.now():%Y-%m-%d/%H-%M-%S}")


def make_protocol(words: Sequence[str]) -> Protocol:
    """Return the protocol that the command's words ask for; each method's first and last trial is checked as a run.

    Raises:
        UserError: a key is unknown, a value cannot be, or a run would be refused.
    """
    own, shared = _split_words(words)
    asked = compose([*_choose_group(own), *shared])
    settings = read_settings(asked)
    shared = [*shared, *choose_validation(asked)]
    kept = [word for word in shared if not is_place(word)]
    kept = [word for word in kept if key_of(word) != "evaluate.objective"]
    kept.append(f"evaluate.objective={settings.number}")
    places = [word for word in shared if is_place(word)]
    spaces, trials, seed = {}, {}, 0
    for method in settings.methods:
        cfg = compose([*_without_hydra(shared), f"method={method}"])
        seed = int(cfg.seed)
        spaces[method] = read_space(cfg, settings)
        trials[method] = draw_trials(spaces[method], settings.trials, seed)
        for values in (trials[method][0], trials[method][-1]):
            check_trial(compose([*make_run_words(kept, method, values), *_without_hydra(places)]), method)
    kept = [word for word in kept if key_of(word) != "seed"]
    return Protocol(settings, spaces, trials, seed, kept, places)


def make_run_words(words: Sequence[str], method: str, values: Any) -> list[str]:
    """Return the words that compose one trial by itself."""
    return [*words, f"method={method}", *(f"method.{key}={value!r}" for key, value in values.items())]


def make_trial_words(protocol: Protocol, method: str) -> list[str]:
    """Return the words that compose a method's first trial, without those that launch it."""
    return [*make_run_words(protocol.words, method, protocol.trials[method][0]), *_without_hydra(protocol.places)]


def check_trial(cfg: DictConfig, method: str) -> None:
    """Refuse a study one of whose runs would be refused, before any is started.

    Raises:
        UserError: it would, and why.
    """
    try:
        check(cfg)
    except UserError as error:
        raise UserError(f"study of method={method}: {error}") from None


def _without_hydra(words: Sequence[str]) -> list[str]:
    return [word for word in words if key_of(word).split(".")[0].split("/")[0] != "hydra"]


def _split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the study's own words and those that all runs share.

    Raises:
        UserError: a word sets what the study decides, or is a sweep over something else than methods.
    """
    own, shared = [], []
    for word in words:
        key = key_of(word)
        if MASK in word:
            raise UserError(f"{word} stands for a secret that was not kept: type it, as in '{EXAMPLE}'.")
        if "=" not in word:
            raise UserError(f"{word} is not key=value: name the methods as method=dpo,simpo.")
        if key == "method":
            own.append(f"study.methods=[{word.partition('=')[2]}]")
        elif key.split(".")[0] == "study":
            own.append(word)
        elif key.split(".")[0] == "method":
            raise UserError(f"{word}: each method of a study is tuned in its own space. Leave it out.")
        elif key.startswith(("hydra/sweeper", "hydra.sweeper")):
            raise UserError(f"{word}: a study lists its runs itself. Leave it out; hydra/launcher=NAME runs them.")
        elif key.split(".")[0] == "prune":
            raise UserError(f"{word}: all trials of a study have the same budget. Leave it out.")
        elif key not in OWN:
            shared.append(_refuse_sweep(word))
    return own, shared


def _refuse_sweep(word: str) -> str:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_override(word)
    if parsed.is_sweep_override():
        raise UserError(f"{hide_in_word(word)}: a study varies methods alone; run one study for each {key_of(word)}.")
    return word


def _choose_group(own: Sequence[str]) -> list[str]:
    """Return the study's words behind the option that they change; ``study=NAME`` takes another option."""
    named = [word.partition("=")[2] for word in own if key_of(word) == "study"]
    rest = [word for word in own if key_of(word) != "study"]
    return [f"+study={named[-1] if named else 'default'}", *rest]
