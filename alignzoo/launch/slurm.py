"""Reads from Slurm's variables the job that this process is in: its machines, rendezvous and restarts."""

from __future__ import annotations

import os
import re
import subprocess
from typing import Any

from alignzoo.system.errors import UserError


def is_in_step() -> bool:
    """Tell whether ``srun`` started this process; in a batch script without it, there is one process on one machine."""
    return "SLURM_STEP_NODELIST" in os.environ


def is_restarted() -> bool:
    """Tell whether Slurm has started this job before: it was preempted, requeued, or its machine failed."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") != "0"


def check_step(nodes: int) -> None:
    """Refuse a step of ``srun`` that does not start one task on each of ``nodes`` machines.

    Raises:
        UserError: it does not.
    """
    machines, tasks = (int(os.environ[f"SLURM_STEP_NUM_{what}"]) for what in ("NODES", "TASKS"))
    if machines != nodes:
        raise UserError(f"strategy.nodes={nodes}, and srun starts on {machines}: take srun --nodes={nodes}.")
    if tasks != machines:
        raise UserError(
            f"srun starts {tasks} tasks on {machines} machines: add --ntasks-per-node=1. "
            "The processes of a machine are strategy.processes."
        )


def make_rendezvous() -> dict[str, Any]:
    """Return the rendezvous of the step's machines, as torch's ``LaunchConfig`` takes it: on the first one."""
    job, again = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_RESTART_COUNT", "0")
    first = _run_scontrol("hostnames", os.environ["SLURM_STEP_NODELIST"]).split()[0]
    node = _run_scontrol("node", first)
    address = re.search(r"\bNodeAddr=(\S+)", node)  # a machine's name need not be known to the network
    return {
        "rdzv_endpoint": f"{address[1] if address else first}:{20_000 + int(job) % 20_000}",
        "run_id": f"slurm-{job}-{os.environ['SLURM_STEP_ID']}-{again}",
        "rdzv_configs": {"is_host": os.environ["SLURM_NODEID"] == "0"},
    }


def _run_scontrol(what: str, name: str) -> str:
    return subprocess.run(["scontrol", "show", what, name], capture_output=True, text=True, check=True).stdout
