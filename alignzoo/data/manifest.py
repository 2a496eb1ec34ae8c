"""Reads and compares manifests, which say of each row whether it was trained on, held out or left out."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

FILE = "data.parquet"
IDENTITY = ["source", "row", "id"]


def fingerprints(manifest: pd.DataFrame) -> dict[str, str]:
    """Return a hash of the rows trained on and one of those held out: equal if rows and token ids are equal.

    Where there are validation rows, they have one too.
    """
    sides = ["train", "heldout", *(["validation"] if (manifest["decision"] == "validation").any() else [])]
    return {decision: _hash(manifest[manifest["decision"] == decision]) for decision in sides}


def _hash(rows: pd.DataFrame) -> str:
    import pandas as pd

    content = rows[[*IDENTITY, "tokens"]].sort_values([*IDENTITY, "tokens"])
    return hashlib.sha256(pd.util.hash_pandas_object(content, index=False).to_numpy().tobytes()).hexdigest()[:16]


def reasons(manifest: pd.DataFrame) -> dict[str, int]:
    """Return why rows were left out, and how many for each reason; lengths are taken out of the reasons."""
    dropped = manifest.loc[manifest["decision"] == "dropped", "reason"]
    counts: dict[str, int] = dropped.str.replace(r" \(\d+ tokens\)", "", regex=True).value_counts().to_dict()
    return counts


def count_trained_on(run: pd.DataFrame, other: pd.DataFrame) -> int:
    """Return how many rows that ``other`` holds out the run of the manifest ``run`` was trained on, by their tokens."""
    seen = run.loc[run["decision"] == "train", "tokens"]
    return int(other.loc[other["decision"] == "heldout", "tokens"].isin(seen).sum())


def read(folder: Path) -> pd.DataFrame:
    """Return the manifest in a run folder."""
    import pandas as pd

    return pd.read_parquet(folder / FILE)


def differences(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose decision or token ids differ: identity, and decision and tokens in both (NaN: not read)."""
    both = a[[*IDENTITY, "decision", "tokens", "reason"]].merge(
        b[[*IDENTITY, "decision", "tokens", "reason"]], on=IDENTITY, how="outer", suffixes=("_a", "_b")
    )
    same_decision = both["decision_a"] == both["decision_b"]
    # Tokens of rows that neither run used are of no consequence.
    same_tokens = (both["tokens_a"] == both["tokens_b"]) | (both["decision_a"] == "dropped")
    different: pd.DataFrame = both[~(same_decision & same_tokens)].reset_index(drop=True)
    return different
