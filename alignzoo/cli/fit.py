"""Tells which methods can train on a dataset as it is, by preparing and converting its rows; no model is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alignzoo.config.compose import compose
from alignzoo.plugin.method import Method
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset
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


def explain_misfits(data: Prepared, methods: Iterable[type[Method]], words: Sequence[str] = ()) -> dict[str, str]:
    """Return the methods that cannot be trained on ``data`` with ``words``, by name, with the reason in one line."""
    found: dict[str, str] = {}
    converted: dict[str, Dataset | str] = {}  # what rows are converted to -> the rows, or why there are none
    for method in methods:
        further: Mapping[str, bool] = {}
        if reads := [hook for hook in ("further_columns", "check_rows") if _overrides(method, hook)]:
            cfg = compose([*words, f"method={method.name}"])
            further = method.further_columns(cfg)
        key = json.dumps([method.data.value, {**further}])
        if key not in converted:
            converted[key] = _convert(data, method, further)
        rows = converted[key]
        if isinstance(rows, str):
            found[method.name] = rows
        elif "check_rows" in reads and (reason := _refuse_rows(method, cfg, rows)):
            found[method.name] = reason
    return found


def _overrides(method: type[Method], hook: str) -> bool:
    return getattr(method, hook).__func__ is not getattr(Method, hook).__func__


def _convert(data: Prepared, method: type[Method], further: Mapping[str, bool]) -> Dataset | str:
    """Return the rows in the method's format, or why they cannot be brought into it."""
    from alignzoo.data.convert import convert

    try:
        return convert(data.train, data.kind, method.data, 1, 0, further)
    except UserError as error:
        return " ".join(str(error).split())


def _refuse_rows(method: type[Method], cfg: DictConfig, rows: Dataset) -> str | None:
    try:
        method.check_rows(cfg, rows)
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
