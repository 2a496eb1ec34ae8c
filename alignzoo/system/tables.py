"""Makes the tables that the terminal shows, and writes those that a spreadsheet may open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

#: What a spreadsheet takes for the beginning of a formula, which may run programs (OWASP, "CSV Injection").
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def plain_table(*heads: str, **options: Any) -> Table:
    """Return a table without a box, its heads in bold; ``options`` are those of ``rich.table.Table``."""
    from rich.table import Table

    return Table(*heads, box=None, header_style="bold", pad_edge=False, **options)


def write_csv(table: pd.DataFrame, file: Path) -> None:
    """Write ``table`` so that no text in it is a formula for a spreadsheet: an apostrophe stands before such a text."""
    import pandas as pd

    safe = table.copy()
    for place, name in enumerate(table.columns):
        if not pd.api.types.is_numeric_dtype(table[name]):
            safe.isetitem(place, table[name].astype(object).map(_escape_formula))
    safe.columns = pd.Index([_escape_formula(name) for name in table.columns])
    safe.to_csv(file, index=False)


def to_unicode(value: Any) -> Any:
    r"""Return a text as UTF-8 can hold it, with ``\udcff`` spelt out of a file's name that is not Unicode."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _escape_formula(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")  # unquoted by csv, it would begin a row
    return f"'{text}" if value.startswith(FORMULA) else text
