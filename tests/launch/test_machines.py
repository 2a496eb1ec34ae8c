"""Two machines train one run, with an agent of the launcher on each."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import QUICK
from machines import ADDRESSES, two_machines

pytestmark = pytest.mark.slow

SETTING = (*QUICK, "train.per_device_batch_size=2", "train.max_steps=4", "hydra.run.dir=run")
RENDEZVOUS = ("strategy=multinode", "strategy.processes=1", f"strategy.rendezvous={ADDRESSES[0]}:29517")


@pytest.mark.long
def test_two_machines_train_one_run(alignzoo: Callable[..., object], tmp_path: Path) -> None:
    """They see no other network; the losses are those of one process."""
    with two_machines(tmp_path) as machines:
        started = [machine.start(*SETTING, *RENDEZVOUS) for machine in machines]
        outputs = [process.communicate(timeout=300)[0] for process in started]
        kept = [(machine.cache / "models" / "tiny-0" / "model.safetensors").read_bytes() for machine in machines]
    assert all("Traceback" not in out for out in outputs), outputs
    assert [out.count("run folder: ") for out in outputs] == [1, 0]
    alignzoo(*SETTING[:-1], "hydra.run.dir=single")
    losses = []
    for folder in ("run", "single"):
        lines = map(json.loads, (tmp_path / folder / "metrics.jsonl").read_text().splitlines())
        losses.append([line["loss"] for line in lines if "loss" in line])
    assert kept[0] == kept[1]  # transformers saves on rank 0 alone
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert (tmp_path / "run" / "logs" / "rank1.log").exists()


def test_an_address_of_another_machine_is_refused(alignzoo: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = alignzoo(*SETTING, *RENDEZVOUS, "strategy.address=203.0.113.9")
    assert done.returncode == 1
    assert done.stderr.startswith("alignzoo: strategy.address=203.0.113.9: this machine has ")


def test_a_folder_that_was_not_named_is_refused(
    alignzoo: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Each machine would make one of its own, with its own time in the name."""
    done = alignzoo(*SETTING[:-1], *RENDEZVOUS)
    assert done.returncode == 1
    assert done.stderr == "alignzoo: strategy.nodes=2: add hydra.run.dir=FOLDER, one that all machines see.\n"
    assert not list(tmp_path.iterdir())
