"""Recognises how a dataset lays out its rows. An ambiguity is an error that lists the candidates, never a guess."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from alignzoo.config.mapping_words import read_mapping, write_mapping
from alignzoo.data.columns import (
    SHARED,
    Unread,
    begins_conversation,
    find_possible_questions,
    find_questions,
    is_said,
    propose_names,
)
from alignzoo.data.layout import Layout
from alignzoo.data.layouts import SHAPES, Shape, match_shapes
from alignzoo.plugin.method import DataFormat
from alignzoo.system.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig

SAMPLE = 20  #: rows that are looked at to recognise a layout


def recognise(
    sample: Sequence[Mapping[str, Any]], cfg: DictConfig, place: str, whole: Iterable[Mapping[str, Any]] = ()
) -> Layout:
    """Return the layout that the sampled rows show; ``cfg`` is the group ``dataset``.

    ``whole``: all rows, in which a mapped column is searched for that the sample lacks.

    Raises:
        UserError: a mapped column is not there, a column would change what is trained and cannot be read, or the rows
            show no layout, or several.
    """
    columns = {str(name) for row in sample for name in row}
    given = read_mapping(cfg.columns, "dataset.columns")
    mapping = {theirs: str(ours) for theirs, ours in given.items() if ours is not None}
    late = _find_late(mapping, columns, place, whole)
    left_out = frozenset(given.keys() - mapping.keys())
    reading = Layout(SHAPES[-1], mapping, frozenset(), cfg.chat, left_out, _read_roles(cfg), bool(cfg.layout))
    rows = [reading.rename(row) for row in sample]
    names = frozenset(name for row in rows for name in row)
    shape, renamed = _find_shape(cfg.layout, names, rows, place, columns, mapping)
    joined = _join(mapping, {theirs: ours for theirs, ours in renamed.items() if ours in shape.columns | SHARED})
    layout = replace(reading, shape=shape, mapping=joined)
    rows = [layout.rename(row) for row in sample]
    begun = {joined[theirs] for theirs in late} - {"prompt"}  # a prompt may be missing from the rows before
    layout = replace(layout, columns=frozenset(name for row in rows for name in row) | begun)
    _check_questions(layout, rows, place)
    _check_refused(layout, rows, place)
    return replace(layout, unread=Unread(_find_unread(layout, columns | late)))


def _read_roles(cfg: DictConfig) -> dict[str, str]:
    return {theirs: str(ours) for theirs, ours in read_mapping(cfg.roles, "dataset.roles").items()}


def _join(mapping: Mapping[str, str], renamed: Mapping[str, str]) -> dict[str, str]:
    """Return both renamings as one: theirs -> ours."""
    given = set(mapping.values())
    further = {theirs: ours for theirs, ours in renamed.items() if theirs not in given}
    return {**{theirs: renamed.get(ours, ours) for theirs, ours in mapping.items()}, **further}


def _find_unread(layout: Layout, columns: set[str]) -> set[str]:
    """Return the file's columns that are not read, those too whose name a mapped column takes."""
    taken = set(layout.mapping.values())
    return {
        f"{name} -> {layout.mapping[name]}" if name in layout.mapping else name
        for name in columns - layout.left_out
        if layout.mapping.get(name, name) not in layout.used or (name in taken and name not in layout.mapping)
    }


def _check_refused(layout: Layout, rows: Sequence[Mapping[str, Any]], place: str) -> None:
    for name, reason in layout.refused.items():
        if any(is_said(row.get(name)) for row in rows):
            raise UserError(f"{place}: {reason}{_advise_pairs(layout, name)}.")


def _advise_pairs(layout: Layout, name: str) -> str:
    """Return how an answer and a rejected one under these names make pairs, if they do."""
    answer = next((ours for ours in ("completion", "output") if ours in layout.shape.columns), None)
    if name not in ("rejected", "rejected_response") or answer is None or layout.kind is not DataFormat.SUPERVISED:
        return ""
    rejected = {} if name == "rejected" else {name: "rejected"}
    return f"; {write_mapping('dataset.columns', {layout.theirs(answer): 'chosen', **rejected})} makes pairs"


