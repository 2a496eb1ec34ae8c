"""``python -m alignzoo average``: writes the mean of several runs, or of several checkpoints of one, as a model."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from alignzoo.cli.options import FILE, refuse_existing, shard_option, writing_folder
from alignzoo.system.errors import UserError

TRUST = "--trust-remote-code"
MANIFEST = "average.json"  #: what was averaged


@click.command
@click.argument("models", nargs=-1, metavar="RUN_OR_CHECKPOINT...", required=True)
@click.option("--to", "target", type=FILE, required=True, metavar="FOLDER", help="A folder that is not there yet.")
@shard_option
@click.option(TRUST, "trusted", is_flag=True, help="Run the Python code that comes with a model: read it first.")
def command(models: Sequence[str], target: Path, shard_gb: float, trusted: bool) -> int:
    """Write the model whose weights are the means of those of several models, with a manifest of what was averaged.

    Each is a run folder, a checkpoint (RUN/checkpoints/checkpoint-100), a model's folder or a hub id; adapters are
    merged into their base models first. They must share architecture and tokenizer.
    """
    from alignzoo.models.average import write_average
    from alignzoo.models.pretrained import RemoteCode
    from alignzoo.models.whole import find_whole

    refuse_existing(target)
    if len(models) < 2 or len({*models}) < len(models):
        raise UserError("average needs two models or more, each named once.")
    folders = {name: find_whole(name, RemoteCode(trusted, TRUST)) for name in models}
    with writing_folder(target) as aside:
        write_average(folders, aside, int(shard_gb * 1e9))
        (aside / MANIFEST).write_text(json.dumps(_describe(folders), indent=2) + "\n", encoding="utf-8")
    print(f"{target} holds the mean of {len(models)} models; {MANIFEST} says which.")
    return 0


def _describe(folders: Mapping[str, Path]) -> dict[str, Any]:
    """Return what the manifest holds: each model with the hash of its weights, and of a run its command."""
    from alignzoo.models.average import hash_weights
    from alignzoo.runs.folder import Run

    models = []
    for name, folder in folders.items():
        path = Path(name).expanduser().resolve()
        run = next((above for above in (path, *path.parents) if (above / "command.txt").is_file()), None)
        made_by = {"run": str(run), "overrides": Run(run).overrides} if run else {}
        models.append({"name": name, "weights_sha256": hash_weights(folder), **made_by})
    return {"how": "mean", "alignzoo": importlib.metadata.version("alignzoo"), "models": models}
