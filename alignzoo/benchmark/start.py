"""How long the commands take that need no model, beside importing Hydra."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "import hydra": ["-c", "import hydra"],
    "--help": ["-m", "alignzoo", "--help"],
    "list": ["-m", "alignzoo", "list"],
    "a misspelt key": ["-m", "alignzoo", "method.bta=0.1"],
}


def measure_start(rounds: int) -> dict[str, float]:
    """Return the median seconds of each of :data:`COMMANDS`, one after the other in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *command], capture_output=True, check=False)
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}
