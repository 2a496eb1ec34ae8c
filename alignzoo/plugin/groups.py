"""Checks that a batch holds whole groups of completions to one prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def check_groups(cfg: DictConfig) -> None:
    """Refuse ``method.num_generations`` below 2, and a batch that is not a multiple of it; for :meth:`Method.check`.

    Raises:
        UserError: a completion would have nothing to be compared with, or a batch would hold part of a group.
    """
    group, batch = cfg.method.num_generations, cfg.train.global_batch_size
    if group < 2:
        raise UserError(f"method.num_generations={group} must be at least 2: a completion is compared with its group.")
    if batch % group:
        raise UserError(
            f"train.global_batch_size={batch} must be a multiple of method.num_generations={group}: "
            "a batch holds whole groups."
        )
