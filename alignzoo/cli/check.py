"""``python -m alignzoo check dataset=... model=... [method=...]``: what is in the data, before any training."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.config.compose import composed
from alignzoo.data.findings import Finding, Level, findings, verdict
from alignzoo.data.text_features import read_features

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from alignzoo.data.prepare import Prepared

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
EXAMPLES = 3  #: rows shown as the model will see them


def main(words: Sequence[str]) -> int:
    """Print the report and write it as a page; return 1 if an error would stop a training, else 0."""
    parser = argparse.ArgumentParser(prog="alignzoo check", description="What is in the data, before any training.")
    parser.add_argument(
        "overrides", nargs="*", help="as for a run: dataset=local dataset.path=FILE model=... method=..."
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON, and nothing else")
    parser.add_argument("--html", type=Path, default=Path("alignzoo-check.html"), help="where to write the page")
    options = parser.parse_args(words)
    cfg = composed(options.overrides)
    # What libraries print while they read would stand before the JSON.
    with contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext():
        report = check(cfg)
    if options.json:
        print(json.dumps({key: value for key, value in report.items() if key not in ("examples", "lengths")}, indent=2))
    else:
        from alignzoo.report.data_check import print_report, write_page

        print_report(report)
        write_page(report, options.html)
        print(f"page: {options.html}")
    return int(report["verdict"] == "errors")


def check(cfg: DictConfig) -> dict[str, Any]:
    """Return the report on the data that ``cfg`` names.

    Keys: ``dataset``, ``layout``, ``rows`` (decision -> count), ``reasons`` (why rows are left out -> count),
    ``quantiles`` (text -> share -> tokens),
    ``limit`` (train.max_length and what it costs), ``conversion``, ``plan``, ``findings``,
    ``verdict`` (fine, warnings or errors), ``examples`` and ``lengths`` (for the page).
    """
    from alignzoo.config import check as settings
    from alignzoo.data import manifest
    from alignzoo.data.convert import MEANING
    from alignzoo.launch.launch import quiet
    from alignzoo.train.inputs import make_ready

    method = settings.check(cfg)
    quiet(cfg)
    stops = cfg.dataset.bad_rows == "stop"
    cfg.dataset.bad_rows = "drop"  # to report them all
    ready = make_ready(cfg, method)
    data, tokenizer = ready.data, ready.tokenizer
    features = read_features(data.train)
    found = [*findings(cfg, data, stops, features=features), *_unended(tokenizer, ready.stops)]
    whole = data.manifest["length"].to_numpy()
    lengths = {**features.tokens, "prompt and answer": whole[whole > 0]}  # a row that cannot be read has no tokens
    return {
        "dataset": cfg.dataset.name,
        "model": cfg.model.name,
        "method": method.name,
        "layout": str(data.layout),
        "rows": {"read": len(data.manifest), **data.manifest["decision"].value_counts().to_dict()},
        "reasons": manifest.reasons(data.manifest),
        "quantiles": {name: _quantiles(values) for name, values in lengths.items()},
        "limit": {
            "max_length": cfg.train.max_length,
            "costs": int((data.manifest["length"] > cfg.train.max_length).sum()),
        },
        "conversion": MEANING.get((data.kind, method.data)),
        "plan": str(ready.plan),
        "findings": [{**vars(finding)} for finding in found],
        "verdict": verdict(found),
        "examples": _examples(data, tokenizer),
        "lengths": {name: values.tolist() for name, values in lengths.items()},
    }


def _unended(tokenizer: Any, stops: Sequence[int]) -> list[Finding]:
    """Say which template would teach no model to stop, if the core did not end its answers."""
    from alignzoo.data.tokenise import Tokeniser

    token = Tokeniser(tokenizer, stops).appended
    text = f"the model's chat template writes no end-of-sequence token behind an answer: {token} is appended to each"
    return [Finding(Level.NOTE, "missing EOS", text)] if token else []


def _quantiles(values: Any) -> dict[str, int]:
    import numpy as np

    if not len(values):
        return {}
    return {f"{share:.0%}": int(np.quantile(values, share, method="lower")) for share in QUANTILES}


def _examples(data: Prepared, tokenizer: Any) -> list[dict[str, Any]]:
    """Return the first rows as lists of (text, trained) pieces, token by token joined where nothing changes."""
    examples = []
    for row in data.train.select(range(min(EXAMPLES, len(data.train)))):
        pieces = [("prompt", tokenizer.decode(row["prompt_ids"]), False)]
        for name in ("chosen", "rejected", "completion"):
            if row.get(f"{name}_ids"):
                pieces.append((name, tokenizer.decode(row[f"{name}_ids"]), True))
        examples.append({"id": row["id"], "row": row["row"], "pieces": pieces})
    return examples
