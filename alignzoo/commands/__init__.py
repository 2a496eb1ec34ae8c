"""The subcommands: ``python -m alignzoo NAME ...``. Each is a module here with ``main(words) -> exit code``."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

COMMANDS = {
    "list": "what is installed, from which distribution, and what failed",
    "describe": "what an option is, and what its keys mean",
    "doctor": "whether this machine and its packages can run alignzoo",
    "check": "what is in the data, before any training",
    "plan": "memory and time of a run on any devices, before any training",
    "export": "a run as a job for Kubernetes or SkyPilot",
    "evaluate": "the yardstick for a run, a checkpoint or any model",
    "compare": "the held-out answers of several runs, side by side",
    "report": "the leaderboard of a sweep or of several runs",
    "sweep": "how far a sweep is, and finishing what is missing of it",
    "manifest": "whether two runs used the same rows and tokens",
    "chat": "talk to a result, and to what it was before",
    "verify-losses": "whether TRL's losses are those of the papers",
    "cache": "what alignzoo keeps on disk, and how to clear it",
    "new-plugin": "a package for a method of your own, ready to install and test",
    "benchmark": "alignzoo against a plain TRL script, in one run",
}


def run_command(words: Sequence[str]) -> int:
    """Run the subcommand ``words[0]`` with the other words, and return its exit code."""
    module = importlib.import_module(f"alignzoo.commands.{words[0].replace('-', '_')}")
    code: int = module.main([*words[1:]])
    return code
