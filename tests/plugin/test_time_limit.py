"""A plugin whose code does not end is left out and named, in the main thread and in others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from broken import CONFIGS, METHOD, before, hook
from inprocess import call

from alignzoo.plugin import time_limit
from alignzoo.plugin.registry import Registry
from alignzoo.plugin.time_limit import TookTooLong, limit_time

SLEEP = "__import__('time').sleep(600)"
LOOP = "while True: pass"

Install = Callable[..., None]


@pytest.fixture(autouse=True)
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "LIMIT", 0.3)
    monkeypatch.setattr(time_limit, "AGAIN", 0.05)


HANGING = {
    "its import": (before(SLEEP), "its import did not end within 0.3 s"),
    "its import, in a loop": (before(LOOP), "its import did not end within 0.3 s"),
    "a hook": (hook("alignzoo_rewards", SLEEP), "alignzoo_rewards did not end within 0.3 s"),
    "a hook, in a loop": (hook("alignzoo_methods", LOOP), "alignzoo_methods did not end within 0.3 s"),
    "a list whose items come late": (
        hook("alignzoo_judges", "yield from iter(lambda: __import__('time').sleep(0.01), 1)"),
        "alignzoo_judges did not end within 0.3 s",
    ),
    "a hook that catches exceptions": (
        hook("alignzoo_config_packages", f"try: {SLEEP}\n    except Exception: {SLEEP}"),
        "alignzoo_config_packages did not end within 0.3 s",
    ),
    "a lock that nobody gives back": (
        hook("alignzoo_methods", "lock = __import__('threading').Lock(); lock.acquire(); lock.acquire()"),
        "alignzoo_methods did not end within 0.3 s",
    ),
}


@pytest.mark.parametrize("kind", HANGING)
def test_it_is_left_out_and_named_by_list(fake_package: Install, kind: str) -> None:
    code, said = HANGING[kind]
    fake_package("fake_hanging", code.replace("PACKAGE", "fake_hanging"))
    fake_package("fake_good", METHOD.replace("PACKAGE", "good"))
    began = time.monotonic()
    done = call("list")
    assert time.monotonic() - began < 120
    assert done.code == 0, "all that there is was listed"
    assert f"left out: fake_hanging (fake_hanging 1.0): {said}\n" in done.out
    assert "good" in done.out
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


def test_a_config_package_that_does_not_end_is_not_used(fake_package: Install) -> None:
    code = (METHOD + CONFIGS).replace("PACKAGE", "fake_hanging")
    fake_package("fake_hanging", code, configs={"__init__.py": SLEEP})
    found = Registry()
    assert found.config_packages == [pair for pair in found.config_packages if pair[0].name != "fake_hanging"]
    (remark,) = found.remarks["fake_hanging"]
    assert remark == "its config package fake_hanging.conf is not used (its import did not end within 0.3 s)"


def test_in_another_thread_a_loop_is_ended_too(fake_package: Install) -> None:
    fake_package("fake_hanging", hook("alignzoo_methods", LOOP))
    problems: list[str | None] = []

    def look() -> None:
        found = Registry()
        assert "dpo" in found.methods
        problems.append(found.plugins["fake_hanging"].problem)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(30)
    assert problems == ["alignzoo_methods did not end within 0.3 s"]


def test_what_ends_in_time_is_left_alone() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 30)
    try:
        with limit_time("a plugin", 0.3):
            pass
        time.sleep(0.4)
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        assert 25 < left < 30, "another's clock goes on"
        assert signal.getsignal(signal.SIGALRM) == signal.SIG_IGN
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def import_torch() -> None:
    with limit_time("a plugin", 0.1):
        sys.modules["torch"] = sys
        time.sleep(600)


def test_an_import_of_what_is_heavy_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of torch would break the whole process."""
    monkeypatch.setitem(sys.modules, "torch", sys)  # so that what there was comes back, also nothing
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(time_limit, "RUN_LIMIT", 1.0)
    began = time.monotonic()
    with pytest.raises(TookTooLong, match="did not end within 1 s"):
        import_torch()
    assert time.monotonic() - began > 0.9


def test_one_that_catches_everything_ends_the_process_with_its_name() -> None:
    code = f"""
import time
from alignzoo.plugin import time_limit

time_limit.AGAIN = 0.05
with time_limit.limit_time("alignzoo_methods of plugin theirs", 0.1):
    while True:
        try: {SLEEP}
        except BaseException: pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 1
    assert done.stderr == (
        "alignzoo: alignzoo_methods of plugin theirs does not end: set ALIGNZOO_DISABLED_PLUGINS to its name, "
        "or uninstall it.\n"
    )
