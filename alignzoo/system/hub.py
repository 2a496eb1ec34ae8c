"""Tells local paths from hub ids, asks the hub once whether it is there, and explains what it answers."""

from __future__ import annotations

import functools
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

#: A folder in the cache of the hub's client: that of a repository's commit.
SNAPSHOT = re.compile(r"/models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})/?$")


def is_local_path(text: str) -> bool:
    """Tell whether ``text`` names a file or folder: it exists, or it is written as no hub id (``owner/name``) is."""
    return Path(text).expanduser().exists() or text.startswith(("/", ".", "~")) or text.count("/") > 1


def find_snapshot(folder: str) -> tuple[str, str] | None:
    """Return the id and the commit of the hub's model that was downloaded into ``folder``; None for another folder."""
    found = SNAPSHOT.search(folder)
    return (f"{found[1]}/{found[2]}", found[3]) if found else None


def explain_hub_error(error: Exception) -> str:
    """Say in one line why the hub gave nothing, and what to do."""
    text, kind = str(error), type(error).__name__
    unreached = any(word in text.lower() for word in ("offline", "connect", "couldn't reach"))
    if unreached or kind in {"ConnectError", "LocalEntryNotFoundError"}:
        return "not in the local cache, and the hub cannot be reached. Connect, or name a folder."
    if "gated" in text.lower() or "401" in text or "403" in text:
        return "the hub refuses access: accept its licence on the hub, then `hf auth login`."
    if "404" in text or "doesn't exist" in text or kind in {"DatasetNotFoundError", "RepositoryNotFoundError"}:
        return "neither a local file or folder nor on the hub (or private: `hf auth login`)."
    return f"{kind}: {text.strip().splitlines()[0] if text.strip() else 'no further word'}"


def explain_refusal(error: Exception) -> str:
    """Say in one line why the hub took nothing, and what to do."""
    from huggingface_hub import constants

    kind, status = type(error).__name__, getattr(getattr(error, "response", None), "status_code", None)
    if kind == "LocalTokenNotFoundError":
        return "nobody is logged in: `hf auth login`, or set HF_TOKEN."
    if status == 401:
        return "the hub does not know your token: `hf auth login`."
    if status == 403:
        return "your token may not write there: make one that may, or name a repository of your own."
    if status == 412:
        return "somebody has changed it meanwhile: look at it, and publish again."
    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set: unset it."
    if "Connect" in kind or "Timeout" in kind:
        return f"the hub ({constants.ENDPOINT}) cannot be reached."
    text = str(error).strip()
    return f"{kind}: {text.splitlines()[0] if text else 'no further word'}"


class Hub:
    """The model hub, as far as this process has found out whether it answers.

    Where it does not, its clients try each file six times over half a minute, and say so in a dozen lines.
    """

    def __init__(self) -> None:
        self._reached: dict[str, bool] = {}
        """By address: whether it has answered."""

        self._said: set[str] = set()
        """What was read from the cache although nobody asked for that, and said so."""

    def ask_again(self) -> None:
        """Forget what was found out: another job begins, and the network may have come back."""
        self._reached.clear()
        self._said.clear()

    @contextmanager
    def reading(self, source: str | Path) -> Iterator[None]:
        """Read ``source`` inside: from its cached copy, which is said, where the hub does not answer; a path as it is.

        Raises:
            Exception: of the clients, where no copy is cached; :func:`explain_hub_error` explains it.
        """
        from huggingface_hub import constants

        from alignzoo.system.console import escape_bars

        escape_bars()
        if is_local_path(str(source)) or constants.is_offline_mode() or self._is_reached(constants.ENDPOINT):
            yield
            return
        with _clients_offline():
            yield
        if str(source) not in self._said:
            self._said.add(str(source))
            log.warning("the hub (%s) cannot be reached: %s is read from the cache.", constants.ENDPOINT, source)

    def _is_reached(self, address: str) -> bool:
        """Return whether the hub answers anything at all; it is asked once."""
        from huggingface_hub import constants, get_session

        if address not in self._reached:
            try:
                get_session().head(address, timeout=constants.HF_HUB_ETAG_TIMEOUT)
                self._reached[address] = True
            except Exception:  # the client can be exchanged, and raises a dozen kinds
                self._reached[address] = False
        return self._reached[address]


@functools.cache
def hub() -> Hub:
    """Return this process's view of the hub."""
    return Hub()


@contextmanager
def _clients_offline() -> Iterator[None]:
    """Let the hub's clients look into their caches alone."""
    from huggingface_hub import constants

    told = [constants] + ([sys.modules["datasets"].config] if "datasets" in sys.modules else [])
    before = [module.HF_HUB_OFFLINE for module in told]
    try:
        for module in told:
            # patch: huggingface_hub constants.HF_HUB_OFFLINE
            module.HF_HUB_OFFLINE = True
        yield
    finally:
        for module, value in zip(told, before, strict=True):
            module.HF_HUB_OFFLINE = value
