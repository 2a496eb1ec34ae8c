"""The command line: a subcommand, or Hydra composes a config and one job runs it."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from alignzoo import folders, searchpath
from alignzoo.errors import UserError, complain

if TYPE_CHECKING:
    from collections.abc import Sequence


@hydra.main(version_base="1.3", config_path="pkg://alignzoo_conf", config_name="config")
def run(cfg: DictConfig) -> float | None:
    """Run one job; a sweeper optimizes what it returns."""
    from alignzoo.launch import launch

    return launch(cfg)


def main(argv: Sequence[str] | None = None) -> None:
    """Run what the command line asks for; a user's mistake ends in one or two lines and exit code 1."""
    words = list(sys.argv[1:] if argv is None else argv)
    from alignzoo.commands import COMMANDS, run_command

    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then hands its errors to us
    try:
        if words and words[0] in COMMANDS:
            sys.exit(run_command(words))
        searchpath.install()
        sys.argv = [sys.argv[0], *words]
        run()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would complain of what it still holds
        sys.exit(128 + signal.SIGPIPE)
    except UserError as error:
        sys.exit(complain(str(error)))
    except Exception as error:
        from alignzoo.explain import explained

        text = explained(error)
        if text is None:
            raise
        folders.take_back()
        sys.exit(complain(text))
