"""Makes the tables that the terminal shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def plain_table(*heads: str, **options: Any) -> Table:
    """Return a table without a box, its heads in bold; ``options`` are those of ``rich.table.Table``."""
    from rich.table import Table

    return Table(*heads, box=None, header_style="bold", pad_edge=False, **options)
