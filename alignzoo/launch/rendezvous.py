"""Reads the rendezvous of several machines from the variables that Kubeflow and SkyPilot set."""

from __future__ import annotations

import os
from typing import Any

PORT = 29_400  #: torch's default for a rendezvous


def is_in_environment() -> bool:
    """Tell whether a TrainJob of Kubeflow or SkyPilot has started this process on one of several machines."""
    return "PET_MASTER_ADDR" in os.environ or "SKYPILOT_NODE_IPS" in os.environ


def read_rendezvous() -> dict[str, Any]:
    """Return torch's ``rdzv_endpoint`` and ``run_id``, and whether this machine hosts the rendezvous.

    Torch would compare host names for the latter, and a pod's own name is not the one that the others use.
    """
    if "PET_MASTER_ADDR" in os.environ:
        place = f"{os.environ['PET_MASTER_ADDR']}:{os.environ.get('PET_MASTER_PORT', PORT)}"
        number = os.environ["PET_NODE_RANK"]
    else:
        place = f"{os.environ['SKYPILOT_NODE_IPS'].split()[0]}:{PORT}"
        number = os.environ["SKYPILOT_NODE_RANK"]
    return {"rdzv_endpoint": place, "run_id": "alignzoo", "rdzv_configs": {"is_host": number == "0"}}
