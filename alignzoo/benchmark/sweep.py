"""Measures a sweep over five betas of DPO beside five runs of a plain TRL script, as a user waits for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignzoo.benchmark.case import Case
from alignzoo.benchmark.peer import QUIET, SIDES, make_error
from alignzoo.benchmark.scratch import link_models, scratch
from alignzoo.benchmark.speed import prepare_case

BETAS = (0.05, 0.1, 0.2, 0.3, 0.5)


def measure_sweep(case: Case, steps: int) -> dict[str, float]:
    """Return seconds of five TRL runs and of a first and a second sweep, ratios, and how much the reference computed.

    Each run trains ``steps`` steps and saves its model; nothing is measured by the yardstick, which a TRL script
    does not do. The first sweep starts with an empty cache but for the start model. ``first_reference`` and
    ``second_reference`` are sequences that went through the reference model.

    Raises:
        UserError: a program failed.
    """
    with scratch() as folder:
        settings, _ = prepare_case(case, steps, folder / "prepared")
        variables = {**QUIET, "ALIGNZOO_CACHE": str(link_models(folder / "fresh"))}
        words = [*settings["overrides"], "evaluate.enabled=false", f"method.beta={','.join(map(str, BETAS))}"]
        seconds: dict[str, float] = {}
        computed: dict[str, int] = {}
        for turn in ("first", "trl", "second"):
            if turn == "trl":
                files = [_settings_file(folder, settings, beta) for beta in BETAS]
                seconds["trl"] = sum(_time("plain_trl", [str(file)], folder / "trl.log", {}) for file in files)
                continue
            count = folder / turn
            command = [str(count), "-m", *words, f"hydra.sweep.dir={folder / 'sweeps' / turn}"]
            seconds[turn] = _time("counted", command, folder / f"{turn}.log", variables)
            computed[turn] = int(count.read_text(encoding="utf-8"))
    return {
        **seconds,
        **{f"{turn}_ratio": seconds[turn] / seconds["trl"] for turn in computed},
        **{f"{turn}_reference": found for turn, found in computed.items()},
    }


def _settings_file(folder: Path, settings: Mapping[str, Any], beta: float) -> Path:
    arguments = {**settings["arguments"], "beta": beta}
    file = folder / f"beta-{beta}.json"
    own = {**settings, "arguments": arguments, "folder": str(folder / f"beta-{beta}")}
    file.write_text(json.dumps(own), encoding="utf-8")
    return file


def _time(program: str, words: Sequence[str], log: Path, variables: Mapping[str, str]) -> float:
    """Return the seconds from the start of a program to its end."""
    began = time.perf_counter()
    command = [sys.executable, "-m", f"{SIDES}.{program}", *words]
    with log.open("w", encoding="utf-8") as written:
        done = subprocess.run(command, stdout=written, stderr=written, check=False, env={**os.environ, **variables})
    if done.returncode:
        raise make_error(program, done.returncode, log)
    return time.perf_counter() - began
