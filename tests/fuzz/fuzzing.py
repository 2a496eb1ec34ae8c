"""What fuzzers do to files that are whole: cut, flip and insert bytes, change and remove values, or write anything.

``ALIGNZOO_FUZZ_EXAMPLES=10000 pytest tests/fuzz`` tries that many, other ones each time; without it they are the same.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from alignzoo import UserError

FUZZERS = 8  #: model folder, GGUF, checkpoint, run folder, dataset, cache entry, plugin metadata, YAML
EXAMPLES = os.environ.get("ALIGNZOO_FUZZ_EXAMPLES")  #: of all fuzzers together

settings.register_profile(
    "fuzz",
    max_examples=int(EXAMPLES or 200) // FUZZERS,
    derandomize=EXAMPLES is None,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
FUZZ = settings.get_profile("fuzz")

#: Values of every type, among them those that a parser least expects.
ODD = st.sampled_from(
    [
        *(None, True, False, 0, -1, 1, 2**63, 10**400, 1.5, float("nan"), float("inf")),
        *("", "x", "\ud800", "a\nb", "../x", "x" * 5000),
        *([], {}, [[]], [None], {"": None}, [0] * 300),
    ]
)
JSON = st.recursive(
    ODD | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)

#: Bytes of nothing in particular, and such as break parsers of text.
RAW = st.one_of(
    st.binary(max_size=64),
    st.text(max_size=40).map(lambda text: text.encode(errors="surrogatepass")),
    st.sampled_from([b"", b"\0" * 40, b"\xff\xfe", b"null", b"[]", b"{}", b"3", b'""', b"[" * 100_000, b"9" * 5000]),
)

T = TypeVar("T")


#: Few characters, most of them with a meaning in some format.
TEXT = st.text("{}[]()\"'\\:,;=&*!|>#%@`-+.0123456789eExnNtruefalse$ ~\n\r\t", min_size=1, max_size=6).map(str.encode)


class Files(dict[str, bytes]):
    """What the files of a folder hold, by their paths in it."""

    @classmethod
    def read(cls, folder: Path) -> Files:
        """Return what is in ``folder`` and below it."""
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return cls((path.relative_to(folder).as_posix(), path.read_bytes()) for path in files)

    def __repr__(self) -> str:
        return f"Files({', '.join(f'{name}: {len(content)} bytes' for name, content in self.items())})"


class Damage:
    """The name of a file, what it holds now, and what it held."""

    def __init__(self, name: str, content: bytes, before: bytes) -> None:
        self.name, self.content, self.before = name, content, before

    def __repr__(self) -> str:
        pairs = enumerate(zip(self.content, self.before, strict=False))
        place = next((at for at, (now, then) in pairs if now != then), min(len(self.content), len(self.before)))
        sizes = f"{len(self.before)} bytes, now {len(self.content)}"
        return f"{self.name} ({sizes}, from {place} on {self.content[place : place + 500]!r})"


def attempt(read: Callable[[], T]) -> T | None:
    """Return what ``read`` returns, or None where it says in a few lines why not; nothing else may be raised."""
    try:
        return read()
    except UserError as error:
        text = str(error)
    assert 1 <= len(text.splitlines()) <= 3, text
    return None


def write_over(path: Path, content: bytes) -> None:
    """Write a file anew, and not into the one that is there, which may still be mapped into memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)


@st.composite
def damaged(draw: st.DrawFn, files: Files) -> Damage:
    """Do something to one of ``files``."""
    name = draw(st.sampled_from(sorted(files)))
    content = files[name]
    ways: list[Callable[..., st.SearchStrategy[bytes]]] = [change_bytes, change_bytes, cut, lambda content: RAW]
    for kind, change in STRUCTURED.items():
        if name.endswith(kind):
            ways += [change] * 6
    return Damage(name, draw(draw(st.sampled_from(ways))(content)), content)


def _places(content: bytes) -> st.SearchStrategy[int]:
    """Return places in ``content``: headers and footers are where parsers look."""
    last = max(0, len(content) - 1)
    ends = st.integers(0, min(last, 300)) | st.integers(max(0, last - 300), last)
    return ends | st.integers(0, min(last, 5000)) | st.integers(0, last)


def cut(content: bytes) -> st.SearchStrategy[bytes]:
    """Keep the beginning, or the end."""
    return _places(content).flatmap(lambda at: st.sampled_from([content[:at], content[at:]]))


@st.composite
def change_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Put other bytes into up to four places, over those that are there or between them."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at, new = draw(_places(bytes(found))), draw(st.binary(min_size=1, max_size=8) | TEXT)
        found[at : at + draw(st.sampled_from([0, len(new), 1]))] = new
    return bytes(found)


def _list_paths(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the place of each value in ``tree``; of a long list, those of its first few."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree[:5]) if isinstance(tree, list) else ()
    below = [place for key, value in items for place in _list_paths(value, (*path, key))]
    return [path, *below]


@st.composite
def change_value(draw: st.DrawFn, tree: Any) -> Any:
    """Return ``tree`` with one of its values another one, or gone."""
    path = draw(st.sampled_from(_list_paths(tree)))
    if not path:
        return draw(JSON)
    tree = json.loads(json.dumps(tree))
    inner = tree
    for key in path[:-1]:
        inner = inner[key]
    if draw(st.booleans()):
        del inner[path[-1]]
    else:
        inner[path[-1]] = draw(JSON)
    return tree


def change_json(content: bytes) -> st.SearchStrategy[bytes]:
    """Change a value of JSON."""
    return change_value(json.loads(content)).map(_dump)


def change_json_line(content: bytes) -> st.SearchStrategy[bytes]:
    """Change a value in one of the lines of JSON."""
    lines = content.splitlines(keepends=True)
    changed = st.integers(0, len(lines) - 1).flatmap(
        lambda at: change_json(lines[at]).map(lambda new: [*lines[:at], new, b"\n", *lines[at + 1 :]])
    )
    return changed.map(b"".join)


def change_yaml(content: bytes) -> st.SearchStrategy[bytes]:
    """Change a value of YAML; what is written then is JSON, which YAML holds, or has a tag that nobody asked for."""
    tree = yaml.safe_load(content)
    tags = st.sampled_from(
        ["!!int ''", "!!bool x", "!!float x", "!!binary é", "!!timestamp 9", "!!set {a}", "!x y", "*a"]
    )
    tagged = tags.map(lambda tag: content.rstrip() + f"\nodd: {tag}\n".encode())
    header = b"".join(line for line in content.splitlines(keepends=True) if line.startswith(b"#"))
    return change_value(tree).map(lambda tree: header + _dump(tree)) | tagged


def change_header(content: bytes) -> st.SearchStrategy[bytes]:
    """Change a value in the header of a safetensors file."""
    (size,) = struct.unpack("<Q", content[:8])
    changed = change_value(json.loads(content[8 : 8 + size])).map(_dump)
    return changed.map(lambda header: struct.pack("<Q", len(header)) + header + content[8 + size :])


def _dump(tree: Any) -> bytes:
    return json.dumps(tree).encode()


#: The end of a file's name -> what changes its values.
STRUCTURED: dict[str, Callable[[bytes], st.SearchStrategy[bytes]]] = {
    ".json": change_json,
    ".jsonl": change_json_line,
    ".yaml": change_yaml,
    ".safetensors": change_header,
}
