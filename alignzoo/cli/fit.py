"""Tells which methods can train on a dataset as it is, by preparing and converting its rows; no model is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from alignzoo.config.compose import compose
from alignzoo.plugin.method import Method
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from alignzoo.data.prepare import Prepared

#: Longer than any row: which are too long depends on the model.
ANY_LENGTH = 10**9


def read_data(cfg: DictConfig) -> Prepared:
    """Return the rows of ``cfg.dataset``, with the tokens of the model `tiny`, whatever their length.

    Raises:
        UserError: as a training with any method: the rows cannot be read, or none is left.
    """
    from alignzoo.data.prepare import prepare
    from alignzoo.data.tokenise import Tokeniser
    from alignzoo.models.tiny import tiny_tokenizer
    from alignzoo.system.libraries import silence_libraries

    silence_libraries(cfg.telemetry)
    whole = cfg.copy()
    whole.train.max_length = ANY_LENGTH
    return prepare(whole, Tokeniser(tiny_tokenizer(), []))


def explain_misfits(data: Prepared, methods: Iterable[type[Method]]) -> dict[str, str]:
    """Return the methods that cannot be trained on ``data``, by name, with the reason in one line."""
    found: dict[str, str] = {}
    tried: dict[str, str | None] = {}  # what rows are converted to -> why they cannot be
    for method in methods:
        further = _read_further(method)
        key = json.dumps([method.data.value, {**further}])
        if key not in tried:
            tried[key] = _try_conversion(data, method, further)
        if reason := tried[key]:
            found[method.name] = reason
    return found


def _read_further(method: type[Method]) -> Mapping[str, bool]:
    own: Any = method.further_columns
    if own.__func__ is Method.further_columns.__func__:  # type: ignore[attr-defined]
        return {}
    return method.further_columns(compose([f"method={method.name}"]))


def _try_conversion(data: Prepared, method: type[Method], further: Mapping[str, bool]) -> str | None:
    from alignzoo.data.convert import convert

    try:
        convert(data.train, data.kind, method.data, 1, 0, further)
    except UserError as error:
        return " ".join(str(error).split())
    return None


def explain_refusals(words: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """Return the methods of ``names`` whose run with ``words`` would be refused before its data is read, and why."""
    from alignzoo.config.check import check
    from alignzoo.config.errors import explain

    found: dict[str, str] = {}
    for name in names:
        try:
            check(compose([*words, f"method={name}"]))
        except UserError as error:
            found[name] = " ".join(str(error).split())
        except Exception as error:
            reason: Any = explain(error)
            if reason is None:
                raise
            found[name] = " ".join(reason.split())
    return found
