"""Writes a job as a TrainJob of Kubeflow Trainer 2.2 or newer (trainer.kubeflow.org/v1alpha1) with its config."""

from __future__ import annotations

from typing import Any

from alignzoo.cli.export.job import SHARED, Job

CONFIG = "/etc/alignzoo"  #: where the config appears in a pod
NODE = "node"  #: the name that Kubeflow's runtimes give to the training job and to its container
SECRET = "alignzoo"  #: the cluster's Secret whose keys are the names of `Job.secrets`
STOPPING = 15  #: seconds for processes that are killed after the grace, and for the launcher


def documents(job: Job, runtime: str) -> list[dict[str, Any]]:
    """Return the ConfigMap and the TrainJob; ``runtime`` names the cluster's ClusterTrainingRuntime."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": job.name},
            "data": {"run.yaml": job.config},
        },
        {
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainJob",
            "metadata": {"name": job.name},
            "spec": {
                "runtimeRef": {"name": runtime},
                "trainer": _trainer(job),
                "runtimePatches": [_patch(job)],
            },
        },
    ]


def _trainer(job: Job) -> dict[str, Any]:
    secrets = [{"name": name, "valueFrom": {"secretKeyRef": {"name": SECRET, "key": name}}} for name in job.secrets]
    return {
        "image": job.image,
        "command": job.command(CONFIG),
        "numNodes": job.nodes,
        "numProcPerNode": job.processes,
        "resourcesPerNode": {"requests": _resources(job), "limits": _resources(job)},
        "env": [{"name": "PYTHONUNBUFFERED", "value": "1"}, *secrets],
    }


def _resources(job: Job) -> dict[str, str]:
    wanted = {"cpu": job.resources.cpus, "memory": job.resources.memory}
    wanted["nvidia.com/gpu"] = str(job.resources.gpus) if job.resources.gpus else None
    return {name: value for name, value in wanted.items() if value}


def _patch(job: Job) -> dict[str, Any]:
    """Return what the runtime's pods get: config, shared folder, shared memory for NCCL, and time to save."""
    volumes = [
        ({"name": "config", "configMap": {"name": job.name}}, CONFIG),
        ({"name": "shared", "persistentVolumeClaim": {"claimName": job.shared}}, SHARED),
        ({"name": "memory", "emptyDir": {"medium": "Memory"}}, "/dev/shm"),
    ]
    mounts = [{"name": volume["name"], "mountPath": path} for volume, path in volumes]
    pod = {
        "terminationGracePeriodSeconds": job.grace + STOPPING,
        "volumes": [volume for volume, _ in volumes],
        "containers": [{"name": NODE, "volumeMounts": mounts}],
    }
    jobs = [{"name": NODE, "template": {"spec": {"template": {"spec": pod}}}}]
    return {"manager": "alignzoo", "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": jobs}}}}
