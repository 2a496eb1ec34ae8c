"""Two machines train one run: two network namespaces that a cable joins, with an agent of the launcher in each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import QUICK

ADDRESSES = ("10.99.0.1", "10.99.0.2")
SETTING = (*QUICK, "train.per_device_batch_size=2", "train.max_steps=4", "hydra.run.dir=run")
MEETING = ("strategy=multinode", "strategy.processes=1", f"strategy.rendezvous={ADDRESSES[0]}:29517")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def machines() -> Iterator[list[str]]:
    """Return the names of two namespaces with an address each."""
    names = [f"az{os.getpid()}{letter}" for letter in "ab"]
    cables = [f"v{name[2:]}" for name in names]
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("needs root and iproute2, to make network namespaces")
    try:
        for name in names:
            ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
    try:
        ip("link", "add", cables[0], "type", "veth", "peer", "name", cables[1])
        for name, cable, address in zip(names, cables, ADDRESSES, strict=True):
            ip("link", "set", cable, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", cable)
            ip("-n", name, "link", "set", cable, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            ip("netns", "del", name)


@pytest.fixture
def start(machines: list[str], tmp_path: Path) -> Iterator[Callable[..., list[subprocess.Popen[str]]]]:
    """Start the same command on both machines, each with its own address."""
    started: list[subprocess.Popen[str]] = []

    def both(*words: str) -> list[subprocess.Popen[str]]:
        for name, address in zip(machines, ADDRESSES, strict=True):
            command = ["ip", "netns", "exec", name, sys.executable, "-m", "alignzoo", *words]
            command.append(f"strategy.address={address}")
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            started.append(subprocess.Popen(command, cwd=tmp_path, text=True, **pipes))  # type: ignore[call-overload]
        return started

    yield both
    for process in started:
        process.kill()
        process.wait(10)


def test_two_machines_train_one_run(
    start: Callable[..., list[subprocess.Popen[str]]], alignzoo: Callable[..., object], tmp_path: Path
) -> None:
    """They see no other network; the losses are those of one process."""
    outputs = [process.communicate(timeout=300)[0] for process in start(*SETTING, *MEETING)]
    assert all("Traceback" not in out for out in outputs), outputs
    assert [out.count("run folder: ") for out in outputs] == [1, 0]
    alignzoo(*SETTING[:-1], "hydra.run.dir=single")
    losses = []
    for folder in ("run", "single"):
        lines = map(json.loads, (tmp_path / folder / "metrics.jsonl").read_text().splitlines())
        losses.append([line["loss"] for line in lines if "loss" in line])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert (tmp_path / "run" / "logs" / "rank1.log").exists()


def test_an_address_of_another_machine_is_refused(alignzoo: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = alignzoo(*SETTING, *MEETING, "strategy.address=203.0.113.9")
    assert done.returncode == 1
    assert done.stderr.startswith("alignzoo: strategy.address=203.0.113.9: this machine has ")


def test_a_folder_that_was_not_named_is_refused(
    alignzoo: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Each machine would make one of its own, with its own time in the name."""
    done = alignzoo(*SETTING[:-1], *MEETING)
    assert done.returncode == 1
    assert done.stderr == "alignzoo: strategy.nodes=2: add hydra.run.dir=FOLDER, one that all machines see.\n"
    assert not list(tmp_path.iterdir())
