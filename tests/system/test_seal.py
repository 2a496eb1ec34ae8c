"""A seal tells whether a folder is as it was written, whatever was done to the folder or to the seal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damage import DAMAGES

from alignzoo.system.seal import Damaged, _hash_json, check_seal, write_seal

NAME = "seal.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "weights").write_bytes(b"weights" * 1000)
    (tmp_path / "sub" / "config").write_text("{}")
    write_seal(tmp_path, NAME, {"step": 3, "names": ["a", "ä"]})
    return tmp_path


def test_a_whole_folder_gives_its_facts_back_and_may_hold_more(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    assert check_seal(folder, NAME) == {"step": 3, "names": ["a", "ä"]}
    assert {path.name for path in folder.iterdir()} == {"weights", "sub", "notes.txt", NAME}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["weights", "sub/config", NAME])
def test_each_damage_is_seen_and_its_file_named(folder: Path, name: str, damage: str) -> None:
    DAMAGES[damage](folder / name)
    if (name, damage) == (NAME, "longer"):
        assert check_seal(folder, NAME)["step"] == 3, "a blank line at its end says nothing else"
    else:
        with pytest.raises(Damaged, match=name):
            check_seal(folder, NAME)


def forge(change: Callable[[dict[str, Any]], object], folder: Path) -> None:
    """Change the seal, and its own checksum with it."""
    seal = json.loads((folder / NAME).read_text())
    del seal["sha256"]
    change(seal)
    (folder / NAME).write_text(json.dumps({**seal, "sha256": _hash_json(seal)}))


#: What a forged seal says -> what is found wrong.
FORGED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no files": (lambda seal: seal.pop("files"), "cannot be read"),
    "no file": (lambda seal: seal["files"].clear(), "cannot be read"),
    "a list of files": (lambda seal: seal.update(files=["weights"]), "cannot be read"),
    "a file elsewhere": (lambda seal: seal["files"].update({"/etc/passwd": {}}), "/etc/passwd is missing"),
    "a file above": (lambda seal: seal["files"].update({"../x": {}}), "../x is missing"),
    "a name of two lines": (lambda seal: seal["files"].update({"a\nb": {}}), "^a file is missing$"),
    "a name of thousands": (lambda seal: seal["files"].update({"a" * 5000: {}}), "is missing"),
    "a size of text": (lambda seal: seal["files"]["weights"].update(bytes="7000"), "weights has 7,000 bytes"),
    "no hash": (lambda seal: seal["files"]["weights"].pop("sha256"), "weights is not what was written"),
    "no facts of a file": (lambda seal: seal["files"].update(weights=None), "weights has 7,000 bytes"),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_seal_is_found_wrong(folder: Path, kind: str) -> None:
    change, found = FORGED[kind]
    forge(change, folder)
    with pytest.raises(Damaged, match=found):
        check_seal(folder, NAME)


@pytest.mark.parametrize("content", ["", "null", "3", "[]", "{}", "[" * 100_000, '{"files": {}}', "\ud800", "1" * 5000])
def test_what_is_not_a_seal_cannot_be_read(folder: Path, content: str) -> None:
    (folder / NAME).write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(Damaged, match=r"seal\.json cannot be read"):
        check_seal(folder, NAME)


def test_a_value_that_was_changed_in_a_seal_is_seen(folder: Path) -> None:
    (folder / NAME).write_text((folder / NAME).read_text().replace('"step": 3', '"step": 4'))
    with pytest.raises(Damaged, match=r"seal\.json is not what was written"):
        check_seal(folder, NAME)
