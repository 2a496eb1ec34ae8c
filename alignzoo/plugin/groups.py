"""Groups of answers to one prompt, whose rewards a method compares with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def check_groups(cfg: DictConfig) -> None:
    """Refuse ``method.num_generations`` below 2, and a batch that is no multiple of it; for :meth:`Method.check`.

    Raises:
        UserError: an answer would have nothing to be compared with, or a batch would hold part of a group.
    """
    group, batch = cfg.method.num_generations, cfg.train.global_batch_size
    if group < 2:
        raise UserError(f"method.num_generations={group} must be at least 2: an answer is compared with its group.")
    if batch % group:
        raise UserError(
            f"train.global_batch_size={batch} must be a multiple of method.num_generations={group}: "
            "a batch holds whole groups."
        )
