"""Lists the models with random weights that are made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from alignzoo.models.player import make_player
from alignzoo.models.tiny import make_tiny

#: Option of the group ``model`` -> what saves it in a folder, with weights of a seed.
MAKERS: dict[str, Callable[[Path, int], None]] = {"tiny": make_tiny, "player": make_player}