def _check_questions(layout: Layout, rows: Sequence[Mapping[str, Any]], place: str) -> None:
    """Refuse to take a prompt out of the answers where a column may hold it."""
    if "prompt" not in layout.shape.optional - layout.columns:
        return
    if any(begins_conversation(row.get(name)) for row in rows for name in ("chosen", "completion")):
        return
    further = layout.columns - layout.used
    found = find_questions(layout.columns, rows) if layout.settled else find_possible_questions(further, rows)
    if found:
        names = {ours: theirs for theirs, ours in layout.mapping.items()}
        best = names.get(found[0], found[0])
        way_out = "" if layout.settled else f", or dataset.layout={layout.shape.name} if none of them is"
        raise UserError(
            f"{place} has no column prompt, and the question may be in {' or '.join(found)}.\n"
            f"Say which: {write_mapping('dataset.columns', {best: 'prompt'})}{way_out}."
        )


def _find_late(
    mapping: Mapping[str, str], columns: set[str], place: str, whole: Iterable[Mapping[str, Any]]
) -> set[str]:
    """Return the mapped columns that only rows after the first have; one that no row has is an error."""
    late = mapping.keys() - columns
    missing = set(late)
    for row in whole if missing else ():
        missing -= row.keys()
        if not missing:
            break
    if missing:
        theirs, known = min(missing), ", ".join(sorted(columns))
        hint = did_you_mean(theirs, columns)
        raise UserError(f"dataset.columns: {place} has no column {theirs!r}.{hint}\nIt has: {known}.")
    return late


def _find_shape(
    layout: str | None,
    names: frozenset[str],
    rows: Sequence[Mapping[str, Any]],
    place: str,
    columns: set[str],
    mapping: Mapping[str, str],
) -> tuple[Shape, dict[str, str]]:
    """Return the layout, and the columns to rename for it: the way of reading that uses most columns."""
    found: list[tuple[int, list[Shape], dict[str, str]]] = []
    for renamed in propose_names(names, rows):
        ours = {renamed.get(name, name) for name in names}
        sample = [{renamed.get(name, name): value for name, value in row.items()} for row in rows]
        shapes = [_name_shape(layout)] if layout else match_shapes(ours, sample)
        if "prompt" in renamed.values():  # with a question, the answers may be meant to be read
            shapes = [shape for shape in shapes if layout or shape.kind is not DataFormat.PROMPTS]
        used = max((len(shape.columns & ours) for shape in shapes if shape.needed <= ours), default=0)
        found.append((used, shapes, renamed))
    used, shapes, renamed = max(found, key=lambda way: way[0])
    if layout and not used:
        missing = ", ".join(sorted(shapes[0].needed - names))
        raise UserError(f"dataset.layout={layout} needs the columns {missing}, which {place} lacks.")
    theirs = {ours: name for name, ours in _join(mapping, renamed).items()}
    return _require_one(shapes, columns, rows, place, theirs), renamed


def _name_shape(name: str) -> Shape:
    shapes = {shape.name: shape for shape in SHAPES}
    if name not in shapes:
        raise UserError(f"dataset.layout={name} must be one of {', '.join(shapes)}.{did_you_mean(name, shapes)}")
    return shapes[name]


def _require_one(
    found: Sequence[Shape],
    columns: set[str],
    rows: Sequence[Mapping[str, Any]],
    place: str,
    theirs: Mapping[str, str],
) -> Shape:
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(
            f"{place} has the columns {', '.join(sorted(columns))}: no layout that alignzoo knows.\n"
            f"Map yours, e.g. {_suggest_mapping(rows)}."
        )
    needed = [sorted(theirs.get(name, name) for name in shape.needed) for shape in found]
    candidates = "; ".join(f"{shape.name} ({', '.join(names)})" for shape, names in zip(found, needed, strict=True))
    raise UserError(
        f"{place} could be read in {len(found)} ways: {candidates}.\nSay which: dataset.layout={found[0].name}."
    )


def _suggest_mapping(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what to write for a question and an answer under names of their own, else an example."""
    names = {name for row in rows for name in row}
    answers = [name for name in ("answer", "output", "response", "solution", "reply", "target") if name in names]
    questions = find_questions(names, rows)
    if len(questions) == 1 and answers:
        return write_mapping("dataset.columns", {questions[0]: "prompt", answers[0]: "completion"})
    return write_mapping("dataset.columns", {"question": "prompt", "good": "chosen", "bad": "rejected"})
