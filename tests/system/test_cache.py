"""The cache stays below its limit by forgetting what was used longest ago, and can be listed and cleared."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
from damage import DAMAGES, flip

from alignzoo import UserError
from alignzoo.cli import main
from alignzoo.system import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ALIGNZOO_CACHE_GB", raising=False)
    return tmp_path / "cache"


def kept(name: str, hours: float, size: int = 1000) -> Path:
    """Make a file that was last used ``hours`` ago."""
    folder, _, file = name.rpartition("/")
    path = cache.make_folder(folder) / file
    path.write_bytes(bytes(size))
    used = time.time() - 3600 * hours
    os.utime(path, (used, used))
    return path


def test_what_was_used_longest_ago_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [kept("rows/a", 9), kept("reference/m/b", 8), kept("measured/c", 7), kept("rows/d", 6)]
    monkeypatch.setenv("ALIGNZOO_CACHE_GB", "0.0000025")
    cache.trim()
    assert [file.exists() for file in files] == [False, False, True, True]


def test_models_verdicts_and_what_is_in_use_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [kept("models/tiny/weights", 99), kept("verdicts/person", 99), kept("rows/now", 0.5), kept("rows/old", 2)]
    monkeypatch.setenv("ALIGNZOO_CACHE_GB", "0")
    cache.trim()
    assert [file.exists() for file in files] == [True, True, True, False]


def test_a_file_that_is_used_stays_longer_and_one_that_is_gone_is_not_made() -> None:
    old, older = kept("rows/a", 9), kept("rows/b", 10)
    cache.mark_used(older)
    cache.mark_used(older.with_name("gone"))
    assert older.stat().st_mtime > old.stat().st_mtime
    assert not older.with_name("gone").exists()


def make_entry(name: str, hours: float = 0, size: int = 1000) -> Path:
    """Make an entry of one file that was last used ``hours`` ago."""
    folder, _, entry = name.rpartition("/")
    path = cache.make_folder(folder) / entry
    with cache.write_entry(path) as made:
        (made / "content").write_bytes(bytes(size))
    used = time.time() - 3600 * hours
    os.utime(path, (used, used))
    return path


def test_an_entry_goes_whole_and_using_it_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [make_entry(name, hours) for name, hours in (("rows/a", 9), ("reference/m/b", 8), ("measured/c", 7))]
    before = entries[0] / "content", (entries[0] / "content").stat().st_mtime
    cache.mark_used(entries[0])
    assert before[0].stat().st_mtime == before[1], "what depends on the files' times still knows them"
    monkeypatch.setenv("ALIGNZOO_CACHE_GB", "0.000002")
    cache.trim()
    assert [entry.exists() for entry in entries] == [True, False, False]
    assert cache.open_entry(entries[0]) == entries[0]


def test_what_is_not_there_is_to_be_made() -> None:
    assert cache.open_entry(cache.make_folder("rows") / "a") is None


def test_an_entry_is_read_as_it_was_written(caplog: pytest.LogCaptureFixture) -> None:
    entry = make_entry("rows/a")
    assert [cache.open_entry(entry), cache.open_entry(entry)] == [entry, entry]
    assert {path.name for path in entry.iterdir()} == {"content", cache.SEAL}
    assert [path.name for path in entry.parent.iterdir()] == ["a"]
    assert caplog.text == ""


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["content", cache.SEAL])
def test_a_damaged_entry_is_named_once_and_made_anew(name: str, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    entry = make_entry("rows/a")
    if (name, damage) == (cache.SEAL, "longer"):
        pytest.skip("a blank line at a seal's end says nothing else")
    assert cache.open_entry(entry) == entry, "not only what was never read is looked at"
    DAMAGES[damage](entry / name)
    assert cache.open_entry(entry) is None
    (line,) = caplog.messages
    assert f"the cache's {entry} is damaged and is made anew: " in line
    assert name in line
    assert list(entry.parent.iterdir()) == [], "nothing of it is left"
    assert cache.open_entry(make_entry("rows/a")) == entry


def test_what_an_older_version_wrote_is_made_anew(caplog: pytest.LogCaptureFixture) -> None:
    entry = cache.make_folder("models") / "tiny-0"
    entry.mkdir()
    (entry / "config.json").write_text("{}")
    assert cache.open_entry(entry) is None
    assert "it has no seal.json" in caplog.text


def test_whoever_is_second_takes_what_the_first_has_made() -> None:
    entry = cache.make_folder("rows") / "a"
    with cache.write_entry(entry) as second:
        make_entry("rows/a", size=7)
        (second / "content").write_bytes(bytes(9))
    assert (entry / "content").stat().st_size == 7
    assert [path.name for path in entry.parent.iterdir()] == ["a"]


def test_a_full_disk_is_the_caches_and_nothing_is_left_of_the_entry() -> None:
    """And not the run's, which may be another: the line names the one to make room on."""
    entry = cache.make_folder("models") / "tiny-0"

    def make() -> None:
        with cache.write_entry(entry) as made:
            (made / "config.json").write_text("{")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError) as told:
        make()
    assert str(told.value) == (
        f"the disk of {entry.parent} is full: tiny-0 of the cache was not saved.\n"
        "Free some, or set ALIGNZOO_CACHE to a folder on another disk."
    )
    assert list(entry.parent.iterdir()) == []


