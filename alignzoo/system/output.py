"""Puts escaped, guarded streams in the place of stdout and stderr; a training outlives them."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import select
import signal
import sys
from types import TracebackType
from typing import Any

from alignzoo.system.errors import print_error
from alignzoo.system.terminal import EscapedOutput, EscapedRecord, print_exception

STREAMS = ("stdin", "stdout", "stderr")


class OutputLost(Exception):
    """What a command prints cannot be written: its reader has gone, or a disk is full. The command ends."""


class _Descriptor(io.RawIOBase):
    """A file descriptor whose first failed write is noted; what follows it is dropped."""

    def __init__(self, number: int, ends: bool) -> None:
        self.number = number
        self.ends = ends
        """Whether a failed write ends the command."""

        self.lost: OSError | None = None
        self.ended = False

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return its number; closing this object leaves it open."""
        return self.number

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return os.isatty(self.number)

    def write(self, data: Any) -> int:
        """Write ``data``, or drop it after a failed write.

        Raises:
            OutputLost: it cannot be written, and what prints it has no other purpose.
        """
        size = memoryview(data).nbytes
        if self.lost is None:
            try:
                return self._write(data)
            except OSError as error:
                self.lost = error
                logging.raiseExceptions = False  # said once, not for each line of the log
        if self.ends and not self.ended:
            self.ended = True
            raise OutputLost(self.lost.strerror)
        return size

    def _write(self, data: Any) -> int:
        while True:
            try:
                return os.write(self.number, data)
            except BlockingIOError:  # whoever shares the pipe or terminal has made it so
                select.select([], [self.number], [])


class GuardedOutput:
    """While it is entered, both outputs and all logs escape what a terminal would obey or cannot encode.

    A failed write ends the command in a line; in a training (:func:`outlive_output`) it ends nothing: ``result.json``
    says what became of the run.
    """

    def __enter__(self) -> GuardedOutput:
        """Guard the outputs; those in memory, which a test or a notebook has put in their place, are escaped only."""
        _open_missing()
        self._record = logging.getLogRecordFactory()
        found = {name: _guard(name, ends=name == "stdout") for name in STREAMS[1:]}
        self._before = {name: stream for name, stream in found.items() if stream is not None}
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
        """Flush what was printed and put the outputs back.

        Raises:
            SystemExit: the output was lost, and nothing else was wrong.
        """
        stdout = _descriptor(sys.stdout) if "stdout" in self._before else None
        for name in self._before:
            with contextlib.suppress(OutputLost, ValueError):  # ValueError: it was closed
                getattr(sys, name).flush()
        if isinstance(error, Exception) and not isinstance(error, OutputLost):
            sys.excepthook = print_exception
        if stdout is not None and stdout.lost is not None:
            code = _report(stdout.lost, stdout.ended)
            if stdout.ended and (error is None or isinstance(error, OutputLost) or _is_success(error)):
                self._restore()
                raise SystemExit(code) from None
        self._restore()

    def _restore(self) -> None:
        logging.setLogRecordFactory(self._record)
        for name, stream in self._before.items():
            with contextlib.suppress(OSError, ValueError):
                getattr(sys, name).flush()
            setattr(sys, name, stream)


def outlive_output() -> None:
    """Let nothing end any more, in this process, because its output cannot be written: to be called by what trains."""
    for name in STREAMS[1:]:
        _guard(name, ends=False)
        found = _descriptor(getattr(sys, name))
        if found is not None:
            found.ends = found.ended = False


def _guard(name: str, ends: bool) -> Any:
    """Put a guarded stream in the place of ``sys.<name>``; return that one, or None where it was guarded before."""
    logging.setLogRecordFactory(EscapedRecord)
    stream = getattr(sys, name)
    if isinstance(stream, EscapedOutput):
        return None
    setattr(sys, name, EscapedOutput(_guard_file(stream, ends) or stream))
    return stream


def _guard_file(stream: Any, ends: bool) -> io.TextIOWrapper | None:
    """Return a stream that outlives failed writes, or None for one that is not a file's: in memory, or closed."""
    if not isinstance(stream, io.TextIOWrapper):
        return None
    try:
        raw: Any = _Descriptor(stream.fileno(), ends)
    except (OSError, ValueError):
        return None
    stream.flush()
    is_unbuffered = isinstance(stream.buffer, io.RawIOBase)  # python -u
    return io.TextIOWrapper(
        raw if is_unbuffered else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        newline="\n",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _descriptor(stream: Any) -> _Descriptor | None:
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return raw if isinstance(raw, _Descriptor) else None


def _open_missing() -> None:
    """Open /dev/null where a stream was closed (``>&-``): else the next file that is opened would get its number."""
    for number, name in enumerate(STREAMS):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(null, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115


def _report(lost: OSError, ended: bool) -> int:
    """Say that output was lost, and return the exit code of a command that it has ended."""
    if not ended:
        print_error(f"not all that was printed could be written ({lost.strerror}); what was run did not end by it.")
    elif lost.errno == errno.EPIPE:  # `| head` has read enough
        return 128 + signal.SIGPIPE
    else:
        print_error(f"what this command prints cannot be written: {lost.strerror}.")
    return 1


def _is_success(error: BaseException) -> bool:
    return isinstance(error, SystemExit) and not error.code
