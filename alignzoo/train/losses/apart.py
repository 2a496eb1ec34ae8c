"""Verifies a run's loss in a process of its own: this one's devices, threads and process group stay as they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from alignzoo.system import ranks
from alignzoo.system.errors import UserError
from alignzoo.train.losses.verdict import AGREES, DIFFERS, OPEN, Verdict, advise

if TYPE_CHECKING:
    from alignzoo.config.checked import Checked
    from alignzoo.train.losses.compare import Comparison

MARK = "alignzoo-verdict: "  #: begins the line with the verdict; libraries print too

#: Of these, a process that is one of several would wait for the others.
PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def require_agreement(checked: Checked) -> None:
    """Compare the run's loss with its paper's equation, and say so in one line on the main process.

    Raises:
        UserError: they differ, or the comparison broke.
    """
    verdict = ranks.broadcast(_verify(checked) if ranks.rank() == 0 else None)
    assert verdict is not None
    name = f"train.verify: {verdict.method}"
    if verdict.verdict == DIFFERS:
        raise UserError(f"{name} differs from its equation ({_compare(verdict.found)}).\n{advise([verdict])}")
    if verdict.verdict not in (AGREES, OPEN):
        raise UserError(f"{name} could not be compared: {verdict.reason}\nTo train without: train.verify=false.")
    said = f"agrees with {verdict.equation}" if verdict.verdict == AGREES else f"not verified: {verdict.reason}"
    if ranks.rank() == 0:
        print(f"{name} {said}" + (f" ({_compare(verdict.found)})" if verdict.found else ""), flush=True)


def _compare(found: Comparison | None) -> str:
    assert found is not None
    return f"loss {found.trl:.6f} and {found.equation:.6f}, gradients {found.gradient:.1e} apart"


def _verify(checked: Checked) -> Verdict:
    """Return the verdict on the run's method under its settings."""
    from alignzoo.train.losses.compare import Comparison

    keys = OmegaConf.create({name: checked.cfg[name] for name in ("method", "train", "peft")})
    kept = {name: value for name, value in os.environ.items() if name not in PLACE}
    done = subprocess.run(
        [sys.executable, "-m", "alignzoo.train.losses"],
        input=OmegaConf.to_yaml(keys),
        env=kept | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not lines:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UserError(f"train.verify: the comparison ended without a verdict: {last}")
    said = json.loads(lines[-1].removeprefix(MARK))
    return Verdict(**{**said, "found": Comparison(**said["found"]) if said["found"] else None})
