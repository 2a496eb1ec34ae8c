"""The machine's limits, read from files and calls that are replaced by others."""

from __future__ import annotations

import platform
import resource
import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from alignzoo.cli.doctor import device, machine
from alignzoo.cli.doctor.check import Check, Verdict
from alignzoo.cli.doctor.device import check_device, check_driver

Usage = namedtuple("Usage", "total used free")


def named(name: str) -> Check:
    (check,) = [check for check in machine.check_machine() if check.name == name]
    return check


def test_this_machine_has_what_is_looked_at() -> None:
    names = {check.name for check in machine.check_machine()}
    assert {"python", "memory", "cache", "runs"} <= names


def test_memory_is_the_systems_or_the_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total, free = machine.read_memory(tmp_path)
    assert 2**28 < free < total < 2**46
    system = SimpleNamespace(total=8_000 * 1024, available=6_000 * 1024)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: system)
    assert machine.read_memory(tmp_path) == (8_000 * 1024, 6_000 * 1024)
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert machine.read_memory(tmp_path) == (8_000 * 1024, 6_000 * 1024)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("1000000\n")
    (tmp_path / "sys/fs/cgroup/memory.current").write_text("400000\n")
    assert machine.read_memory(tmp_path) == (1_000_000, 600_000)


def test_little_memory_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "read_memory", lambda: (64 * 2**30, 2**30))
    assert named("memory").verdict is Verdict.WARNING
    monkeypatch.setattr(machine, "read_memory", lambda: (64 * 2**30, 32 * 2**30))
    assert (named("memory").verdict, named("memory").found) == (Verdict.OK, "64.0 GiB, 32.0 GiB free")


def test_a_full_disk_and_little_shared_memory_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**26, 0, 2**20))
    assert named("cache").verdict is named("runs").verdict is Verdict.WARNING
    assert "ALIGNZOO_CACHE" in named("cache").fix
    if Path("/dev/shm").is_dir():
        assert (named("shared memory").found, named("shared memory").verdict) == ("64 MiB in /dev/shm", Verdict.WARNING)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 0, 2**40))
    assert named("cache").verdict is Verdict.OK


def test_a_cache_that_cannot_be_made_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path / "file"))
    assert named("cache").verdict is Verdict.BROKEN
    assert named("cache").fix == "set ALIGNZOO_CACHE to a writable folder"


def test_a_check_makes_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path / "not" / "yet"))
    assert named("cache").found.startswith(str(tmp_path / "not" / "yet"))
    assert list(tmp_path.iterdir()) == []


def test_few_open_files_and_an_old_kernel_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, 4096))
    assert (named("open files").verdict, named("open files").fix) == (Verdict.WARNING, "ulimit -n 65536")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "release", lambda: "5.4.0-150-generic")
    assert named("kernel").verdict is Verdict.WARNING
    monkeypatch.setattr(platform, "release", lambda: "6.8.0-85-generic")
    assert named("kernel").verdict is Verdict.OK


@pytest.mark.parametrize(
    ("build", "driver", "available", "verdict"),
    [
        ("13.0", "580.82.07", True, Verdict.OK),
        ("12.8", "570.1", True, Verdict.OK),
        ("13.0", "570.1", False, Verdict.BROKEN),
        ("12.8", "470.256", False, Verdict.BROKEN),
        ("12.8", "570.1", False, Verdict.BROKEN),
        (None, "570.1", False, Verdict.BROKEN),
    ],
)
def test_the_driver_fits_torchs_build_or_not(build: str | None, driver: str, available: bool, verdict: Verdict) -> None:
    (check,) = check_driver(build, driver, available)
    assert check.verdict is verdict
    assert bool(check.fix) is (verdict is not Verdict.OK)


def test_without_a_driver_nothing_is_said_of_it() -> None:
    assert list(check_driver("12.8", None, False)) == []


def test_a_torch_that_cannot_be_imported_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    (check,) = check_device()
    assert (check.name, check.verdict) == ("torch", Verdict.BROKEN)


def faked_torch(capability: tuple[int, int], free: int) -> SimpleNamespace:
    """A torch that sees one GPU of 80 GiB."""
    gpu = SimpleNamespace(name="NVIDIA Some", total_memory=80 * 2**30)
    cuda = SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: 1,
        get_device_properties=lambda index: gpu,
        mem_get_info=lambda index: (free, gpu.total_memory),
        get_device_capability=lambda: capability,
    )
    mps = SimpleNamespace(is_available=lambda: False)
    return SimpleNamespace(cuda=cuda, backends=SimpleNamespace(mps=mps))


def test_a_gpu_in_use_and_one_without_bf16_are_warned_of() -> None:
    gpu, uses = device._chosen(faked_torch((9, 0), 79 * 2**30))
    assert (gpu.found, gpu.verdict) == ("NVIDIA Some, 80 GiB, 79 GiB free", Verdict.OK)
    assert (uses.found, uses.verdict) == ("cuda, in bf16", Verdict.OK)
    gpu, uses = device._chosen(faked_torch((7, 5), 2**30))
    assert gpu.verdict is uses.verdict is Verdict.WARNING
    assert uses.found == "cuda, in fp32"


def test_the_device_is_the_one_that_a_run_would_choose() -> None:
    from alignzoo.system.device import choose_device, choose_precision

    chosen = choose_device("auto")
    (check,) = [check for check in check_device() if check.name == "a run uses"]
    assert check.found.startswith(f"{chosen}, in {choose_precision('auto', chosen)}")
