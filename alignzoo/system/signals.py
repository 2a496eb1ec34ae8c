"""Catches the signals by which a run is preempted, and reads durations such as 3h55m."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from alignzoo.system.errors import UserError

#: SIGTERM: schedulers, clouds and `kill`. SIGUSR1: Slurm's `--signal=USR1@300`, so many seconds before the end.
#: SIGUSR2: the same, as submitit asks for it.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

#: 128 + SIGUSR1: what Kubeflow takes as retryable (128 to 255), and neither an error's code (1) nor Ctrl-C's (130).
EXIT_CODE = 138

SAME = 1.0  #: seconds within which a second signal is the first one again, sent to process and group

PR_SET_PDEATHSIG = 1  #: prctl(2): a signal to get when the parent dies

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


class Preempted(SystemExit):
    """Ends the program with :data:`EXIT_CODE`; Hydra starts no further sweep job."""

    def __init__(self, reason: str, agreed: bool = False) -> None:
        """``agreed``: all processes of the run stopped at one step; started again, each would stop again."""
        super().__init__(EXIT_CODE)
        self.reason, self.agreed = reason, agreed


class ReceivedSignal:
    """The first signal that has arrived, and whether the run ends at once or at its next step boundary."""

    def __init__(self) -> None:
        self.signal = 0
        """The first signal's number; 0: none."""

        self.waits = False
        """True while a training saves itself at the next step boundary."""

        self._since = 0.0
        self._process = os.getpid()

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: note it while a training waits for it, else end the program; the second ends it at once."""
        second = self.signal and time.monotonic() - self._since > SAME
        if second or os.getpid() != self._process:  # a process that was forked from this one ends as it always did
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if self.signal:
            return
        self.signal, self._since = number, time.monotonic()
        if not self.waits:
            raise Preempted(f"{signal.Signals(number).name} outside of the training")


@contextlib.contextmanager
def catch_signals() -> Iterator[ReceivedSignal]:
    """Catch :data:`SIGNALS` in the main thread; elsewhere Python cannot, and nothing is received."""
    received = ReceivedSignal()
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before: dict[Any, Any] = {number: signal.signal(number, received.receive) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent(number: signal.Signals) -> None:
    """Have the kernel send this process ``number`` when its parent dies, so that it leaves no orphan (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def parse_duration(text: str | None, key: str = "train.stop_before") -> float | None:
    """Return the seconds of a duration such as ``3h55m``, the value of ``key``, or None for None.

    Raises:
        UserError: it is not a duration.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    parts = [int(part or 0) * size for part, size in zip(match.groups(), _UNITS.values(), strict=True)] if match else []
    if not any(parts):
        raise UserError(f"{key}={text} is not a duration: use e.g. 3h55m, 45m or 1d12h (d, h, m, s).")
    return float(sum(parts))
