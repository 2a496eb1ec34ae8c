"""A server of the model hub's protocol on loopback, as far as its client makes, fills and downloads repositories."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

#: Token -> whose it is; who of them may write.
USERS, WRITERS = {"hf_me": "me", "hf_reader": "reader"}, {"me"}


@dataclass
class Repository:
    """A model repository: whether it is private, and each commit's files, the newest last."""

    private: bool
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    @property
    def head(self) -> tuple[str, dict[str, bytes]]:
        return self.commits[-1]

    def commit(self, files: dict[str, bytes], message: str) -> str:
        content = [[name, hashlib.sha256(data).hexdigest()] for name, data in sorted(files.items())]
        oid = hashlib.sha1(json.dumps([len(self.commits), content]).encode()).hexdigest()
        self.commits.append((oid, files))
        self.messages.append(message)
        return oid


class LoopbackHub:
    """Repositories by name, large files by hash, and each request that was made."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.sent = b""
        """All that clients sent."""

        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def make(self, name: str, private: bool, files: dict[str, bytes]) -> Repository:
        """Make a repository with ``files``."""
        made = self.repositories[name] = Repository(private)
        made.commit(files, "first")
        return made


class Refused(Exception):
    """An answer that is an error: its status, and the code that the client reads."""

    def __init__(self, status: int, code: str = "", body: dict[str, Any] | None = None) -> None:
        self.status, self.code, self.body = status, code, body or {"error": code}


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        self.body = self.read_body()
        self.hub.sent += self.body
        try:
            for pattern, serve in ROUTES:
                if found := re.fullmatch(pattern, f"{self.command} {path}"):
                    return serve(self, *found.groups())
            raise Refused(404, "EntryNotFound")
        except Refused as refused:
            self.send(json.dumps(refused.body).encode(), refused.status, {"X-Error-Code": refused.code})

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, content: Any) -> None:
        self.send(json.dumps(content).encode(), headers={"Content-Type": "application/json"})

    @property
    def user(self) -> str | None:
        return USERS.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))

    def require_writer(self, owner: str) -> None:
        if self.user is None:
            raise Refused(401)
        if self.user not in WRITERS or owner != self.user:
            raise Refused(403)

    def find(self, name: str) -> Repository:
        found = self.hub.repositories.get(name)
        if found is None or (found.private and self.user != name.partition("/")[0]):
            raise Refused(404, "RepoNotFound")
        return found

    def files(self, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        found = self.find(name)
        for oid, files in found.commits:
            if oid == revision:
                return oid, files
        if revision != "main" or not found.commits:
            raise Refused(404, "RevisionNotFound")
        return found.head


def whoami(request: _Handler) -> None:
    if request.user is None:
        raise Refused(401)
    request.json({"name": request.user, "type": "user", "orgs": []})


def validate_card(request: _Handler) -> None:
    """Refuse a head that is not YAML, or whose numbers are not in the hub's format."""
    text = json.loads(request.body)["content"]
    head = yaml.safe_load(text.split("---\n")[1])
    for model in head.get("model-index", []):
        for result in model["results"]:
            whole = {"task", "dataset", "metrics"} <= result.keys() and {"name", "type"} <= result["dataset"].keys()
            if not whole or not all({"type", "value"} <= metric.keys() for metric in result["metrics"]):
                raise Refused(400, "", {"errors": [{"message": "model-index"}]})
    request.json({"errors": [], "warnings": []})


def create(request: _Handler) -> None:
    asked = json.loads(request.body)
    owner = asked.get("organization") or request.user
    request.require_writer(owner)
    name, private = f"{owner}/{asked['name']}", asked.get("private", asked.get("visibility") == "private")
    if name in request.hub.repositories:
        raise Refused(409, "RepoAlreadyExists")
    request.hub.make(name, private, {".gitattributes": b""})
    request.json({"url": f"{request.hub.address}/{name}", "name": name, "id": name})


def describe(request: _Handler, name: str, revision: str | None = None) -> None:
    oid, files = request.files(name, revision or "main")
    siblings = [{"rfilename": file} for file in files]
    request.json({"id": name, "sha": oid, "private": request.find(name).private, "siblings": siblings, "tags": []})


def list_tree(request: _Handler, name: str, revision: str) -> None:
    _, files = request.files(name, revision)
    request.json(
        [{"type": "file", "path": path, "size": len(data), "oid": blob_id(data)} for path, data in files.items()]
    )


def preupload(request: _Handler, name: str, revision: str) -> None:
    request.require_writer(name.partition("/")[0])
    asked = json.loads(request.body)["files"]
    mode = {True: "lfs", False: "regular"}
    files = [
        {"path": f["path"], "uploadMode": mode[f["path"].endswith(".safetensors")], "shouldIgnore": False}
        for f in asked
    ]
    request.json({"files": files})


def plan_large(request: _Handler, name: str) -> None:
    request.require_writer(name.partition("/")[0])
    objects = json.loads(request.body)["objects"]
    for one in objects:
        if one["oid"] not in request.hub.large:
            one["actions"] = {"upload": {"href": f"{request.hub.address}/large/{one['oid']}", "header": {}}}
    request.json({"transfer": "basic", "objects": objects})


def put_large(request: _Handler, oid: str) -> None:
    if hashlib.sha256(request.body).hexdigest() != oid:
        raise Refused(400)
    request.hub.large[oid] = request.body
    request.json({})


def commit(request: _Handler, name: str, revision: str) -> None:
    request.require_writer(name.partition("/")[0])
    oid, files = request.files(name, revision)
    files = dict(files)
    lines = {kind: [] for kind in ("header", "file", "lfsFile", "deletedFile")}
    for line in request.body.splitlines():
        read = json.loads(line)
        lines[read["key"]].append(read["value"])
    (header,) = lines["header"]
    if header.get("parentCommit") not in (None, oid):
        raise Refused(412)
    files |= {file["path"]: base64.b64decode(file["content"]) for file in lines["file"]}
    files |= {file["path"]: request.hub.large[file["oid"]] for file in lines["lfsFile"]}
    for file in lines["deletedFile"]:
        del files[file["path"]]
    made = request.find(name).commit(files, header["summary"])
    request.json({"success": True, "commitOid": made, "commitUrl": f"{request.hub.address}/{name}/commit/{made}"})


def resolve(request: _Handler, name: str, revision: str, path: str) -> None:
    oid, files = request.files(name, revision)
    if path not in files:
        raise Refused(404, "EntryNotFound")
    request.send(files[path], headers={"X-Repo-Commit": oid, "ETag": f'"{blob_id(files[path])}"'})


def blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


NAME = r"([\w.-]+/[\w.-]+)"
ROUTES: list[tuple[str, Callable[..., None]]] = [
    (r"(?:HEAD|GET) /?", lambda request: request.json({})),
    ("GET /api/whoami-v2", whoami),
    ("POST /api/validate-yaml", validate_card),
    ("POST /api/repos/create", create),
    (f"GET /api/models/{NAME}", describe),
    (f"GET /api/models/{NAME}/revision/(.+)", describe),
    (f"GET /api/models/{NAME}/tree/([^/]+)", list_tree),
    (f"POST /api/models/{NAME}/preupload/(.+)", preupload),
    (rf"POST /{NAME}\.git/info/lfs/objects/batch", plan_large),
    ("PUT /large/(.+)", put_large),
    (f"POST /api/models/{NAME}/commit/(.+)", commit),
    (f"(?:HEAD|GET) /{NAME}/resolve/([^/]+)/(.+)", resolve),
]
