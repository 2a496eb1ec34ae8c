"""Writes a job as a SkyPilot task, for ``sky jobs launch``."""

from __future__ import annotations

import shlex
from typing import Any

from alignzoo.cli.export.job import SHARED, Job
from alignzoo.system.errors import UserError
from alignzoo.system.signals import EXIT_CODE

CONFIG = "alignzoo-job"  #: the folder of the config, below the home of each machine
END = "END_OF_RUN_YAML"


def document(job: Job) -> dict[str, Any]:
    """Return the task.

    Raises:
        UserError: several machines would share a bucket, in which one sees another's checkpoint too late.
    """
    bucket = "://" in job.shared
    if bucket and job.nodes > 1:
        raise UserError(
            f"--shared {job.shared}: {job.nodes} machines read one checkpoint, and a bucket shows files late. "
            "Name a SkyPilot volume (sky volumes apply)."
        )
    task: dict[str, Any] = {
        "name": job.name,
        "num_nodes": job.nodes,
        "resources": _resources(job),
        "envs": {"PYTHONUNBUFFERED": "1"},
    }
    if job.secrets:
        task["secrets"] = dict.fromkeys(job.secrets)
    if bucket:
        task["file_mounts"] = {SHARED: {"source": job.shared, "mode": "MOUNT_CACHED"}}  # MOUNT cannot rename a folder
    else:
        task["volumes"] = {SHARED: job.shared}
    return {**task, "setup": f"pip install {shlex.join(job.requirements)}\n", "run": _run(job)}


def _resources(job: Job) -> dict[str, Any]:
    own = job.resources
    wanted = {"cpus": own.cpus, "memory": own.memory, "image_id": job.image and f"docker:{job.image}"}
    wanted["accelerators"] = f"{own.gpu}:{own.gpus}" if own.gpus else None
    found: dict[str, Any] = {name: value for name, value in wanted.items() if value}
    return {**found, "job_recovery": {"recover_on_exit_codes": [EXIT_CODE]}}


def _run(job: Job) -> str:
    """Return the script: it writes the config, and becomes the run."""
    write = f"mkdir -p ~/{CONFIG}\ncat > ~/{CONFIG}/run.yaml <<'{END}'\n{job.config}{END}\n"
    command = shlex.join(job.command("HOME")).replace("HOME", f'"$HOME/{CONFIG}"')
    return f"{write}exec {command}\n"
