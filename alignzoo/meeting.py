"""Where the processes of several machines meet: the user says it, or whoever started the machines does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from alignzoo import slurm

if TYPE_CHECKING:
    from omegaconf import DictConfig

PORT = 29_400  #: torch's own for such meetings
NAME = "alignzoo"  #: of the meeting; one start of a run, one place


def named() -> bool:
    """Tell whether Slurm, Kubeflow's TrainJob or SkyPilot has named the machines of this run."""
    return any(variable in os.environ for variable in _NAMED)


def point(cfg: DictConfig) -> dict[str, Any]:
    """Return torch's ``rdzv_endpoint`` and ``run_id``, and whether this machine is the one where they meet.

    One machine meets on a port of its own.
    """
    if cfg.strategy.nodes == 1:
        return {"rdzv_endpoint": "localhost:0", "run_id": f"{NAME}-{os.getpid()}-{os.urandom(4).hex()}"}
    if not cfg.strategy.rendezvous:
        return next(read for variable, read in _NAMED.items() if variable in os.environ)()
    host = cfg.strategy.rendezvous.partition(":")[0]
    known = {"is_host": host == cfg.strategy.address} if cfg.strategy.address else {}
    return {"rdzv_endpoint": cfg.strategy.rendezvous, "run_id": NAME, "rdzv_configs": known}


def _kubeflow() -> dict[str, Any]:
    """Its TrainJob gives each pod torchrun's variables; the name of the first pod is not what that calls itself."""
    return {
        "rdzv_endpoint": f"{os.environ['PET_MASTER_ADDR']}:{os.environ.get('PET_MASTER_PORT', PORT)}",
        "run_id": NAME,
        "rdzv_configs": {"is_host": os.environ["PET_NODE_RANK"] == "0"},
    }


def _skypilot() -> dict[str, Any]:
    first = os.environ["SKYPILOT_NODE_IPS"].split()[0]
    return {
        "rdzv_endpoint": f"{first}:{PORT}",
        "run_id": NAME,
        "rdzv_configs": {"is_host": os.environ["SKYPILOT_NODE_RANK"] == "0"},
    }


#: Who names the machines: by a variable that is always there, and how it is read.
_NAMED = {"SLURM_STEP_NODELIST": slurm.meeting, "PET_MASTER_ADDR": _kubeflow, "SKYPILOT_NODE_IPS": _skypilot}
