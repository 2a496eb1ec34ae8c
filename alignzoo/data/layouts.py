"""Lists the layouts that preference data comes in, and the columns that show each.

How each is read stands in :mod:`alignzoo.data.readers`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alignzoo.data import readers, readers_scored
from alignzoo.data.columns import begins_conversation
from alignzoo.data.further import SCORES
from alignzoo.data.readers import Reader, Row
from alignzoo.plugin.method import DataFormat

PREFERENCE, UNPAIRED = DataFormat.PREFERENCE, DataFormat.UNPAIRED
SUPERVISED, PROMPTS, SCORED = DataFormat.SUPERVISED, DataFormat.PROMPTS, DataFormat.SCORED


@dataclass(frozen=True)
class Shape:
    """One layout: its name, what its rows hold, the columns that show it, and its reader."""

    name: str
    kind: DataFormat
    needed: frozenset[str]
    optional: frozenset[str]
    read: Reader
    shows: Callable[[Row], bool] = lambda row: True
    """Whether a row's values, too, have this layout."""

    made: tuple[str, str] | None = None
    """The messages that the reader makes, and the column, with messages of other conventions, that it makes them of."""

    further: frozenset[str] = frozenset()
    """Columns that are read where rows have them, and are carried for rewards too (:mod:`alignzoo.data.further`)."""

    nested: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Columns whose objects the reader looks into, and their fields that it reads."""

    @property
    def columns(self) -> frozenset[str]:
        """Every column that the reader looks at."""
        return self.needed | self.optional


def _shape(name: str, kind: DataFormat, needed: str, optional: str, read: Reader, **more: Any) -> Shape:
    return Shape(name, kind, frozenset(needed.split()), frozenset(optional.split()), read, **more)


def _goes_on(row: Row) -> bool:
    """Tell whether the answers go on from `messages`: a prompt would say more, whole conversations need neither."""
    return "prompt" not in row and not any(begins_conversation(row.get(name)) for name in ("chosen", "rejected"))


def _goes_on_from_chosen(row: Row) -> bool:
    return not row.keys() & {"prompt", "rejected"} and begins_conversation(row.get("chosen"))


MARGIN = frozenset(("margin", *itertools.chain(*SCORES)))
TRIPLE = MARGIN | {"gold"}

_SHAREGPT, _EXCHANGES = ("messages", "conversations"), ("messages", "conversation")

SHAPES = (
    _shape("transcripts", PREFERENCE, "chosen rejected", "", readers.hh, shows=readers.is_transcript, further=MARGIN),
    _shape(
        "sharegpt-pairs",
        PREFERENCE,
        "conversations chosen rejected",
        "",
        readers.sharegpt_pair,
        further=MARGIN,
        shows=_goes_on,
        made=("prompt", "conversations"),
    ),
    _shape(
        "alpaca-pairs",
        PREFERENCE,
        "instruction chosen rejected",
        "input history",
        readers.alpaca_pair,
        further=TRIPLE,
        shows=_goes_on,
    ),
    _shape(
        "messages-pairs",
        PREFERENCE,
        "messages chosen rejected",
        "",
        readers.messages_pair,
        further=MARGIN,
        shows=_goes_on,
    ),
    _shape("swift-pairs", PREFERENCE, "messages rejected_response", "", readers.swift_pair, further=MARGIN),
    _shape(
        "pairs",
        PREFERENCE,
        "chosen rejected",
        "prompt history",
        readers.pairs,
        further=TRIPLE,
        shows=lambda row: not readers.is_transcript(row),
    ),
    _shape(
        "openai-pairs",
        PREFERENCE,
        "input preferred_output non_preferred_output",
        "",
        readers.openai,
        made=("prompt", "input.messages"),
        nested={"input": frozenset(("messages", "tools"))},
    ),
    _shape(
        "ultrafeedback",
        PREFERENCE,
        "instruction completions",
        "",
        readers_scored.ultrafeedback,
        nested={"completions": readers_scored.ULTRAFEEDBACK},
    ),
    _shape(
        "nectar", PREFERENCE, "prompt answers", "", readers_scored.nectar, nested={"answers": readers_scored.NECTAR}
    ),
    _shape("scores", PREFERENCE, "prompt responses scores", "", readers_scored.scores),
    _shape("ranks", PREFERENCE, "prompt responses ranks", "", readers_scored.ranks),
    _shape("shp", PREFERENCE, "history human_ref_A human_ref_B labels", "", readers_scored.shp),
    _shape("strengths", PREFERENCE, "prompt response_1 response_2 preference_strength", "", readers_scored.strength),
    _shape("ratings", SCORED, "prompt response helpfulness", "", readers_scored.helpsteer),
    _shape("scored", SCORED, "prompt completion score", "", readers_scored.scored),
    _shape("sharegpt-marked", UNPAIRED, "conversations label", "", readers.marked(readers.sharegpt), made=_SHAREGPT),
    _shape("exchanges-marked", UNPAIRED, "conversation label", "", readers.marked(readers.exchanges), made=_EXCHANGES),
    _shape("alpaca-marked", UNPAIRED, "instruction output label", "input history", readers.marked(readers.alpaca)),
    _shape("messages-marked", UNPAIRED, "messages label", "", readers.same("messages", "label")),
    _shape("chosen-marked", UNPAIRED, "chosen completion label", "", readers.chosen_marked, shows=_goes_on_from_chosen),
    _shape("marked", UNPAIRED, "completion label", "prompt history", readers.asked("prompt", "completion", "label")),
    _shape("sharegpt", SUPERVISED, "conversations", "", readers.sharegpt, made=_SHAREGPT),
    _shape("exchanges", SUPERVISED, "conversation", "", readers.exchanges, made=_EXCHANGES),
    _shape("alpaca", SUPERVISED, "instruction output", "input history", readers.alpaca),
    _shape("answers", SUPERVISED, "prompt completion", "history", readers.asked("prompt", "completion")),
    _shape("messages", SUPERVISED, "messages", "", readers.same("messages")),
    _shape("text", SUPERVISED, "text", "", readers.same("text")),
    _shape("prompts", PROMPTS, "prompt", "", readers.same("prompt")),
)


def match_shapes(columns: set[str], sample: Sequence[Row]) -> list[Shape]:
    """Return the layouts that the rows may have: those of which no other match uses all the columns, and more.

    Pairs beside a bare conversation or prompt are pairs; two answers to different questions stay two matches.
    """
    fitting = [s for s in SHAPES if s.needed <= columns and all(map(s.shows, itertools.islice(sample, 20)))]
    return [shape for shape in fitting if not any(_contains(other, shape) for other in fitting)]


_BARE = ("prompts", "text", "exchanges", "messages")  #: layouts that give way to any that says more, the barest first


def _contains(other: Shape, shape: Shape) -> bool:
    if other is shape:
        return False
    bare = [_BARE.index(s.name) if s.name in _BARE else len(_BARE) for s in (shape, other)]
    return shape.needed < other.columns or bare[0] < bare[1]
