"""Makes consoles of rich, and escapes the texts that rich and tqdm show on a terminal.

Both write codes of their own, for colours and to move the cursor, past :class:`alignzoo.system.terminal.EscapedOutput`.
"""

from __future__ import annotations

import functools
import re
from typing import IO, Any

import rich.live
import rich.text
from rich.console import Console
from rich.file_proxy import FileProxy

from alignzoo.system.terminal import escape


def make_console(*, stderr: bool = False, soft_wrap: bool = False) -> Console:
    """Return a console that prints texts as they are: brackets are not markup, nor numbers coloured."""
    return Console(stderr=stderr, soft_wrap=soft_wrap, highlight=False, markup=False, emoji=False)


class _EscapedProxy(FileProxy):
    """What rich puts in the place of stdout while a bar is shown: prints go above the bar, and are escaped too."""

    def __init__(self, console: Console, file: IO[str]) -> None:
        super().__init__(console, getattr(file, "rich_proxied_file", file))

    def write(self, text: str) -> int:
        """Write ``text`` above the bar."""
        return super().write(escape(text))


# patch: rich text.strip_control_codes
rich.text.strip_control_codes = escape  # type: ignore[attr-defined, assignment]
# patch: rich live.FileProxy
rich.live.FileProxy = _EscapedProxy  # type: ignore[attr-defined]


#: What tqdm writes beside a bar's text: back to the line's beginning, or lines down and up.
_MOVES = re.compile("\r|(?:\n|\x1b\\[A)+\\Z")


@functools.cache
def escape_bars() -> None:
    """Let the bars of tqdm, which the hub's client shows, move the cursor, and escape the names that they show."""
    import tqdm.std

    class EscapedBar(tqdm.std.DisableOnWriteError):
        def __init__(self, wrapped: Any, tqdm_instance: Any) -> None:
            super().__init__(wrapped, tqdm_instance)
            stream = getattr(wrapped, "rich_proxied_file", wrapped)
            write = self.disable_on_exception(tqdm_instance, lambda text: stream.write(_escape_bar(text)))
            self.wrapper_setattr("write", write)

    # patch: tqdm std.DisableOnWriteError
    tqdm.std.DisableOnWriteError = EscapedBar


def _escape_bar(text: str) -> str:
    moves = _MOVES.match(text)
    start = moves.end() if moves else 0
    return text[:start] + escape(text[start:])
