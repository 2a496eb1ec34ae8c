"""A real browser that a test drives: one page, which stays open and can be asked."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 60.0  #: seconds
READS, WRITES = 3, 4  #: descriptors that `--remote-debugging-pipe` takes


class Page:
    """One page of the browser, by the DevTools protocol over a pipe, which needs no port and no package."""

    def __init__(self, reads: int, writes: int) -> None:
        self.reads, self.writes, self.number, self.rest, self.session = reads, writes, 0, b"", ""

    def open(self, address: str) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.resize(1280, 900)
        self.call("Page.navigate", url=address)

    def resize(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def evaluate(self, code: str) -> Any:
        """Return what JavaScript returns on the page."""
        found = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, code: str) -> Any:
        """Return what JavaScript returns once that is true."""
        deadline = time.monotonic() + PATIENCE
        while not (found := self.evaluate(code)):
            assert time.monotonic() < deadline, f"{code} did not come true:\n{self.text()}"
            time.sleep(0.1)
        return found

    def text(self, part: str = "body") -> str:
        """Return what a reader sees of a part of the page, a CSS selector."""
        return str(self.evaluate(f"document.querySelector({json.dumps(part)})?.innerText ?? ''"))

    def save_picture(self, file: Path) -> None:
        """Write the whole page as a PNG file."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(found["data"]))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        asked = {"id": self.number, "method": method, "params": params}
        if self.session:
            asked["sessionId"] = self.session
        os.write(self.writes, json.dumps(asked).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            read = os.read(self.reads, 65_536)
            assert read, "the browser has ended"
            self.rest += read
        message, _, self.rest = self.rest.partition(b"\0")
        return dict(json.loads(message))


@contextmanager
def open_browser(home: Path) -> Iterator[Page]:
    """Start the browser, its files in ``home``, and end it."""
    (its_in, ours_out), (ours_in, its_out) = os.pipe(), os.pipe()
    its_in, its_out = (_move(descriptor) for descriptor in (its_in, its_out))

    def place() -> None:
        os.dup2(its_in, READS)
        os.dup2(its_out, WRITES)

    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={home / 'browser'}"]
    with subprocess.Popen(
        [*command, "--remote-debugging-pipe"], pass_fds=(READS, WRITES), preexec_fn=place, stderr=subprocess.DEVNULL
    ) as process:
        os.close(its_in)
        os.close(its_out)
        page = Page(ours_in, ours_out)
        try:
            yield page
        finally:
            os.close(ours_out)  # it ends where nobody speaks to it any more
            process.wait(timeout=PATIENCE)
            os.close(ours_in)


def _move(descriptor: int) -> int:
    """Return the same at a number above those that the browser takes."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, WRITES + 1)
    os.close(descriptor)
    return moved
