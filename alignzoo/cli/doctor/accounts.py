"""Looks for logins at the model hub and at Weights & Biases; shows none of them and sends nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from alignzoo.cli.doctor.check import Check, ok, warning
from alignzoo.runs.trackers import is_logged_in

SECTION = "accounts"


def check_accounts() -> Iterator[Check]:
    """Yield what would be used, and where runs cannot reach anything."""
    yield from _hub()
    yield from _wandb()


def _hub() -> Iterator[Check]:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        fix = "unset HF_HUB_OFFLINE to download models and datasets"
        yield warning(SECTION, "hub", "HF_HUB_OFFLINE is set: only what is in the cache can be used", fix)
        return
    where = find_token_place()
    if where is None:
        found = "not logged in: public models and datasets can be used"
        yield ok(SECTION, "hub", f"{found}; `hf auth login` for gated ones such as Llama and Gemma")
    else:
        yield ok(SECTION, "hub", f"a token from {where}")


def find_token_place() -> str | None:
    """Return where huggingface_hub would find a token, in its order, or None."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if os.environ.get(name, "").strip():
            return name
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    home = os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")
    file = Path(os.environ.get("HF_TOKEN_PATH") or os.path.join(home, "token"))
    try:
        return str(file) if file.read_text().strip() else None
    except OSError:
        return None


def _wandb() -> Iterator[Check]:
    mode = os.environ.get("WANDB_MODE")
    if mode:
        yield ok(SECTION, "wandb", f"WANDB_MODE={mode}")
    elif is_logged_in():
        yield ok(SECTION, "wandb", "a key is there")
    else:
        yield ok(SECTION, "wandb", "not logged in: tracker=wandb writes offline; `wandb login` to send runs")
