"""A file or folder is whole under its name, or is not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from alignzoo.system.files import put_in_place, remove_unfinished, write_atomically


def test_a_file_has_its_old_content_until_the_new_one_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text("old")
    with write_atomically(file) as aside:
        aside.write_text("ne")
        assert (file.read_text(), aside.parent) == ("old", tmp_path)
        aside.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert file.read_text() == "new"


def write(path: Path, part: str, end: BaseException | None = None) -> Path:
    """Write a file, or a folder with the file ``part``, as far as ``end``; return where it was written first."""
    with write_atomically(path) as aside:
        if part:
            aside.mkdir()
        (aside / part).write_text("half")
        if end:
            raise end
    return aside


@pytest.mark.parametrize("end", [ValueError(), KeyboardInterrupt()])
def test_what_fails_halfway_leaves_what_was_there(tmp_path: Path, end: BaseException) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(type(end)):
        write(tmp_path / "a", "", end)
    with pytest.raises(type(end)):
        write(tmp_path / "folder", "part", end)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_folder_that_another_process_made_meanwhile_stays(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "theirs").touch()
    with pytest.raises(OSError, match="not empty"):
        write(tmp_path / "model", "ours")
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "theirs"]


def test_two_that_write_the_same_file_do_not_meet(tmp_path: Path) -> None:
    with write_atomically(tmp_path / "a") as one, write_atomically(tmp_path / "a") as other:
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "a").read_text() == "one"


def test_what_a_kill_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    file, folder = (write(tmp_path / name, part) for name, part in (("a", ""), ("model", "part")))
    (tmp_path / "a").rename(file)
    (tmp_path / "model").rename(folder)
    for other in ("model", ".lock", ".a.txt", ".hydra"):
        (tmp_path / other).touch()
    remove_unfinished(tmp_path, "a")
    assert not file.exists()
    assert folder.exists()
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.txt", ".hydra", ".lock", "model"]


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    put_in_place(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in tmp_path.rglob("*")] == ["old", "new"]


def test_a_kill_while_a_folder_takes_the_place_of_another_leaves_no_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a model would be read without the file that went first."""
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        for part in ("config", "weights"):
            (tmp_path / name / part).write_text(name)

    def remove_one(folder: Path, **options: object) -> None:
        (folder / "weights").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", remove_one)
    with pytest.raises(KeyboardInterrupt):
        put_in_place(tmp_path / "new", tmp_path / "old")
    monkeypatch.undo()
    assert not (tmp_path / "old").exists()
    remove_unfinished(tmp_path)
    put_in_place(tmp_path / "new", tmp_path / "old")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["config", "old", "weights"]
