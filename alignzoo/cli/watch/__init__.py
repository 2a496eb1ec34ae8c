"""``python -m alignzoo watch``: a page that follows runs while they run, from their files alone."""

from __future__ import annotations

from pathlib import Path

import click

from alignzoo.cli.options import PATH, json_option, print_json
from alignzoo.system.errors import UserError, explain_missing

PORT = 8642  #: of the page, where it is free


@click.command
@click.argument("folder", metavar="FOLDER", type=PATH)
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0: any that is free.")
@json_option
def command(folder: Path, port: int, as_json: bool) -> int:
    """Serve a page on this machine alone that follows what runs in FOLDER, until Ctrl-C.

    FOLDER is that of a run, a sweep, a pipeline or a study, or holds several of them. Only files are read, so that it
    may be another machine's, and nothing is written. With --json: print what there is now, and end.
    """
    from alignzoo.cli.watch.reading import Watch

    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name that of a run, a sweep or a study.{explain_missing(folder)}")
    watch = Watch(folder)
    if as_json:
        print_json(watch.read())
        return 0
    from alignzoo.cli.watch.server import serve

    serve(watch, port)
    return 0
