"""A file or folder is whole under its name, or is not there."""

from __future__ import annotations

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


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_halfway_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(error), write_atomically(tmp_path / "a") as aside:
        aside.write_text("half")
        raise error
    with pytest.raises(error), write_atomically(tmp_path / "folder") as aside:
        aside.mkdir()
        (aside / "part").touch()
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_folder_that_another_process_made_meanwhile_stays(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not empty"), write_atomically(tmp_path / "model") as aside:
        aside.mkdir()
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "theirs").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "theirs"]


def test_two_that_write_the_same_file_do_not_meet(tmp_path: Path) -> None:
    with write_atomically(tmp_path / "a") as one, write_atomically(tmp_path / "a") as other:
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "a").read_text() == "one"


def test_what_a_kill_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    left = []
    for name in ("a", "model"):
        with pytest.raises(ValueError, match="end"), write_atomically(tmp_path / name) as aside:
            left.append(aside.name)
            raise ValueError("end")
    (tmp_path / left[0]).touch()
    (tmp_path / left[1]).mkdir()
    (tmp_path / left[1] / "part").touch()
    for other in ("model", ".lock", ".a.txt", ".hydra"):
        (tmp_path / other).touch()
    remove_unfinished(tmp_path, "a")
    assert not (tmp_path / left[0]).exists()
    assert (tmp_path / left[1]).exists()
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.txt", ".hydra", ".lock", "model"]


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    put_in_place(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in tmp_path.rglob("*")] == ["old", "new"]
