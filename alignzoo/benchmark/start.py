"""Measures how long the commands take that need no model, beside importing Hydra."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PLUGINS = 50  #: plugins of other distributions, each with a method and its YAML

WITH_PLUGINS = f"--help with {PLUGINS} plugins"

#: What is run, and whether those plugins are installed meanwhile.
COMMANDS = {
    "import hydra": (["-c", "import hydra"], False),
    "--help": (["-m", "alignzoo", "--help"], False),
    WITH_PLUGINS: (["-m", "alignzoo", "--help"], True),
    "list": (["-m", "alignzoo", "list"], False),
    "a misspelt key": (["-m", "alignzoo", "method.bta=0.1"], False),
}


#: One of those plugins.
MODULE = """
from alignzoo import DataFormat, Method, hookimpl

class Stranger(Method):
    "A method of a stranger."
    name, data = "{name}", DataFormat.PREFERENCE
    config, trainer = "trl:DPOConfig", "trl:DPOTrainer"

@hookimpl
def alignzoo_methods():
    return [Stranger]

@hookimpl
def alignzoo_config_packages():
    return ["{name}.conf"]
"""


def measure_start(rounds: int) -> dict[str, float]:
    """Return the median seconds of each of :data:`COMMANDS`, one after the other in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        install_plugins(Path(folder), PLUGINS)
        strangers = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
        for _ in range(rounds):
            for name, (command, plugins) in COMMANDS.items():
                variables = {**os.environ, "PYTHONPATH": strangers} if plugins else None
                started = time.perf_counter()
                subprocess.run([sys.executable, *command], capture_output=True, check=False, env=variables)
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def install_plugins(folder: Path, count: int) -> None:
    """Write packages with the metadata that pip would write; with ``folder`` on the path they are installed."""
    for number in range(count):
        name = f"alignzoo_stranger{number:02}"
        conf = folder / name / "conf"
        (conf / "method").mkdir(parents=True)
        (conf / "__init__.py").touch()
        (folder / name / "__init__.py").write_text(MODULE.format(name=name))
        (conf / "method" / f"{name}.yaml").write_text(f"# A method of a stranger.\nname: {name}\n\nbeta: 0.1\n")
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: alignzoo>=0.1\n"
        )
        (info / "entry_points.txt").write_text(f"[alignzoo]\n{name} = {name}\n")
