"""Summarises a dataset as a method would train on it: rows, lengths, findings and examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alignzoo.data.findings import Finding, Level, findings, verdict
from alignzoo.data.text_features import read_features

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from alignzoo.data.prepare import Prepared
    from alignzoo.plugin.method import Method

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
EXAMPLES = 3  #: rows shown as the model will see them


def summarise(
    cfg: DictConfig, method: type[Method], data: Prepared, tokenizer: Any, eos: Sequence[int], bad_rows_stop: bool
) -> dict[str, Any]:
    """Return the summary; ``bad_rows_stop`` says whether a training would stop at a row that cannot be read.

    Keys: ``dataset``, ``model``, ``method``, ``layout``, ``unread`` (lines on what is not read), ``rows`` (decision
    -> count), ``reasons`` (why rows are left out -> count), ``quantiles`` (text -> share -> tokens), ``limit``
    (train.max_length and what it costs), ``conversion``, ``findings``, ``verdict`` (fine, warnings or errors),
    ``examples`` and ``lengths`` (for the page).
    """
    from alignzoo.data import manifest
    from alignzoo.data.convert import MEANING

    features = read_features(data.train)
    found = [*findings(cfg, data, bad_rows_stop, features=features), *_missing_eos(tokenizer, eos)]
    whole = data.manifest["length"].to_numpy()
    lengths = {**features.tokens, "prompt and answer": whole[whole > 0]}  # a row that cannot be read has no tokens
    return {
        "dataset": cfg.dataset.name,
        "model": cfg.model.name,
        "method": method.name,
        "layout": str(data.layout),
        "unread": data.unread.describe(method.data),
        "rows": {"read": len(data.manifest), **data.manifest["decision"].value_counts().to_dict()},
        "reasons": manifest.reasons(data.manifest),
        "quantiles": {name: _quantiles(values) for name, values in lengths.items()},
        "limit": {
            "max_length": cfg.train.max_length,
            "costs": int((data.manifest["length"] > cfg.train.max_length).sum()),
        },
        "conversion": MEANING.get((data.kind, method.data)),
        "findings": [{**vars(finding)} for finding in found],
        "verdict": verdict(found),
        "examples": _examples(data, tokenizer),
        "lengths": {name: values.tolist() for name, values in lengths.items()},
    }


def _missing_eos(tokenizer: Any, eos: Sequence[int]) -> list[Finding]:
    """Name the token that is appended to each completion where the template ends none."""
    from alignzoo.data.tokenise import Tokeniser

    token = Tokeniser(tokenizer, eos).appended_eos
    text = f"the model's chat template writes no EOS token behind a completion: {token} is appended to each"
    return [Finding(Level.NOTE, "missing EOS", text)] if token else []


def _quantiles(values: Any) -> dict[str, int]:
    import numpy as np

    if not len(values):
        return {}
    return {f"{share:.0%}": int(np.quantile(values, share, method="lower")) for share in QUANTILES}


def _examples(data: Prepared, tokenizer: Any) -> list[dict[str, Any]]:
    """Return the first rows as lists of (name, text, trained) pieces."""
    examples = []
    for row in data.train.select(range(min(EXAMPLES, len(data.train)))):
        pieces = [("prompt", tokenizer.decode(row["prompt_ids"]), False)]
        for name in ("chosen", "rejected", "completion"):
            if row.get(f"{name}_ids"):
                pieces.append((name, tokenizer.decode(row[f"{name}_ids"]), True))
        examples.append({"id": row["id"], "row": row["row"], "pieces": pieces})
    return examples
