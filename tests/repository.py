"""Where the checkout is that is under test, and the real data beside it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]

#: Real datasets, in a folder beside the checkout; tests that need one are skipped where it is not there.
REAL_DATA = ROOT.parent / "shared" / "data"
