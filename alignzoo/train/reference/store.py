"""Caches log-probabilities of sequences under one model on disk."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alignzoo.system import cache
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    Keys = np.ndarray[Any, np.dtype[np.bytes_]]
    Values = np.ndarray[Any, np.dtype[np.float32]]

log = logging.getLogger(__name__)

KEY = "S16"  #: a sequence's key: 128 bits, so that no two of a billion sequences collide
FILE = "part.npz"


class LogProbs:
    """A folder of immutable cache entries, each sorted keys with their values, named by the hash of its content.

    Nothing is ever changed in place: a writer adds an entry by renaming it, so that processes, also on several machines
    with one disk, need no lock. Two that compute the same sequences at the same time write them twice.
    """

    def __init__(self, model: str) -> None:
        """``model``: names all but the sequence that a value depends on."""
        self.folder = cache.make_folder("reference") / hashlib.sha256(model.encode()).hexdigest()[:32]
        self.parts = [part for entry in sorted(self.folder.glob("[!.]*/")) if (part := _read_part(entry))]

    def look_up(self, keys: Keys) -> Values:
        """Return the value of each key, NaN where there is none."""
        found = np.full(len(keys), np.nan, np.float32)
        for known, values, entry in self.parts:
            places = np.searchsorted(known, keys).clip(max=len(known) - 1)
            hits = known[places] == keys
            found[hits] = values[places[hits]]
            if hits.any():
                cache.mark_used(entry)
        return found

    def add(self, keys: Keys, values: Values, save: bool = True) -> None:
        """Add values, on disk too where ``save``; a full disk only means that the next run computes them again."""
        finite = np.isfinite(values)
        known, first = np.unique(keys[finite], return_index=True)
        if not len(known):
            return
        part = known, values[finite][first]
        digest = hashlib.sha256(part[0].tobytes() + part[1].tobytes()).hexdigest()[:32]
        entry = self.folder / digest
        self.parts.append((*part, entry))
        if not save:
            return
        try:
            with cache.write_entry(entry) as folder:
                np.savez(folder / FILE, keys=part[0], values=part[1])
            cache.trim()
        except (OSError, UserError) as error:
            log.warning("%d log-probabilities were not cached in %s: %s", len(known), self.folder, error)


def _read_part(entry: Path) -> tuple[Keys, Values, Path] | None:
    """Return keys, values and the entry; None where it is damaged, or just went away."""
    if cache.open_entry(entry) is None:
        return None
    try:
        with np.load(entry / FILE) as arrays:
            return arrays["keys"], arrays["values"], entry
    except FileNotFoundError:
        return None
