"""Turns a dataset's rows into canonical rows, and notes what of them is not read."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alignzoo.config.mapping_words import write_mapping
from alignzoo.data.canonical import add_system, canonical
from alignzoo.data.columns import ALIASES, QUESTIONS, SHARED, Unread, explain_refusal, is_said
from alignzoo.data.further import find_single_scores, read_further
from alignzoo.data.layouts import Shape
from alignzoo.data.message_text import parse_messages
from alignzoo.data.messages import BadRow
from alignzoo.data.template_inputs import TEMPLATE_COLUMNS
from alignzoo.data.turns import tidy

if TYPE_CHECKING:
    from alignzoo.plugin.method import DataFormat

#: Columns that hold messages, or text.
_TEXTS = frozenset(
    (
        *("prompt", "chosen", "rejected", "completion", "messages"),
        *("rejected_response", "preferred_output", "non_preferred_output", "gold"),
    )
)


@dataclass(frozen=True)
class Layout:
    """How this dataset's rows become canonical rows."""

    shape: Shape
    mapping: Mapping[str, str]
    """Renamed columns: theirs -> ours."""

    columns: frozenset[str]
    """The columns that the first rows have, by our names; none that is left out."""

    chat: bool
    """Whether plain text becomes a conversation of user and assistant."""

    left_out: frozenset[str] = frozenset()
    """Columns that the user leaves out, by the file's names."""

    roles: Mapping[str, str] = field(default_factory=dict)
    """``dataset.roles``, theirs -> ours."""

    settled: bool = field(default=False, compare=False)
    """Whether the user named the layout."""

    unread: Unread = field(default_factory=Unread, compare=False)
    """What was not read in the rows so far."""

    bad_labels: set[str] = field(default_factory=set, compare=False)
    """How bad answers were marked in the rows so far: 0, -1."""

    @property
    def kind(self) -> DataFormat:
        """What the rows hold."""
        return self.shape.kind

    @property
    def identity(self) -> list[Any]:
        """Changes whenever the same rows would be read in another way."""
        lists = [sorted(pairs.items()) for pairs in (self.mapping, self.roles)]
        return [self.shape.name, *lists, sorted(self.left_out), sorted(self.columns), self.chat, self.settled]

    @functools.cached_property
    def used(self) -> frozenset[str]:
        """The columns that are read, by our names."""
        return self.shape.columns | (self.shape.further - find_single_scores(self.columns)) | SHARED

    @functools.cached_property
    def _own(self) -> frozenset[str]:
        """The columns that rewards do not get."""
        return self.used - self.shape.further

    def theirs(self, name: str) -> str:
        """Return the file's name of a column."""
        return next((theirs for theirs, ours in self.mapping.items() if ours == name), name)

    @functools.cached_property
    def _texts(self) -> list[str]:
        return sorted((self.shape.columns | self.shape.further) & _TEXTS)

    @functools.cached_property
    def _makes_chat(self) -> bool:
        """Whether plain text becomes a conversation: a system prompt or history needs one, in every row alike."""
        before = {"system"} | ({"history"} & self.shape.optional)
        return self.chat or (bool(before & self.columns) and self.shape.name != "text")

    @functools.cached_property
    def refused(self) -> dict[str, str]:
        """The further columns of the first rows that must say nothing, with the reason."""
        reasons = {name: explain_refusal(name, self.kind, self.settled) for name in self.columns - self.used}
        return {name: reason for name, reason in reasons.items() if reason}

    def rows(self, row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the canonical rows of one row: one, or one for each pair that it holds.

        Raises:
            BadRow: the row cannot be trained on.
        """
        renamed = self.rename(row)
        self._check_further(renamed)
        if not self.shape.needed <= renamed.keys():
            raise BadRow(f"{min(self.shape.needed - renamed.keys())} is missing")
        tidied = self._tidy(renamed, self._texts)
        self._check_ends(tidied)
        further = read_further(tidied, self.shape.further) if self.shape.further else {}
        for raw in self.shape.read(tidied):
            yield self._shape_row(further | raw, renamed)

    def _check_ends(self, row: Mapping[str, Any]) -> None:
        """Refuse a row that lacks the others' prompt or an answer, or whose history makes a conversation of it only."""
        if "prompt" in self.shape.optional & self.columns - row.keys():
            name = self.theirs("prompt")
            raise BadRow(f"{name} is missing: the rows have it under several names, or some lack it; write it in all")
        said = row.get("messages") if self.shape.name == "messages" else None
        if isinstance(said, list) and said and isinstance(said[-1], Mapping) and said[-1].get("role") == "user":
            write = write_mapping("dataset.columns", {self.theirs("messages"): "prompt"})
            raise BadRow(
                f"the conversation does not end with an assistant's turn; where it is only the question, {write}"
            )
        late = "history" in self.shape.optional - self.columns and is_said(row.get("history"))
        if late and not self._makes_chat and isinstance(row.get("prompt"), str):
            raise BadRow("history begins late: the rows before it stay plain text; set dataset.chat=true")

    def _shape_row(self, raw: dict[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
        if self.shape.made:
            name, column = self.shape.made
            raw = {**raw, name: self._tidy_one(raw[name], column)}
        if self.shape.nested:
            self._look_into(row)
        if not TEMPLATE_COLUMNS.isdisjoint(row):
            beside = {name: row[name] for name in TEMPLATE_COLUMNS if is_said(row.get(name))}
            if raw.get("tools", beside.get("tools")) != beside.get("tools", raw.get("tools")):
                raise BadRow("the column tools differs from input.tools")
            raw |= beside
        shaped = canonical(raw, self._makes_chat)
        if "label" in raw:
            self._check_labels(raw["label"])
        system = row.get("system")
        return add_system(shaped, system, self.theirs("system")) if is_said(system) else shaped

    def _look_into(self, row: Mapping[str, Any]) -> None:
        """Name the fields of a column's objects that are not read; refuse those that would change what is trained."""
        for column, read in self.shape.nested.items():
            held = row.get(column)
            for item in held if isinstance(held, list) else [held]:
                further = {name: item[name] for name in item.keys() - read} if isinstance(item, Mapping) else {}
                for name, value in further.items():
                    if is_said(value) and explain_refusal(name, self.kind, settled=False):
                        raise BadRow(f"{column} has {name}, which would change what is trained and is not read")
                    self.unread.columns.add(f"{column}.{name}")

    def _check_labels(self, label: Any) -> None:
        """Refuse 0 and -1 in one dataset: of 1, 0 and -1, which are the bad answers is a guess."""
        found = str(label).strip().removesuffix(".0")
        if found in ("0", "-1"):
            self.bad_labels.add(found)
            if other := min(self.bad_labels - {found}, default=None):
                raise BadRow(f"label is {found} where other rows have {other}: write true and false")

    def _tidy(self, row: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
        """Return the row with its messages in our convention."""
        changed = {}
        for name in names:
            value = row.get(name)
            tidied = self._tidy_one(parse_messages(value, name), name)
            if tidied is not value:
                changed[name] = tidied
        return {**row, **changed} if changed else row

    def _tidy_one(self, value: Any, column: str) -> Any:
        return tidy(value, column, self.roles, self.unread.fields)

    def _check_further(self, row: Mapping[str, Any]) -> None:
        """Refuse a further column that would change what is trained; note those that the first rows lack."""
        for name in self.refused:
            if is_said(row.get(name)):
                raise BadRow(self.refused[name])
        if row.keys() <= self.columns:
            return
        for name in row.keys() - self.columns - self.used:
            late = self._explain_late(name, row.keys()) or explain_refusal(name, self.kind, self.settled)
            if late and is_said(row[name]):
                raise BadRow(f"{late} (the first rows lack it)")
            self.unread.columns.add(name)

    def _explain_late(self, name: str, beside: Set[str]) -> str | None:
        """Return why a column is refused that would have been read, had the first rows had it."""
        names = self.columns | beside
        read = (self.shape.columns | (SHARED if self.shape.name != "text" else frozenset())) - names
        groups = [group for needed, group in ALIASES if name in group and needed | group.keys() <= names]
        wanted = ["prompt"] if name in QUESTIONS else [group[name] for group in groups]
        found = next((ours for ours in wanted if ours in read), None)
        return found and f"the column {name} is not read: write {write_mapping('dataset.columns', {name: found})}"

    def extra(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns beyond those of the layout."""
        return {name: value for name, value in self.rename(row).items() if name not in self._own}

    def rename(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row with its columns under our names, without those that the user leaves out."""
        if not self.mapping and not self.left_out:
            return row if isinstance(row, dict) else dict(row)
        taken = {*self.mapping.values(), *self.mapping, *self.left_out}
        # a mapped column wins over one that has the name already
        kept = {name: value for name, value in row.items() if name not in taken}
        return kept | {ours: row[theirs] for theirs, ours in self.mapping.items() if theirs in row}

    def __str__(self) -> str:
        names = {ours: theirs for theirs, ours in self.mapping.items()}
        read = sorted(self.columns & self.used - {"id"})
        used = ", ".join(f"{names[name]} -> {name}" if name in names else name for name in read)
        left_out = f"; left out: {', '.join(sorted(self.left_out))}" if self.left_out else ""
        return f"{self.shape.name} ({self.kind}): {used}{left_out}"
