"""The signals before a machine is taken away, and the durations after which it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from alignzoo import UserError
from alignzoo.system import signals
from alignzoo.system.signals import EXIT_CODE, SIGNALS, Preempted, catch_signals, parse_duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3h55m", 14_100), ("45m", 2_700), ("1d12h", 129_600), ("90s", 90), ("1d2h3m4s", 93_784), (None, None)],
)
def test_durations(text: str | None, expected: float | None) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "3", "h", "3 h", "55m3h", "0m", "-1h", "1.5h", "3hours"])
def test_no_durations(text: str) -> None:
    with pytest.raises(UserError, match=r"train\.stop_before=.* is not a duration: use e.g. 3h55m"):
        parse_duration(text)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_while_a_training_waits_for_it(number: signal.Signals) -> None:
    with catch_signals() as found:
        found.waits = True
        os.kill(os.getpid(), number)
        assert found.signal == number
        os.kill(os.getpid(), number)  # the same one, sent to the process group too


@pytest.mark.parametrize("number", SIGNALS)
def test_elsewhere_it_ends_the_program(number: signal.Signals) -> None:
    with pytest.raises(Preempted) as ended, catch_signals():
        os.kill(os.getpid(), number)
    assert ended.value.code == EXIT_CODE == 138
    assert number.name in ended.value.reason


def test_the_second_one_ends_it_at_once() -> None:
    code = """
import os, signal, time
from alignzoo.system import signals
signals.SAME = 0.1
with signals.catch_signals() as found:
    found.waits = True
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(0.2)
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    finally:
        print("cleaned up")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")


def test_handlers_are_brought_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with catch_signals():
        assert [signal.getsignal(number) for number in SIGNALS] != before
        with catch_signals():
            pass
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_another_thread_listens_to_nothing() -> None:
    """Python lets the main thread alone set handlers."""
    heard: list[signals.ReceivedSignal] = []

    def work() -> None:
        with catch_signals() as found:
            heard.append(found)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [found.signal for found in heard] == [0]


def test_a_forked_process_ends_as_it_always_did() -> None:
    """Pools and data loaders end their workers with SIGTERM."""
    with catch_signals() as found:
        found.waits = True
        ready, told = os.pipe()
        child = os.fork()
        if not child:
            os.write(told, b".")  # Python forgets signals that come while it still forks
            for _ in range(300):
                time.sleep(0.1)
            os._exit(0)
        os.read(ready, 1)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
