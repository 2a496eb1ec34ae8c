"""Checks the group ``teacher`` against the method and the strategy."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from alignzoo.config.trl_fields import fits
from alignzoo.plugin.method import ModelKind
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from alignzoo.plugin.method import Method

log = logging.getLogger(__name__)

#: Strategies that give each process a share of the model: the teacher would have to be divided with it.
SHARDED = ("fsdp", "zero2", "zero3")


def check_teacher(cfg: DictConfig, method: type[Method]) -> None:
    """Refuse a method without the teacher that it learns from, and a teacher where none can be; name one in vain.

    Raises:
        UserError: as above; or the strategy divides the model between processes.
    """
    name = cfg.teacher.name
    if name == "none":
        if method.uses_teacher:
            raise UserError(
                f"method={method.name} learns from a teacher: add teacher=NAME, with a NAME that model= takes, or "
                "teacher=local teacher.path=FOLDER_OR_RUN."
            )
        return
    seed = cfg.teacher.get("weights_seed")
    if not fits(seed, "int | None"):
        raise UserError(f"teacher.weights_seed={seed} must be a whole number.")
    if method.trains is ModelKind.REWARD_MODEL:
        raise UserError(
            f"teacher={name}: method={method.name} trains a reward model, which gives no text. Leave it out."
        )
    if cfg.strategy.name in SHARDED:
        raise UserError(
            f"teacher={name} with strategy={cfg.strategy.name}: a teacher is whole in every process. Use strategy=ddp."
        )
    if not method.uses_teacher:
        log.warning(
            "method=%s does not learn from teacher=%s: the result is compared with it, by its KL, and no more.",
            method.name,
            name,
        )
