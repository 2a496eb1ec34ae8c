"""``python -m alignzoo merge``: writes a run's adapter and its base model as one whole model."""

from __future__ import annotations

from pathlib import Path

import click

from alignzoo.cli.options import FILE, refuse_existing, shard_option, writing_folder

TRUST = "--trust-remote-code"


@click.command
@click.argument("model", metavar="RUN_OR_ADAPTER")
@click.option("--to", "target", type=FILE, required=True, metavar="FOLDER", help="A folder that is not there yet.")
@shard_option
@click.option(TRUST, "trusted", is_flag=True, help="Run the Python code that comes with a model: read it first.")
def command(model: str, target: Path, shard_gb: float, trusted: bool) -> int:
    """Write the adapter of a run, merged into its base model, as a whole model.

    A whole model is written anew, in files of another size.
    """
    from alignzoo.models.pretrained import RemoteCode
    from alignzoo.models.whole import find_whole, write_whole

    refuse_existing(target)
    folder = find_whole(model, RemoteCode(trusted, TRUST))
    with writing_folder(target) as aside:
        write_whole(folder, aside, int(shard_gb * 1e9))
    print(f"{target} holds the whole model.")
    return 0
