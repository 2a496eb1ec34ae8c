"""Says of each method whether its trainer computes its paper's loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alignzoo.config.errors import explain
from alignzoo.plugin.pair_loss import PairLoss
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from alignzoo.plugin.method import Method
    from alignzoo.testing.losses.compare import Comparison

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


def judge_loss(method: type[Method], words: Sequence[str] = ()) -> Verdict:
    """Return what is said of the method's loss at its own settings, or at those that ``words`` change.

    Whatever a plugin raises becomes part of the verdict.
    """
    from alignzoo.testing.losses.compare import compare, has_equation, read_source
    from alignzoo.testing.losses.independence import find_shared

    if not has_equation(method):
        return Verdict(method.name, OPEN, reason="the method gives no equation")
    shared = find_shared(method)
    if shared:
        return Verdict(method.name, BROKEN, read_source(method), f"{shared}: write the equation anew, from the paper")
    try:
        found = compare(method, words)
    except (Exception, SystemExit) as error:  # a plugin may raise anything; the others go on
        return Verdict(method.name, BROKEN, read_source(method), _reason(error))
    if found is None:
        return Verdict(method.name, OPEN, read_source(method), "the equation does not cover the method's settings")
    verdict, own_loss = AGREES if found.agrees else DIFFERS, issubclass(method, PairLoss)
    return Verdict(method.name, verdict, read_source(method), found=found, own_loss=own_loss)


def _reason(error: BaseException) -> str:
    text = explain(error) if isinstance(error, Exception) else None
    if text is None:
        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return text.partition("\n")[0]
