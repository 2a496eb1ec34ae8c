"""``python -m alignzoo publish``: puts a run's model on the hub, with its card and its configuration."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alignzoo.cli.options import PATH, shard_option
from alignzoo.system.errors import UserError, explain_missing
from alignzoo.system.limits import format_bytes

if TYPE_CHECKING:
    from alignzoo.cli.publish.contents import Contents
    from alignzoo.cli.publish.repository import Repository

TRUST = "--trust-remote-code"
NOT_SENT = "the rows, the completions, the logs, the checkpoints, and what environment.json says of this machine"


@click.command
@click.argument("run", metavar="RUN", type=PATH)
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--public", is_flag=True, help="Let everybody see a repository that is made now. Else it is private.")
@click.option("--merge", is_flag=True, help="Merge an adapter into its base model, and publish the whole.")
@shard_option
@click.option("--yes", is_flag=True, help="Publish without a question.")
@click.option(TRUST, "trusted", is_flag=True, help="Run the Python code of a base model to merge: read it first.")
def command(run: Path, repository: str, public: bool, merge: bool, shard_gb: float, yes: bool, trusted: bool) -> int:
    """Publish the model of a finished RUN on the hub: weights, tokenizer, card and configuration.

    The card says which data and which command made it, and has the yardstick's numbers as the hub reads them. What
    would be sent is shown first, and asked for; secrets are masked.
    """
    from alignzoo.cli.publish.contents import collect
    from alignzoo.cli.publish.repository import Repository
    from alignzoo.models.pretrained import RemoteCode
    from alignzoo.runs.folder import Run

    if not run.is_dir():
        raise UserError(f"{run}: no such folder.{explain_missing(run)}")
    found = Run(run)
    place = Repository.ask(repository)
    _check_visibility(place, public)
    contents = collect(found, repository.partition("/")[2], merge, int(shard_gb * 1e9), RemoteCode(trusted, TRUST))
    _print_plan(run, place, contents, public)
    if not (yes or _is_agreed()):
        print("Nothing was sent.")
        return 1
    commit = place.commit(contents.files, f"{found.method}, trained with alignzoo", not public)
    print(f"Published: {place.url}, commit {commit}")
    return 0


def _check_visibility(place: Repository, public: bool) -> None:
    """Refuse a repository that is there, and seen by others than ``public`` says."""
    if place.head is not None and place.is_private == public:
        there, word = ("private", "leave --public out") if place.is_private else ("public", "add --public")
        raise UserError(f"{place.url} is there, and {there}: {word}, change it on the hub, or name another one.")


def _print_plan(run: Path, place: Repository, contents: Contents, public: bool) -> None:
    """Say what would be sent where, who would see it, and what would be replaced there."""
    seen = "PUBLIC: everybody can see it" if public else "private: only its owner can see it"
    print(f"{run} to {place.url} ({'new' if place.head is None else 'there already'}), as {place.user}")
    print(seen)
    for name in contents.files:
        replaced = ", replaced" if name in place.files else ""
        print(f"  {name} ({format_bytes(contents.measure(name))}{replaced})")
    for name in place.list_stale(contents.files):
        print(f"  {name} (removed there: it would be read beside the new model)")
    print(f"Not sent: {NOT_SENT}.")
    if contents.left_out:
        print(f"Not sent of the folder model: {', '.join(contents.left_out)}.")


def _is_agreed() -> bool:
    """Ask whether to publish.

    Raises:
        UserError: nobody is there to answer.
    """
    if not sys.stdin.isatty():
        raise UserError("nothing was sent, as nobody is there to be asked: add --yes.")
    try:
        return input("Publish? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
