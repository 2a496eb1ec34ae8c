"""``python -m alignzoo export``: prints a run as a job of a cluster's scheduler."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from alignzoo.cli.export import kubernetes, skypilot
from alignzoo.cli.export.job import LONGEST, Job, Resources, make_job
from alignzoo.cli.options import WORD, overrides_argument
from alignzoo.config.compose import compose
from alignzoo.system.errors import UserError


@click.group
def command() -> None:
    """Print a run as a job for a cluster's scheduler."""


def _options_of_both(function: Callable[..., int]) -> Callable[..., int]:
    """Declare the options that both platforms take."""
    for declare in (
        click.option("--secret", multiple=True, metavar="NAME", help="An environment variable such as HF_TOKEN."),
        click.option("--name", type=WORD, help="Of the job and of its run folder (default: method, model, dataset)."),
        click.option("--memory", type=WORD, help="Of each machine: 64Gi (kubernetes), 64+ (skypilot, in GiB)."),
        click.option("--cpus", type=WORD, help="Of each machine."),
        overrides_argument,
    ):
        function = declare(function)
    return function


@command.command("kubernetes")
@click.option("--image", type=WORD, required=True, help="A container image in which alignzoo is installed.")
@click.option("--gpus", type=int, default=0, metavar="N", help="GPUs of each machine.")
@click.option("--runtime", type=WORD, default="torch-distributed", show_default=True, help="ClusterTrainingRuntime.")
@click.option("--shared", type=WORD, required=True, metavar="CLAIM", help="The PersistentVolumeClaim for run folders.")
@_options_of_both
def to_kubernetes(
    overrides: Sequence[str], runtime: str, gpus: int, cpus: str | None, memory: str | None, **job: Any
) -> int:
    """Print a TrainJob of Kubeflow Trainer, for kubectl apply -f -.

    KEY=VALUE as for a run: method=... model=... strategy=...
    """
    if gpus < 0:
        raise UserError(f"--gpus {gpus} must be at least 0.")
    made = _job(overrides, Resources(gpus, None, cpus, memory), **job)
    return _print(kubernetes.documents(made, runtime))


@command.command("skypilot")
@click.option("--image", type=WORD, help="A container image (default: SkyPilot's, with pip install).")
@click.option("--gpus", type=WORD, metavar="NAME:N", help="GPUs of each machine, such as H100:8.")
@click.option(
    "--shared", type=WORD, required=True, metavar="VOLUME|URL", help="A volume, or a bucket such as s3://runs."
)
@_options_of_both
def to_skypilot(overrides: Sequence[str], gpus: str | None, cpus: str | None, memory: str | None, **job: Any) -> int:
    """Print a SkyPilot task, for sky jobs launch.

    KEY=VALUE as for a run: method=... model=... strategy=...
    """
    kind, _, number = (gpus or "").partition(":")
    if gpus and not (kind and number.isdecimal()):
        raise UserError(f"--gpus {gpus}: write NAME:N, such as H100:8 (sky gpus list shows the names).")
    made = _job(overrides, Resources(int(number or 0), kind or None, cpus, memory), **job)
    return _print([skypilot.document(made)])


def _job(overrides: Sequence[str], resources: Resources, name: str | None, secret: Sequence[str], **more: Any) -> Job:
    """Return the job; what it needs of this machine is said on stderr."""
    cfg = compose(overrides)
    job = make_job(cfg, resources, _checked_name(name), secrets=tuple(secret), **more)
    _say_what_is_only_here(cfg, job)
    return job


def _print(documents: Sequence[dict[str, Any]]) -> int:
    yaml.dump_all(documents, sys.stdout, Dumper=_Dumper, sort_keys=False, width=1_000, allow_unicode=True)
    return 0


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as such, so that the config inside a job stays readable."""


def _text(dumper: Any, text: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _checked_name(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(rf"[a-z]([a-z0-9-]{{0,{LONGEST - 2}}}[a-z0-9])?", name):
        raise UserError(f"--name {name}: take up to {LONGEST} small letters, digits and dashes, a letter first.")
    return name


def _say_what_is_only_here(cfg: Any, job: Job) -> None:
    """Name the files of this machine that the config reads: the job's machines do not have them."""
    data = cfg.dataset
    paths = [cfg.model.path, data.path, data.heldout.path, data.validation.path, cfg.evaluate.against]
    for path in (path for path in paths if isinstance(path, str) and Path(path).expanduser().exists()):
        print(f"export: {path} is a path of this machine: the job needs it at the same place.", file=sys.stderr)
    print(f"export: the job needs {', '.join(job.requirements)}.", file=sys.stderr)
