"""Checks the groups ``tools`` and ``environment`` against the method, before anything heavy is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omegaconf import DictConfig

from alignzoo.config.trl_fields import fits
from alignzoo.plugin.method import DataFormat, ModelKind, find_tools_trainer
from alignzoo.plugin.registry import registry
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from alignzoo.plugin.method import Method


def check_tools(cfg: DictConfig, method: type[Method]) -> None:
    """Refuse tools and environments that nobody adds, and methods whose sampling cannot call them.

    A method that samples nothing is measured with them.

    Raises:
        UserError: as said.
    """
    for name in cfg.tools:
        registry().tool(str(name))
    environment = cfg.environment.name
    if environment != "none":
        registry().environment(environment)
    weight = cfg.environment.get("weight", 1.0)
    if not fits(weight, "float"):
        raise UserError(f"environment.weight={weight} takes a number.")
    word = f"environment={environment}" if environment != "none" else f"tools={','.join(map(str, cfg.tools))}"
    if not cfg.tools and environment == "none":
        return
    if method.trains is ModelKind.REWARD_MODEL:
        raise UserError(f"{word}: method={method.name} trains a reward model, which calls nothing. Leave it out.")
    if not find_tools_trainer(method) and (method.samples or method.data is DataFormat.PROMPTS):
        able = ", ".join(name for name, (found, _) in sorted(registry().methods.items()) if find_tools_trainer(found))
        raise UserError(f"{word}: method={method.name} samples without tools. Methods that can call them: {able}.")
