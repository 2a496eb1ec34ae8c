"""Serves the page on loopback: five fixed addresses, read only, and for this machine's browser alone."""

from __future__ import annotations

import errno
import importlib.resources
import json
import sys
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from alignzoo.cli.watch.reading import Watch
from alignzoo.report.html import render
from alignzoo.report.leaderboard import draw
from alignzoo.system.errors import UserError

HOST = "127.0.0.1"

#: Names of this machine as its own browser writes them. A page of another site that had its own name lead here (DNS
#: rebinding) comes with that name. Ports may differ: `ssh -L` has its own.
NAMES = frozenset({"127.0.0.1", "localhost", "::1"})

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
RUN = "/run/"  #: a run's key follows


def serve(watch: Watch, port: int) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        UserError: the port is taken.
    """
    with make_server(watch, port) as server:
        print(f"watching {watch.folder}: http://{HOST}:{server.server_port}  (Ctrl-C ends)", flush=True)
        server.serve_forever()


def make_server(watch: Watch, port: int = 0) -> ThreadingHTTPServer:
    """Return the server, bound to a port of loopback; 0: any that is free.

    Raises:
        UserError: it is taken.
    """
    texts, types = _read_files()

    class Handler(_Handler):
        pages = {name: (types[name], texts[name]) for name in texts}
        answers = {"/state": watch.read, "/curves": watch.read_curves}
        read_run = staticmethod(watch.read_run)
        lock = threading.Lock()

    try:
        return _Server((HOST, port), Handler)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise UserError(f"port {port} cannot be taken ({error.strerror}): add --port N, or --port 0 for any.") from None


def _read_files() -> tuple[dict[str, str], dict[str, str]]:
    """Return the page's files and their types, by the addresses at which they are served."""
    here = importlib.resources.files(__package__)
    page, own, script = (here.joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    style = render("style.css.jinja", light=draw.LIGHT, dark=draw.DARK)
    return (
        {"/": page, "/page.css": f"{style}{own}", "/page.js": script},
        {"/": "text/html", "/page.css": "text/css", "/page.js": "text/javascript"},
    )


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that has gone."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    pages: Mapping[str, tuple[str, str]]
    answers: Mapping[str, Callable[[], Any]]
    read_run: Callable[[str], Any]
    lock: threading.Lock
    timeout = 30  #: seconds for a request that does not come to its end

    def do_GET(self) -> None:
        """Answer with the page, one of its files, or what the folder holds now."""
        path = self.path.partition("?")[0]
        if not self._is_own_browser():
            self._send("text/plain", "Open this page as http://127.0.0.1 or http://localhost.\n", HTTPStatus.FORBIDDEN)
        elif path in self.pages:
            self._send(*self.pages[path])
        else:
            self._send_json(*self._read(path))

    def _read(self, path: str) -> tuple[Any, HTTPStatus]:
        try:
            with self.lock:
                if path in self.answers:
                    return self.answers[path](), HTTPStatus.OK
                found = type(self).read_run(path.removeprefix(RUN)) if path.startswith(RUN) else None
            return found, HTTPStatus.NOT_FOUND if found is None else HTTPStatus.OK
        except (OSError, UserError) as error:  # a file has gone while it was read: the page asks again
            return str(error), HTTPStatus.SERVICE_UNAVAILABLE

    def _is_own_browser(self) -> bool:
        """Tell whether the browser was asked for this machine, by one of its own names."""
        asked = self.headers.get_all("Host") or []
        try:
            return len(asked) == 1 and urlsplit(f"//{asked[0]}").hostname in NAMES
        except ValueError:  # half an IPv6 address
            return False

    def _send_json(self, content: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send("application/json", json.dumps(content), status)

    def _send(self, kind: str, text: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        body = text.encode("utf-8", errors="backslashreplace")
        self.send_response(status)
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(body)), **HEADERS}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        """Say no versions."""
        return "alignzoo"

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the page asks every two seconds."""
