"""A machine at its limits: the error of whichever library becomes a line or two, and no other error does."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import QUICK
from inprocess import call, run
from omegaconf import OmegaConf

from alignzoo.system.limits import explain_limit, format_bytes

WORDS = (*QUICK, "method=dpo", "train.max_steps=3", "train.save_strategy=steps", "train.save_steps=1")

ALLOCATING = """
from transformers import TrainerCallback
from alignzoo import hookimpl


class Allocate(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        import torch
        torch.empty(10**15 if state.global_step == 2 else 1)


@hookimpl
def alignzoo_callbacks(cfg):
    return [Allocate()]
"""


@contextlib.contextmanager
def limit_files(size: int) -> Iterator[None]:
    """Refuse larger files, as ``ulimit -f`` does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def raised(action: Callable[[], object]) -> BaseException:
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def allocate_in_torch() -> object:
    import torch

    return torch.empty(10**15)


def lead_to_another() -> None:
    try:
        np.ones(10**15)
    except MemoryError as error:
        raise ValueError("the model cannot be loaded") from error


@pytest.mark.parametrize("action", [lambda: np.ones(10**15), allocate_in_torch, lead_to_another])
def test_no_memory_is_said_whatever_the_library_calls_it(action: Callable[[], object]) -> None:
    text = explain_limit(raised(action))
    assert text is not None
    assert text.startswith("out of memory (")
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "out of memory.\nTake less at once"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory (CUDA out of memory. Tried"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "out of memory (libtorch_cpu.so"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory"),
        (OSError(errno.EFBIG, "File too large"), "a file would be larger than this shell allows (ulimit -f)"),
        (ValueError("I/O error: File too large (os error 27)"), "a file would be larger than this shell allows"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/a/b"),
            "the disk of /a/b is full (No space left on device): ",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full (Disk quota exceeded): free some, and start"),
        (RuntimeError("can't start new thread"), "the machine allows no more threads"),
        (raised(lambda: "a-\udcff".encode()), "a path holds bytes that are not utf-8: set LC_ALL=C.UTF-8"),
    ],
)
def test_each_limit_is_named_with_what_to_do(error: Exception, said: str) -> None:
    assert str(explain_limit(error)).startswith(said)
    assert str(explain_limit(error)).count("\n") <= 1


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("No space left on device")]
)
def test_a_full_disk_is_that_of_the_folder_in_which_was_written(error: Exception, tmp_path: Path) -> None:
    """A failed write names no file."""
    told = f"the disk of {tmp_path} is full (No space left on device): free some, and start it again."
    assert explain_limit(error, tmp_path) == told


def test_hydras_own_files_on_a_full_disk_end_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its account of a sweep, which it writes before alignzoo does anything."""

    def refuse(*words: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(OmegaConf, "save", refuse)
    done = run(tmp_path / "sweep", "-m", *WORDS)
    assert done.code == 1
    assert done.err.splitlines()[-1] == (
        f"alignzoo: the disk of {tmp_path / 'sweep'} is full (No space left on device): free some, and start it again."
    )


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("out of memory, say"),
        OSError(errno.EACCES, "Permission denied"),
        KeyError("after"),
        ImportError("No module named 'nothing'"),
        raised(lambda: "β".encode("ascii")),
    ],
)
def test_another_error_is_not_explained(error: Exception) -> None:
    assert explain_limit(error) is None


def test_a_run_without_memory_ends_in_two_lines(tmp_path: Path, fake_package: Callable[..., None]) -> None:
    fake_package("fake_allocating", ALLOCATING)
    done = run(tmp_path / "run", *WORDS)
    assert (done.code, "Traceback" in done.err) == (1, False)
    *_, first, second = done.err.splitlines()
    assert first.startswith("alignzoo: out of memory (")
    assert second.startswith("Take less at once: `alignzoo plan`")
    assert (tmp_path / "run" / "error.txt").read_text().startswith("out of memory (")


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Leave nothing to be written into the cache."""
    assert run(tmp_path_factory.mktemp("cached") / "run", *WORDS).code == 0


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize(
    ("size", "said"),
    [
        (50, "run cannot hold a file of that size (ulimit -f: 50 B): this run was not saved"),
        (100_000, "checkpoints cannot hold a file of that size (ulimit -f: 100.0 kB): checkpoint 1 was not saved"),
    ],
)
def test_a_run_whose_files_grow_too_large_ends_in_two_lines(tmp_path: Path, size: int, said: str) -> None:
    with limit_files(size):
        done = run(tmp_path / "run", *WORDS)
    assert (done.code, "Traceback" in done.err) == (1, False)
    assert said in done.err
    assert done.err.endswith("Raise it, and resume it with resume=auto.\n")
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.usefixtures("cached")
def test_a_command_whose_file_grows_too_large_ends_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with limit_files(1_000):
        done = call("check", "model=tiny", "dataset.rows=8")
    assert done.code == 1
    assert done.err == "alignzoo: a file would be larger than this shell allows (ulimit -f: 1.0 kB): raise it.\n"
    assert os.listdir(tmp_path) in ([], ["alignzoo-check.html"])


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (5_400_000, "5.4 MB"), (10**18, "1000000000.0 GB")],
)
def test_bytes_are_written_in_a_unit_that_fits(size: int, text: str) -> None:
    assert format_bytes(size) == text