def test_what_libraries_write_into_a_full_cache_is_the_caches_too() -> None:
    with pytest.raises(UserError) as told, cache.explain_full_cache("the method's rows"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(told.value).startswith(f"the disk of {cache.root()} is full: the method's rows could not be kept")
    assert "ALIGNZOO_CACHE" in str(told.value)


def test_a_damaged_entry_that_cannot_be_removed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = make_entry("rows/a")
    flip(entry / "content")

    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied")  # as of another user's folder, which root may always change

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(UserError, match="rows/a is damaged and cannot be removed"):
        cache.open_entry(entry)


def test_below_the_limit_nothing_goes() -> None:
    file = kept("rows/a", 999)
    cache.trim()
    assert file.exists()


@pytest.mark.parametrize("text", ["much", "-1", "inf", "nan"])
def test_a_limit_that_is_no_size_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNZOO_CACHE_GB", text)
    with pytest.raises(UserError, match=f"ALIGNZOO_CACHE_GB={text} is not a size"):
        cache.trim()


def code(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["cache", *words])
    return int(end.value.code or 0)


def test_list_names_folders_sizes_and_the_limit(capsys: pytest.CaptureFixture[str], own_cache: Path) -> None:
    assert code("list") == 0, "before anything was kept"
    kept("rows/a", 1, 2_500_000)
    kept("verdicts/person", 1)
    capsys.readouterr()
    assert code("list") == 0
    out = capsys.readouterr().out
    (rows,) = [line for line in out.splitlines() if line.startswith("rows ")]
    assert "2.5 MB" in rows
    assert any(line.startswith("verdicts") and "1.0 kB" in line for line in out.splitlines())
    assert str(own_cache) in out
    assert "at most 20.0 GB" in out


def test_clear_removes_what_can_be_made_again(capsys: pytest.CaptureFixture[str], own_cache: Path) -> None:
    rows, reference, person = kept("rows/a", 1), kept("reference/m/b", 1), kept("verdicts/person", 1)
    assert code("clear", "rows") == 0
    assert (rows.exists(), reference.exists()) == (False, True)
    assert code("clear") == 0
    assert (reference.exists(), person.exists()) == (False, True)
    assert code("clear", "verdicts") == 0
    assert not person.exists()
    assert capsys.readouterr().out.count(f"1.0 kB freed in {own_cache}") == 3


def test_clear_refuses_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert code("clear", "row") == 1
    assert "cache clear row: the cache has models, rows" in capsys.readouterr().err
