"""``python -m alignzoo export kubernetes|skypilot method=... strategy=...``: a run as a cluster's job."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from alignzoo.cli.export import kubernetes, skypilot
from alignzoo.cli.export.job import LONGEST, Job, Resources, make_job
from alignzoo.config.compose import compose
from alignzoo.system.errors import UserError


def main(words: Sequence[str]) -> int:
    """Print the job as YAML; what it needs that this machine alone has is said on stderr."""
    options = _parser().parse_args(words)
    cfg = compose(options.overrides)
    job = make_job(
        cfg,
        _resources(options),
        _checked_name(options.name),
        image=options.image,
        shared=options.shared,
        secrets=tuple(options.secret),
    )
    _say_what_is_only_here(cfg, job)
    found = kubernetes.documents(job, options.runtime) if options.platform == "kubernetes" else [skypilot.document(job)]
    yaml.dump_all(found, sys.stdout, Dumper=_Dumper, sort_keys=False, width=1_000, allow_unicode=True)
    return 0


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as such, so that the config inside a job stays readable."""


def _text(dumper: Any, text: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="alignzoo export", description="A run as a job for a cluster's scheduler.")
    platforms = parser.add_subparsers(dest="platform", required=True, metavar="kubernetes|skypilot")
    ours = platforms.add_parser("kubernetes", help="a TrainJob of Kubeflow Trainer, for kubectl apply -f -")
    ours.add_argument("--image", required=True, help="a container image in which alignzoo is installed")
    ours.add_argument("--gpus", type=int, default=0, metavar="N", help="GPUs of each machine")
    ours.add_argument("--runtime", default="torch-distributed", help="ClusterTrainingRuntime (default: %(default)s)")
    ours.add_argument("--shared", required=True, metavar="CLAIM", help="the PersistentVolumeClaim for run folders")
    sky = platforms.add_parser("skypilot", help="a SkyPilot task, for sky jobs launch")
    sky.add_argument("--image", help="a container image (default: SkyPilot's, with pip install)")
    sky.add_argument("--gpus", metavar="NAME:N", help="GPUs of each machine, such as H100:8")
    sky.add_argument("--shared", required=True, metavar="VOLUME|URL", help="a volume, or a bucket such as s3://runs")
    for platform in (ours, sky):
        platform.add_argument("overrides", nargs="*", help="as for a run: method=... model=... strategy=...")
        platform.add_argument("--cpus", help="of each machine")
        platform.add_argument("--memory", help="of each machine: 64Gi (kubernetes), 64+ (skypilot, in GiB)")
        platform.add_argument("--name", help="of the job and of its run folder (default: method, model, dataset)")
        platform.add_argument(
            "--secret", action="append", default=[], metavar="NAME", help="an environment variable such as HF_TOKEN"
        )
    return parser


def _resources(options: argparse.Namespace) -> Resources:
    gpu, count = None, options.gpus or 0
    if isinstance(options.gpus, str):
        gpu, _, number = options.gpus.partition(":")
        if not gpu or not number.isdecimal():
            raise UserError(f"--gpus {options.gpus}: write NAME:N, such as H100:8 (sky gpus list shows the names).")
        count = int(number)
    if count < 0:
        raise UserError(f"--gpus {options.gpus} must be at least 0.")
    return Resources(count, gpu, options.cpus, options.memory)


def _checked_name(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(rf"[a-z]([a-z0-9-]{{0,{LONGEST - 2}}}[a-z0-9])?", name):
        raise UserError(f"--name {name}: take up to {LONGEST} small letters, digits and dashes, a letter first.")
    return name


def _say_what_is_only_here(cfg: Any, job: Job) -> None:
    """Name the files of this machine that the config reads: the job's machines do not have them."""
    paths = [cfg.model.path, cfg.dataset.path, cfg.dataset.heldout.path, cfg.evaluate.against]
    for path in (path for path in paths if isinstance(path, str) and Path(path).expanduser().exists()):
        print(f"export: {path} is a path of this machine: the job needs it at the same place.", file=sys.stderr)
    print(f"export: the job needs {', '.join(job.requirements)}.", file=sys.stderr)
