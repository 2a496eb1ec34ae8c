"""What the page's server answers, and to whom: five addresses, to this machine's own browser, read only."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from watched import begin, fail, finish, train

from alignzoo import UserError
from alignzoo.cli.watch.reading import Watch
from alignzoo.cli.watch.server import make_server

HOSTILE = "</script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watched") / "runs" / "one"
    finish(train(begin(folder), 40, 40), said=HOSTILE)
    (folder.parent.parent / "secret.txt").write_text("secret")
    return folder


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[ThreadingHTTPServer]:
    with make_server(Watch(run)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(
    server: ThreadingHTTPServer, path: str, method: str = "GET", host: str | None = None
) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    if host != "":
        connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_it_is_on_loopback_alone(server: ThreadingHTTPServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    elsewhere = socket.gethostbyname(socket.gethostname())
    if not elsewhere.startswith("127."):
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((elsewhere, server.server_port), timeout=5)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        *(("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")),
        *(("/state", "application/json"), ("/curves", "application/json"), ("/state?x=1", "application/json")),
    ],
)
def test_its_addresses(server: ThreadingHTTPServer, path: str, kind: str) -> None:
    answer, body = ask(server, path)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == f"{kind}; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer.headers["Server"] == "alignzoo"
    assert body


def test_a_runs_own_address(server: ThreadingHTTPServer) -> None:
    state = json.loads(ask(server, "/state")[1])
    answer, body = ask(server, f"/run/{state['runs'][0]['key']}")
    assert answer.status == 200
    assert json.loads(body)["answers"][0]["versions"][-1]["text"] == HOSTILE


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/secret.txt",
            "/../secret.txt",
            "/run/../../secret.txt",
            "/run/%2e%2e%2f%2e%2e%2fsecret.txt",
            "//secret.txt",
        ),
        *("/run.yaml", "/result.json", "/run/", "/run/one", "/page.py", "/server.py", "/run/0000000000000000"),
        *("http://127.0.0.1/secret.txt", "/state/", "/.", "*", "http://[/"),
    ],
)
def test_no_path_leads_to_a_file(server: ThreadingHTTPServer, path: str) -> None:
    ask(server, "/state")
    answer, body = ask(server, path)
    assert answer.status == 404
    assert body == b"null"


def test_an_absolute_path_of_a_run_is_no_key(server: ThreadingHTTPServer, run: Path) -> None:
    ask(server, "/state")
    assert ask(server, f"/run/{run}")[0].status == 404


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:8642", "127.0.0.1.evil.example", "0.0.0.0", "[::1", "a@127.0.0.2", "x y"]
)
@pytest.mark.parametrize("path", ["/", "/state"])
def test_another_name_of_this_machine_is_refused(server: ThreadingHTTPServer, path: str, host: str) -> None:
    """A page elsewhere whose name was made to lead here (DNS rebinding) comes with that name."""
    answer, body = ask(server, path, host=host)
    assert answer.status == 403
    assert b"runs" not in body


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1", "[::1]:8642", "LOCALHOST:1"])
def test_this_machines_own_names_are_taken_at_any_port(server: ThreadingHTTPServer, host: str) -> None:
    """`ssh -L` has a port of its own."""
    assert ask(server, "/state", host=host)[0].status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_written(server: ThreadingHTTPServer, method: str) -> None:
    assert ask(server, "/state", method)[0].status == 501


def test_a_file_that_goes_while_it_is_read_is_asked_for_again(
    server: ThreadingHTTPServer, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(folder: Path) -> None:
        raise FileNotFoundError("gone")

    with monkeypatch.context() as patch:
        patch.setattr("alignzoo.cli.watch.reading.is_running", gone)
        assert ask(server, "/state")[0].status == 503
    assert ask(server, "/state")[0].status == 200


def test_bytes_that_are_no_text_are_shown(tmp_path: Path) -> None:
    folder = fail(begin(tmp_path / "run"), "x")
    (folder / "error.txt").write_bytes(b"the disk says \xff\n")
    with make_server(Watch(folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert json.loads(ask(server, "/state")[1])["runs"][0]["detail"] == "the disk says \ufffd"
        server.shutdown()


def test_a_port_that_is_taken_is_named(server: ThreadingHTTPServer, run: Path) -> None:
    with pytest.raises(UserError, match=rf"port {server.server_port} cannot be taken .* add --port N"):
        make_server(Watch(run), server.server_port)
