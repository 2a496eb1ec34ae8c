"""Refuses models that are broken: files that no library reads, weights that would be random or are not finite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from alignzoo.system.errors import UserError
from alignzoo.system.limits import explain_limit


@contextmanager
def explain_errors(what: str, mend: str = "") -> Iterator[None]:
    """Turn what the libraries raise about a broken folder or file, of a dozen kinds, into one line, and ``mend``.

    None is named here: tokenizers raises a bare Exception, GGUF's readers an OverflowError, torch a RuntimeError.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = next(iter(f"{type(error).__name__}: {error}".splitlines()))
        text = f"{what} cannot be loaded: {reason}\n{mend}".rstrip()
        raise UserError(explain_limit(error) or text) from error


def refuse_random(what: str, loaded: Mapping[str, Any], new: tuple[str, ...] = ()) -> None:
    """Refuse weights that no file holds, but for those whose names begin as ``new`` says; transformers draws them.

    ``loaded``: what ``from_pretrained`` returns beside the model.
    """
    absent = [name for name in loaded["missing_keys"] if not name.startswith(new or "?")]
    missing = sorted([*absent, *(name for name, *_ in loaded["mismatched_keys"])])
    if missing:
        raise UserError(
            f"{what}: {len(missing)} weights are missing or of another shape, {missing[0]} first: they would be random."
        )


def refuse_not_finite(what: str, model: Any) -> None:
    """Refuse weights that are NaN or infinite."""
    bad = next((key for key, weight in model.named_parameters() if not bool(weight.isfinite().all())), None)
    if bad:
        raise UserError(f"{what}: the weight {bad} has NaN or infinite values. Take another checkpoint.")
