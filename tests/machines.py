"""Two machines: network namespaces that a cable joins, each with an address; they see no other network."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ADDRESSES = ("10.99.0.1", "10.99.0.2")


class Machine:
    """One of them, with a cache of its own."""

    def __init__(self, name: str, address: str, folder: Path) -> None:
        self.name, self.cable, self.address, self.folder = name, f"v{name[2:]}", address, folder
        self.cache = folder.with_name(f"{folder.name}-{name}")
        self.started: list[subprocess.Popen[str]] = []
        self.asked: tuple[tuple[str, ...], dict[str, str]] = (), {}

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """Start ``alignzoo WORDS`` on it, with its own address; output and errors come together."""
        self.asked = words, variables
        command = ["ip", "netns", "exec", self.name, sys.executable, "-m", "alignzoo", *words]
        command.append(f"strategy.address={self.address}")
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        environment = {**os.environ, "ALIGNZOO_CACHE": str(self.cache), **variables}
        self.started.append(subprocess.Popen(command, cwd=self.folder, text=True, env=environment, **pipes))
        return self.started[-1]

    def kill_and_start(self) -> None:
        """Kill the agent that was started last, and with it its workers; a while later, start the same again."""
        self.started[-1].send_signal(signal.SIGKILL)
        self.started[-1].communicate(timeout=10)
        time.sleep(3)
        words, variables = self.asked
        self.start(*words, **variables)

    def cable_is(self, state: str) -> None:
        """Pull the cable out (down), or plug it in again (up)."""
        ip("-n", self.name, "link", "set", self.cable, state)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextlib.contextmanager
def two_machines(folder: Path) -> Iterator[list[Machine]]:
    """Yield two machines that share ``folder``; what was started on them ends with them. Skips where there are none."""
    letters = zip("ab", ADDRESSES, strict=True)
    machines = [Machine(f"az{os.getpid()}{letter}", address, folder) for letter, address in letters]
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("needs root and iproute2, to make network namespaces")
    try:
        for machine in machines:
            ip("netns", "add", machine.name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
    try:
        ip("link", "add", machines[0].cable, "type", "veth", "peer", "name", machines[1].cable)
        for machine in machines:
            ip("link", "set", machine.cable, "netns", machine.name)
            ip("-n", machine.name, "addr", "add", f"{machine.address}/24", "dev", machine.cable)
            machine.cable_is("up")
            ip("-n", machine.name, "link", "set", "lo", "up")
        yield machines
    finally:
        for process in (process for machine in machines for process in machine.started):
            process.kill()
            process.wait(10)
        for machine in machines:
            ip("netns", "del", machine.name)
