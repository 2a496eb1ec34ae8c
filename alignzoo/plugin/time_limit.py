"""Ends a plugin's code that does not end by itself, so that a command can name it and go on."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from alignzoo.system.errors import print_error

LIMIT = 10.0  #: seconds for the import of a plugin, and for each hook that every command calls
RUN_LIMIT = 120.0  #: seconds for a hook that only a run calls, which may load what it needs
AGAIN = 1.0  #: seconds until code that has caught the exception gets it once more
TRIES = 5  #: times that it gets it
HEAVY = ("torch", "transformers", "datasets", "trl")  #: what a plugin imports inside functions only

_end = os._exit  # which a plugin's code cannot reach meanwhile


class TookTooLong(BaseException):
    """A plugin's code did not end in time. Not an Exception, which that code may catch."""


@contextlib.contextmanager
def limit_time(what: str, limit: float) -> Iterator[None]:
    """Raise :class:`TookTooLong` within the block after ``limit`` seconds; ``what`` names the code in an error.

    In the main thread a signal interrupts whatever waits: sleep, sockets, locks. In another thread Python can raise
    only between two instructions, so a call that waits is left when it returns. Native code that never returns to
    Python cannot be ended in either. Code that catches even this exception ends the process, with its name.

    An import of torch or another of :data:`HEAVY` takes half a minute on a slow machine, and would be broken for the
    whole process if it were cut off: it gets :data:`RUN_LIMIT`.
    """
    watch = _Watch(what, limit)
    timer = _in_main_thread if threading.current_thread() is threading.main_thread() else _in_another_thread
    with timer(watch):
        yield


class _Watch:
    """Decides, each time the clock rings, whether the code is to be ended."""

    def __init__(self, what: str, limit: float) -> None:
        self.what, self.limit = what, limit
        self.began, self.tries, self.known = time.monotonic(), 0, {name for name in HEAVY if name in sys.modules}

    def next_ring(self) -> float:
        """Return the seconds until the clock rings."""
        return AGAIN if self.tries else max(0.001, self.began + self.limit - time.monotonic())

    def is_over(self) -> bool:
        """Tell whether the code is to be ended now; end the process where it has caught that too often."""
        heavy = not self.known.issuperset(name for name in HEAVY if name in sys.modules)
        if heavy and self.limit < RUN_LIMIT:
            self.limit = RUN_LIMIT
            return False
        self.tries += 1
        if self.tries > TRIES:
            print_error(f"{self.what} does not end: set ALIGNZOO_DISABLED_PLUGINS to its name, or uninstall it.")
            sys.stderr.flush()
            _end(1)
        return True

    def error(self) -> str:
        """Return what is said of the code."""
        return f"did not end within {self.limit:g} s"


@contextlib.contextmanager
def _in_main_thread(watch: _Watch) -> Iterator[None]:
    def ring(number: int, frame: Any) -> None:
        over = watch.is_over()
        signal.setitimer(signal.ITIMER_REAL, watch.next_ring())
        if over:
            raise TookTooLong(watch.error())

    handler, (left, interval) = signal.signal(signal.SIGALRM, ring), signal.setitimer(signal.ITIMER_REAL, watch.limit)
    try:
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:  # once more, for a ring within the line above
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:  # somebody else's clock
            passed = time.monotonic() - watch.began
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - passed), interval)


@contextlib.contextmanager
def _in_another_thread(watch: _Watch) -> Iterator[None]:
    done, thread = threading.Event(), threading.get_ident()
    clock = threading.Thread(
        target=_ring_until, args=(done, watch, lambda: _raise_in(thread, _make(watch))), daemon=True
    )
    clock.start()
    try:
        yield
    finally:
        done.set()
        clock.join()
        _raise_in(thread, None)  # what has not been raised yet is not raised any more


def _make(watch: _Watch) -> type[TookTooLong]:
    """Return a class whose instances say what :meth:`_Watch.error` does: Python makes the instance by itself."""
    text = watch.error()

    def make(self: TookTooLong) -> None:
        BaseException.__init__(self, text)

    return type("TookTooLong", (TookTooLong,), {"__init__": make})


def _ring_until(done: threading.Event, watch: _Watch, end: Callable[[], None]) -> None:
    while not done.wait(watch.next_ring()):
        if watch.is_over():
            end()


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error) if error else None)
