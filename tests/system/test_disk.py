"""A disk without room, before and while something is written."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from alignzoo.system.disk import explain_full_disk, require_space
from alignzoo.system.errors import UserError


def test_what_does_not_fit_is_refused_by_its_name(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "yet", 1, "the model")
    with pytest.raises(UserError, match=r"the model needs 1000000000\.0 GB in .* GB left"):
        require_space(tmp_path / "not" / "yet", 10**18, "the model")


def test_what_is_smaller_than_a_gigabyte_is_said_in_a_smaller_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=12_000))
    with pytest.raises(UserError, match=r"checkpoint 1 needs 3\.4 MB in .*, which has 12\.0 kB left"):
        require_space(tmp_path, 3_400_000, "checkpoint 1")


def test_a_folder_that_is_gone_is_not_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(KeyError), explain_full_disk(tmp_path / "gone", "this run was not saved"):
        raise KeyError("after")


def _later(cause: OSError) -> Exception:
    """Return an error that a library has made of another, whose reason it does not repeat."""
    error = ValueError("An error occurred while generating the dataset")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("io: No space left"),
        _later(OSError(errno.ENOSPC, "No space left on device")),
    ],
)
def test_a_full_disk_is_told_of_whatever_the_library_calls_it(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(UserError) as told, explain_full_disk(tmp_path, "this run was not saved"):
        raise error
    assert str(told.value).startswith(f"the disk of {tmp_path} is full: this run was not saved")
    assert str(told.value).count("\n") == 1


@pytest.mark.parametrize(
    "error", [OSError(errno.EACCES, "Permission denied"), UserError("method.beta=0"), SystemExit(1)]
)
def test_another_error_stays_what_it_is(error: BaseException, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as raised, explain_full_disk(tmp_path, "this run was not saved"):
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    "said",
    [
        "basic_ios::clear: iostream error",
        "[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file data/0: file write failed",
        "[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0",
    ],
)
def test_what_torch_cannot_write_is_told_of_though_it_names_no_reason(said: str, tmp_path: Path) -> None:
    """As where a quota is used up: the disk has room, and torch's error says nothing."""
    with pytest.raises(UserError) as told, explain_full_disk(tmp_path, "checkpoint 3 was not saved"):
        raise RuntimeError(said)
    assert str(told.value) == (
        f"the disk of {tmp_path} is full, or cannot be written: checkpoint 3 was not saved.\n"
        "Free some, and resume it with resume=auto."
    )


def test_what_torch_cannot_read_is_not_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="Reader"), explain_full_disk(tmp_path, "this run was not saved"):
        raise RuntimeError("PytorchStreamReader failed reading zip archive: failed finding central directory")
