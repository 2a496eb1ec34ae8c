"""Tells local paths from hub ids, and explains what the hub answers."""

from __future__ import annotations

from pathlib import Path


def is_local_path(text: str) -> bool:
    """Tell whether ``text`` names a file or folder: it exists, or it is written as no hub id (``owner/name``) is."""
    return Path(text).expanduser().exists() or text.startswith(("/", ".", "~")) or text.count("/") > 1


def explain_hub_error(error: Exception) -> str:
    """Say in one line why the hub gave nothing, and what to do."""
    text, kind = str(error), type(error).__name__
    if "offline" in text.lower() or "connect" in text.lower() or kind in {"ConnectError", "LocalEntryNotFoundError"}:
        return "not in the local cache, and the hub cannot be reached. Connect, or name a folder."
    if "gated" in text.lower() or "401" in text or "403" in text:
        return "the hub refuses access: accept its licence on the hub, then `hf auth login`."
    if "404" in text or "doesn't exist" in text or kind in {"DatasetNotFoundError", "RepositoryNotFoundError"}:
        return "neither a local file or folder nor on the hub (or private: `hf auth login`)."
    return f"{kind}: {text.strip().splitlines()[0] if text.strip() else 'no further word'}"
