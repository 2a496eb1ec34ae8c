"""Makes a run into a job that a cluster starts: its config, its processes, and what they need."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alignzoo.config import check
from alignzoo.config.secrets import list_variables
from alignzoo.config.trust import find_trusted
from alignzoo.plugin.loading import OWN
from alignzoo.plugin.registry import registry
from alignzoo.runs.record import runnable
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

SHARED = "/mnt/alignzoo"  #: where the folder that all machines share appears in the job
LONGEST = 40  #: letters of a name, to which Kubernetes adds its own up to 63


@dataclass(frozen=True)
class Resources:
    """What each machine of a job has."""

    gpus: int = 0

    gpu: str | None = None
    """Which, as SkyPilot names them: H100."""

    cpus: str | None = None

    memory: str | None = None
    """In the scheduler's own unit."""


@dataclass(frozen=True)
class Job:
    """One run, ready to be written for a scheduler."""

    name: str
    """Letters, digits and dashes: Kubernetes takes no others."""

    config: str
    """The composed config as ``--config-dir FOLDER --config-name run`` reads it, with ``resume=auto``."""

    nodes: int
    processes: int
    """On each node."""

    grace: int
    """Seconds to save in, between the scheduler's SIGTERM and the kill."""

    resources: Resources
    image: str | None
    shared: str
    """What is mounted on :data:`SHARED`: a volume, or a bucket."""

    secrets: tuple[str, ...]
    """Names of environment variables that the scheduler keeps, such as HF_TOKEN."""

    trusted: Mapping[str, str]
    """Keys by which the code of a model may run: a configuration that was handed over cannot say so by itself."""

    requirements: tuple[str, ...]
    """What pip installs for it: alignzoo, the strategy's extra, the package of the method."""

    def command(self, folder: str) -> list[str]:
        """Return each machine's command, where the config is ``folder``/run.yaml: the same for start and restart."""
        run = f"hydra.run.dir={SHARED}/{self.name}"
        trusted = (f"{key}={value}" for key, value in self.trusted.items())
        return ["python", "-m", "alignzoo", "--config-dir", folder, "--config-name", "run", run, *trusted]


def make_job(cfg: DictConfig, resources: Resources, name: str | None, **more: Any) -> Job:
    """Return the job of the run ``cfg``; ``more`` are fields of :class:`Job` that the config does not decide.

    Raises:
        UserError: the config is refused as a run would refuse it, or the resources do not fit the strategy.
    """
    if "pipeline" in cfg:
        raise UserError("export takes one run: leave +pipeline out, and export its stages one after the other.")
    cfg.strategy.processes = processes(cfg, resources.gpus)
    cfg.resume = "auto"
    check.check(cfg)
    for variable in list_variables(cfg):
        if variable not in more["secrets"]:
            raise UserError(f"the configuration reads {variable} from the environment: add --secret {variable}.")
    return Job(
        name=name or _name(cfg),
        config=runnable(cfg),
        nodes=cfg.strategy.nodes,
        processes=cfg.strategy.processes,
        grace=cfg.strategy.grace,
        resources=resources,
        trusted=find_trusted(cfg),
        requirements=tuple(_requirements(cfg)),
        **more,
    )


def processes(cfg: DictConfig, gpus: int) -> int:
    """Return the processes of a machine with so many GPUs.

    Raises:
        UserError: the strategy needs GPUs, or more of them.
    """
    wanted = cfg.strategy.processes
    if wanted == "gpus" and not gpus:
        raise UserError(
            f"strategy={cfg.strategy.name} starts one process for each GPU: add --gpus N, those of one machine, or "
            "strategy.processes=N to run it on the CPU."
        )
    if isinstance(wanted, str):
        return gpus or 1
    if gpus and wanted > gpus:
        raise UserError(f"strategy.processes={wanted} needs as many GPUs on each machine, and --gpus says {gpus}.")
    return int(wanted)


def _name(cfg: DictConfig) -> str:
    text = f"{cfg.method.name}-{cfg.model.name}-{cfg.dataset.name}".lower()
    return re.sub(r"[^a-z0-9]+", "-", text)[:LONGEST].strip("-")


def _requirements(cfg: DictConfig) -> list[str]:
    """Return alignzoo as it is installed here, and the method's own package."""
    extra = f"[{cfg.strategy.requires}]" if cfg.strategy.requires else ""
    plugin = registry().methods[cfg.method.name][1]
    own = [] if plugin.distribution == OWN else [f"{plugin.distribution}=={plugin.version}"]
    return [f"{OWN}{extra}=={importlib.metadata.version(OWN)}", *own]
