"""Recognises how a dataset lays out its rows. An ambiguity is an error that lists the candidates, never a guess."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alignzoo.data.canonical import BadRow, canonical
from alignzoo.data.further import read_further
from alignzoo.data.layouts import SHAPES, Shape, match_shapes
from alignzoo.system.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from alignzoo.plugin.method import DataFormat

SAMPLE = 20  #: rows that are looked at to recognise a layout


@dataclass(frozen=True)
class Layout:
    """How this dataset's rows become canonical rows."""

    shape: Shape
    mapping: Mapping[str, str]
    """Renamed columns: theirs -> ours."""

    extras: frozenset[str]
    """The further columns, by our names, for rewards to read."""

    chat: bool
    """Whether plain text becomes a conversation of user and assistant."""

    @property
    def kind(self) -> DataFormat:
        """What the rows hold."""
        return self.shape.kind

    @property
    def identity(self) -> list[Any]:
        """Changes whenever the same rows would be read in another way."""
        return [self.shape.name, sorted(self.mapping.items()), sorted(self.extras), self.chat]

    def rows(self, row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the canonical rows of one row: one, or one for each pair that it holds.

        Raises:
            BadRow: the row cannot be trained on.
        """
        renamed = self._rename(row)
        missing = sorted(self.shape.needed - renamed.keys())
        if missing:
            raise BadRow(f"{missing[0]} is missing")
        further = read_further(renamed, self.shape.further)
        for raw in self.shape.read(renamed):
            yield canonical(further | raw, self.chat)

    def extra(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns that the layout does not use."""
        renamed = self._rename(row)
        return {name: renamed.get(name) for name in self.extras}

    def _rename(self, row: Mapping[str, Any]) -> dict[str, Any]:
        taken = set(self.mapping.values())  # a mapped column wins over one that has the name already
        kept = {name: value for name, value in row.items() if name not in taken and name not in self.mapping}
        return kept | {ours: row[theirs] for theirs, ours in self.mapping.items() if theirs in row}

    def __str__(self) -> str:
        names = {ours: theirs for theirs, ours in self.mapping.items()}
        read = sorted(self.shape.columns - self.extras | self.shape.further & self.extras)
        used = ", ".join(f"{names.get(c, c)} -> {c}" if c in names else c for c in read)
        return f"{self.shape.name} ({self.kind}): {used}"


def recognise(sample: Sequence[Mapping[str, Any]], cfg: DictConfig, place: str) -> Layout:
    """Return the layout that the sampled rows show; ``cfg`` is the group ``dataset``.

    Raises:
        UserError: a mapped column is not there, or the rows show no layout, or several.
    """
    columns = {str(name) for row in sample for name in row}
    mapping = {str(theirs): str(ours) for theirs, ours in (cfg.columns or {}).items()}
    _check_mapping(mapping, columns, place)
    names = {mapping.get(name, name) for name in columns}
    renamed = [{mapping.get(str(name), str(name)): value for name, value in row.items()} for row in sample]
    shape = _find_shape(cfg.layout) if cfg.layout else _require_one(match_shapes(names, renamed), columns, place)
    if not shape.needed <= names:
        missing = ", ".join(sorted(shape.needed - names))
        raise UserError(f"dataset.layout={shape.name} needs the columns {missing}, which {place} lacks.")
    return Layout(shape, mapping, frozenset(names - shape.columns - {"id"}), cfg.chat)


def _check_mapping(mapping: Mapping[str, str], columns: set[str], place: str) -> None:
    for theirs in mapping:
        if theirs not in columns:
            known = ", ".join(sorted(columns))
            hint = did_you_mean(theirs, columns)
            raise UserError(f"dataset.columns: {place} has no column {theirs!r}.{hint}\nIt has: {known}.")


def _find_shape(name: str) -> Shape:
    shapes = {shape.name: shape for shape in SHAPES}
    if name not in shapes:
        raise UserError(f"dataset.layout={name} must be one of {', '.join(shapes)}.{did_you_mean(name, shapes)}")
    return shapes[name]


def _require_one(found: Sequence[Shape], columns: set[str], place: str) -> Shape:
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(
            f"{place} has the columns {', '.join(sorted(columns))}: no layout that alignzoo knows.\n"
            "Map yours, e.g. 'dataset.columns={question: prompt, good: chosen, bad: rejected}'."
        )
    candidates = "; ".join(f"{shape.name} ({', '.join(sorted(shape.needed))})" for shape in found)
    raise UserError(
        f"{place} could be read in {len(found)} ways: {candidates}.\nSay which: dataset.layout={found[0].name}."
    )
