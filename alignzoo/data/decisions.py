"""Records of each row that was read whether it is trained on, measured or left out, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from alignzoo.data.split import Table


def make_manifest(
    facts: pd.DataFrame,
    tables: dict[str, Table],
    found: dict[str, pd.DataFrame],
    trained: pd.DataFrame,
    kept: np.ndarray[Any, Any],
) -> pd.DataFrame:
    """Return the decisions on the dataset's rows, those of sides with a source of their own, and generated rows.

    ``trained``: facts of the rows to train on, ``facts`` themselves where none were generated; ``kept``: their places.
    """
    import pandas as pd

    shares = {side: one for side, one in found.items() if side not in tables}
    decisions = [_record_decisions(facts, kept if trained is facts else kept[:0], shares)]
    decisions += [_record_decisions(table.facts, kept[:0], {side: found[side]}) for side, table in tables.items()]
    decisions += [] if trained is facts else [_record_decisions(trained, kept, {})]
    return pd.concat(decisions, ignore_index=True) if len(decisions) > 1 else decisions[0]


def _record_decisions(
    facts: pd.DataFrame, kept: np.ndarray[Any, Any], measured: dict[str, pd.DataFrame]
) -> pd.DataFrame:
    decision = np.full(len(facts), "dropped", dtype=object)
    decision[kept] = "train"
    for side, found in measured.items():
        decision[found.index] = side
    frame = facts[["source", "row", "id", "split", "reason", "length", "tokens"]].assign(decision=decision)
    unused = (frame["decision"] == "dropped") & (frame["reason"] == "")
    frame.loc[unused, "reason"] = "beyond dataset.rows or dataset.heldout.rows"
    sides = facts["side"] if "side" in facts else facts["split"]
    frame.loc[unused & (sides == "validation"), "reason"] = "beyond dataset.validation.rows"
    return frame
