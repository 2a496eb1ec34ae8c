"""Reads where each method is searched, and draws its trials: the same number for all, spread evenly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alignzoo.config.plain import to_plain
from alignzoo.config.trl_fields import fits
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from alignzoo.study.settings import Settings

EDGE = 0.1  #: share of a range, at each end, that counts as its edge
AROUND = 5.0  #: factor below and above a beta for which no range was published
DIGITS = 3  #: significant ones of a drawn value


@dataclass(frozen=True)
class Knob:
    """One key of ``method`` with the range in which it is tuned."""

    key: str
    low: float
    high: float
    published: bool
    """Whether the range stands in the method's YAML; else it is around the method's own value."""

    @property
    def is_logarithmic(self) -> bool:
        """Whether it is drawn evenly on a logarithmic scale: where the range does not begin at zero."""
        return self.low > 0

    def place(self, value: float) -> float:
        """Return where in its range a value lies, 0 at the lower end and 1 at the upper one."""
        if self.is_logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def pick(self, place: float) -> float:
        """Return the value at a place of the range, with three significant digits."""
        if self.is_logarithmic:
            found = self.low * (self.high / self.low) ** place
        else:
            found = self.low + (self.high - self.low) * place
        return float(f"{found:.{DIGITS}g}")

    def find_edge(self, value: float) -> str:
        """Return ``low`` or ``high`` where a value lies on that edge, or an empty text."""
        place = self.place(value)
        return "low" if place < EDGE else "high" if place > 1 - EDGE else ""


def read_space(cfg: DictConfig, settings: Settings) -> list[Knob]:
    """Return what is tuned of the method of ``cfg``: its learning rate, and the keys of ``method.search``.

    The learning rate's range is :attr:`Settings.rates` times the method's own for this size of model or adapter. A
    method without a block ``search`` has its ``beta`` tuned around its own value, if it has one.

    Raises:
        UserError: a range is not two numbers, the lower one first, or its key is not a number of the method.
    """
    method: dict[str, Any] = to_plain(cfg.method)
    rate = float(method["learning_rate"])
    knobs = [Knob("learning_rate", settings.rates[0] * rate, settings.rates[1] * rate, False)]
    search = method.get("search")
    if search is None and fits(method.get("beta"), "float") and method["beta"] > 0:
        knobs.append(Knob("beta", method["beta"] / AROUND, method["beta"] * AROUND, False))
    knobs += [_read_knob(method, key, ends) for key, ends in (search or {}).items()]
    return [_widen(knob, settings.widen) for knob in knobs]


def _read_knob(method: Mapping[str, Any], key: str, ends: Any) -> Knob:
    where = f"method={method['name']}: search.{key}={ends}"
    if key == "learning_rate":
        raise UserError(f"{where}: study.rates says for all methods where learning rates are tuned. Leave it out.")
    if not fits(method.get(key), "float"):
        raise UserError(f"{where}: method.{key} is not a number.")
    good = isinstance(ends, Sequence) and len(ends) == 2 and all(fits(end, "float") for end in ends)
    if not good or not 0 <= ends[0] < ends[1]:
        raise UserError(f"{where} takes two numbers of at least 0, the lower one first.")
    return Knob(key, float(ends[0]), float(ends[1]), True)


def _widen(knob: Knob, factor: float) -> Knob:
    return Knob(knob.key, knob.low / factor, knob.high * factor, knob.published)


def draw_trials(knobs: Sequence[Knob], count: int, seed: int) -> list[dict[str, float]]:
    """Return so many points of the space: a Sobol sequence, scrambled by ``seed`` (Owen, 1998), in its own order.

    Its points are spread evenly, however many dimensions there are, and each is drawn from the whole space alike:
    trials are exchangeable, as tuning curves need.
    """
    from torch.quasirandom import SobolEngine

    engine: Any = SobolEngine
    points = engine(len(knobs), scramble=True, seed=seed).draw(count).tolist()
    return [{knob.key: knob.pick(place) for knob, place in zip(knobs, point, strict=True)} for point in points]
