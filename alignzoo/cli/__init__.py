"""Runs a subcommand, each a module or package here, or one training whose configuration Hydra composes."""

from __future__ import annotations

import importlib
import os
import re
import sys
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from alignzoo.config.compose import prepare_hydra
from alignzoo.system.errors import UserError, print_error
from alignzoo.system.folders import run_folders
from alignzoo.system.limits import explain_limit
from alignzoo.system.output import GuardedOutput, OutputLost

if TYPE_CHECKING:
    from collections.abc import Sequence

    import click

#: What each subcommand shows or does; ``command`` of its module, which returns the exit code, is imported when it runs.
COMMANDS = {
    "list": "list methods by family, the options of a group, or what a file can train",
    "describe": "say what an option is, and what its keys mean",
    "doctor": "check whether this machine and its packages can run alignzoo",
    "check": "show what is in the data, before any training",
    "plan": "compute memory and time of a run on any devices, before any training",
    "export": "print a run as a job for Kubernetes or SkyPilot",
    "evaluate": "measure a run, a checkpoint or any model as every run is measured",
    "compare": "show the held-out completions of several runs side by side",
    "report": "compare the runs of a sweep, or several runs, in a leaderboard",
    "sweep": "show how far a sweep is, or finish it",
    "watch": "serve a page that follows a run, a sweep, a pipeline or a study while it runs",
    "study": "compare methods by a protocol: tune, pick on validation, fresh seeds, test once",
    "manifest": "show whether two runs used the same rows and tokens",
    "chat": "talk to a trained model, and to its start model",
    "merge": "write an adapter and its base model as one whole model",
    "average": "write the mean of several runs or checkpoints as a model",
    "serve": "serve a trained model with OpenAI's protocol, by vLLM or transformers",
    "publish": "put a trained model on the hub, with its card",
    "verify-losses": "compare the trainers' losses with the papers' equations",
    "cache": "list or clear what alignzoo keeps on disk",
    "new-plugin": "make a package for a method of your own, ready to install and test",
    "benchmark": "measure alignzoo beside a plain TRL script, in one run",
}


@hydra.main(version_base="1.3", config_path="pkg://alignzoo_conf", config_name="config")
def run(cfg: DictConfig) -> float | None:
    """Run one job; a sweeper optimizes what it returns."""
    from alignzoo.launch.launch import launch

    return launch(cfg)


def main(argv: Sequence[str] | None = None) -> None:
    """Run what the command line asks for; a user's mistake ends in one or two lines and exit code 1."""
    words = [*(sys.argv[1:] if argv is None else argv)]  # `list` is a module here, once its command has run
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then hands its errors to us
    with GuardedOutput():
        _answer(words)


def _answer(words: list[str]) -> None:
    try:
        if words and words[0] in COMMANDS:
            sys.exit(run_command(words))
        if words and re.fullmatch(r"\w[\w.-]*", words[0]):
            from alignzoo.config.errors import explain_word

            raise UserError(explain_word(words[0], COMMANDS))
        if any(word.startswith("--experimental-rerun") for word in words):
            raise UserError("--experimental-rerun reads a pickle, which can hold any program: use --config-dir RUN.")
        if any(word.startswith("method=") and "@" in word for word in words):
            from alignzoo.cli.families import expand_families

            words = expand_families(words)
        prepare_hydra()
        sys.argv = [sys.argv[0], *words]
        run()
    except KeyboardInterrupt:
        sys.exit(130)
    except UserError as error:
        sys.exit(print_error(str(error)))
    except OutputLost:
        raise
    except Exception as error:
        text = explain_limit(error, run_folders().last) or _explain(error)
        if text is None:
            raise
        run_folders().remove_empty()
        sys.exit(print_error(text))


def _explain(error: Exception) -> str | None:
    from alignzoo.config.errors import explain

    return explain(error)


def run_command(words: Sequence[str]) -> int:
    """Run the subcommand ``words[0]`` with the other words, and return its exit code: 2 where they do not fit it."""
    import click

    command, name = find_command(words[0]), f"alignzoo {words[0]}"
    try:
        with command.make_context(name, [*words[1:]]) as context:
            return int(command.invoke(context))
    except click.exceptions.Exit as end:  # --help was printed
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code


def find_command(name: str) -> click.Command:
    """Return the subcommand called ``name``, one of :data:`COMMANDS`."""
    module = "alignzoo.benchmark.command" if name == "benchmark" else f"alignzoo.cli.{name.replace('-', '_')}"
    command: click.Command = importlib.import_module(module).command
    return command
