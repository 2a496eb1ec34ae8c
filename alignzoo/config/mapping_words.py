"""Writes a mapping of names as one word of the command line, and reads it, whatever characters the names have."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from alignzoo.system.errors import UserError

#: Names that Hydra's grammar takes as keys and gives back as the same text.
_BARE = re.compile(r"(?!(null|true|false|nan|inf)$)[A-Za-z_][\w/.@|*+%-]*(?: [\w/.@|*+%-]+)*", re.ASCII | re.IGNORECASE)


def write_mapping(key: str, mapping: Mapping[str, str | None]) -> str:
    """Return the word that sets ``key`` to ``mapping``, quoted for a shell.

    A name that Hydra's grammar does not take as a key makes it a text of JSON, which :func:`read_mapping` reads.
    """
    if all(_BARE.fullmatch(name) for name in mapping):
        pairs = ", ".join(f"{name}: {'null' if ours is None else ours}" for name, ours in mapping.items())
        return f"'{key}={{{pairs}}}'"
    pairs = ", ".join(f"{_quote(name)}: {'null' if ours is None else _quote(ours)}" for name, ours in mapping.items())
    return f"'{key}=\"{{{pairs}}}\"'"


def _quote(name: str) -> str:
    """Return a text as JSON in Hydra's quotes; what these, a shell or OmegaConf would change is written as numbers."""
    units = json.dumps(name)[1:-1]
    written = re.sub(r"\\[^u]|[$'\x7f]", _as_number, units)
    return f'\\"{written}\\"'


def _as_number(found: re.Match[str]) -> str:
    (character,) = json.loads(f'"{found[0]}"')
    return f"\\u{ord(character):04x}"


def read_mapping(value: Any, key: str) -> dict[str, str | None]:
    """Return the mapping that the configuration holds under ``key``: as it is, or as a text of JSON.

    Raises:
        UserError: the text is not a JSON object.
    """
    if not isinstance(value, str):
        return {str(name): ours for name, ours in (value or {}).items()}
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{key}={value} must be a mapping, such as {write_mapping(key, {'question': 'prompt'})}.")
    return {str(name): ours for name, ours in found.items()}
