"""Refuses a strategy that cannot run here, before anything is loaded."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from alignzoo.launch import rendezvous, slurm
from alignzoo.system import ranks
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from alignzoo.config.checked import Checked


def check_strategy(checked: Checked) -> None:
    """Refuse a strategy that is not installed, has nothing to divide, or whose machines cannot find each other.

    Raises:
        UserError: it cannot run here.
    """
    cfg, strategy = checked.cfg, checked.cfg.strategy
    for group in ("strategy", "launcher"):
        needed = cfg[group].requires
        if needed and importlib.util.find_spec(needed) is None:
            raise UserError(f"{group}={cfg[group].name} needs {needed}: pip install 'alignzoo[{needed}]'.")
    if strategy.args and checked.placement.processes == 1:
        raise UserError(
            f"strategy={strategy.name} divides a model between processes, and there is one: add strategy.processes=N, "
            "or take strategy=single."
        )
    if strategy.restarts and cfg.launcher.name == "ray":
        raise UserError("launcher=ray restarts no process: leave strategy.restarts out, and resume with resume=auto.")
    known = strategy.rendezvous or ranks.is_launched() or rendezvous.is_in_environment() or cfg.launcher.name == "ray"
    if strategy.nodes == 1 or known:
        return
    if not slurm.is_in_step():
        raise UserError(
            "strategy.nodes: add strategy.rendezvous=HOST:PORT, where HOST is the first machine's; "
            "in a Slurm job, start it with srun."
        )
    slurm.check_step(strategy.nodes)
