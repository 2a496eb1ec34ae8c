"""Says of a method, under its own settings or those of a run, whether its trainer computes its paper's loss."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alignzoo.config.errors import explain
from alignzoo.plugin.answer_loss import AnswerLoss
from alignzoo.plugin.pair_loss import PairLoss
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from alignzoo.plugin.method import Method
    from alignzoo.train.losses.compare import Comparison

AGREES, DIFFERS, OPEN, BROKEN = "agrees", "differs", "not verified", "broken"


@dataclass(frozen=True)
class Verdict:
    """What is said of one method."""

    method: str
    verdict: str
    equation: str = ""
    """Paper and number."""

    reason: str = ""
    """Why it is not verified or broken."""

    found: Comparison | None = None
    own_loss: bool = False
    """Whether the plugin gives the loss, and not TRL."""


def reach_verdict(method: type[Method], cfg: DictConfig | None = None) -> Verdict:
    """Return the verdict on the method under its own settings, or under those of the run ``cfg``."""
    from alignzoo.train.losses.compare import compare, has_equation, read_source
    from alignzoo.train.losses.independence import find_shared

    if not has_equation(method):
        return Verdict(method.name, OPEN, reason="the method gives no equation")
    shared = find_shared(method)
    if shared:
        return Verdict(method.name, BROKEN, read_source(method), f"{shared}: write the equation anew, from the paper")
    try:
        found = compare(method, cfg=cfg)
    except (Exception, SystemExit) as error:  # a plugin may raise anything; the others go on
        return Verdict(method.name, BROKEN, read_source(method), _explain(error))
    if found is None:
        return Verdict(method.name, OPEN, read_source(method), _name_settings(method, cfg))
    verdict, own_loss = AGREES if found.agrees else DIFFERS, issubclass(method, PairLoss | AnswerLoss)
    return Verdict(method.name, verdict, read_source(method), found=found, own_loss=own_loss)


def _explain(error: BaseException) -> str:
    text = explain(error) if isinstance(error, Exception) else None
    if text is None:
        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return text.partition("\n")[0]


def _name_settings(method: type[Method], cfg: DictConfig | None) -> str:
    """Return that the equation does not cover the settings, with those that are not the method's own."""
    from alignzoo.config.compose import compose
    from alignzoo.train.losses.compare import compare, make_words
    from alignzoo.train.losses.settings import list_changes

    changes = list_changes(compose(make_words(method)), cfg) if cfg is not None else {}
    if not changes:
        return "the equation does not cover the method's settings"
    open_alone = [word for word, alone in changes.items() if compare(method, cfg=alone) is None]
    return f"the equation does not cover {', '.join(open_alone or changes)}"


def advise(verdicts: Sequence[Verdict]) -> str:
    """Return what to do about the methods that differ, a line each for TRL's losses and for plugins' own."""
    differing = [verdict for verdict in verdicts if verdict.verdict == DIFFERS]
    theirs = ", ".join(verdict.method for verdict in differing if not verdict.own_loss)
    own = ", ".join(verdict.method for verdict in differing if verdict.own_loss)
    lines = [
        theirs
        and f"TRL {read_trl_version()} computes another loss than the paper's: {theirs}. Train with these only after "
        f"pip install '{_read_trl_pin()}', or after mending the equation in the method's plugin.",
        own and f"The plugin's loss is another than its equation: {own}. Train with these only after mending either.",
    ]
    return "\n".join(filter(None, lines))


def read_trl_version() -> str:
    """Return the version of the installed TRL."""
    return importlib.metadata.version("trl")


def _read_trl_pin() -> str:
    """Return alignzoo's own requirement of TRL."""
    return next(r for r in importlib.metadata.requires("alignzoo") or ["trl"] if r.startswith("trl"))
