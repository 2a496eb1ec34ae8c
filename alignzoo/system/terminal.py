"""Escapes what a terminal would obey in text that is printed or logged: one place, which all output goes through.

Models, datasets, run folders, plugins, judges and errors hold text that somebody else wrote. A terminal takes parts of
it as commands: to clear the screen, to fill the clipboard (OSC 52), to show a link under another's name (OSC 8).
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from types import TracebackType
from typing import Any

#: What is escaped: the control characters C0 (but for newline and tab), DEL and C1; line and paragraph separators, at
#: which some viewers break lines; and what changes the direction of all that follows on its line (Unicode Annex 9): in
#: its name, a run would turn round the numbers beside it. Marks of direction, joiners and accents stay: scripts
#: need them.
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def escape(text: str) -> str:
    r"""Return ``text`` with each unsafe character as ``\u001b``, one by one: also where a piece ends within a sequence.

    JSON reads this notation as the character itself, so that what ``--json`` prints keeps its meaning.
    """
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class EscapedOutput:
    """A text stream that escapes what is written to it; all else is the stream's own."""

    def __init__(self, stream: Any) -> None:
        self.rich_proxied_file = stream
        """The stream itself. rich writes its styles there, by this name: its texts are escaped as they are made."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)

    def write(self, text: str) -> int:
        """Write ``text``, escaped; return its length."""
        self.rich_proxied_file.write(escape(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write them, escaped."""
        for line in lines:
            self.write(line)


class EscapedRecord(logging.LogRecord):
    """A log record whose message and traceback are escaped, whatever handler writes them and to which file."""

    def getMessage(self) -> str:
        """Return the message with its arguments."""
        return escape(super().getMessage())

    @property
    def exc_text(self) -> str | None:
        """The traceback as a formatter has written it."""
        return self.__dict__.get("_exc_text")

    @exc_text.setter
    def exc_text(self, text: str | None) -> None:
        self.__dict__["_exc_text"] = text and escape(text)


def print_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback, escaped: what ``sys.excepthook`` is after a command that ended with one."""
    sys.stderr.write(escape("".join(traceback.format_exception(kind, error, trace))))
