"""Lets a trainer's policy sample by :func:`alignzoo.models.sampling.decode.decode`, which TRL's trainers do not notice.

TRL calls ``model.generate`` with padded prompts and its own generation config, and cuts the completions behind EOS
itself. What it makes of them, masks, log-probabilities and losses, stays as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from alignzoo.models.sampling.decode import decode
from alignzoo.models.sampling.obstacles import CannotDecodeError
from alignzoo.models.shared_prefix.first_batch import is_sharded

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)


@contextmanager
def sampling_together(cfg: DictConfig, trainer: Any) -> Iterator[None]:
    """Sample a trainer's completions together within the block, as ``speed.sampling`` says; tell where it cannot be."""
    model = _choose_model(cfg, trainer)
    if model is None:
        yield
        return
    # patch: transformers GenerationMixin.generate
    model.generate = Sampling(model)
    try:
        yield
    finally:
        del model.generate


def _choose_model(cfg: DictConfig, trainer: Any) -> Any:
    """Return the policy that samples; None where nothing samples, or something else does."""
    if cfg.speed.sampling == "off" or not hasattr(trainer, "_generate_single_turn"):
        return None
    model = trainer.accelerator.unwrap_model(trainer.model)
    reason = reason_against(trainer, model)
    if reason:
        log.info("completions are not sampled together: %s.", reason)
    return None if reason else model


def reason_against(trainer: Any, model: Any) -> str | None:
    """Return why a trainer's completions are sampled in TRL's own way, or None."""
    peft = getattr(model, "active_peft_config", None)
    reasons = {
        "vLLM samples them": getattr(trainer, "use_vllm", False),
        "transformers batches them continuously": getattr(trainer, "use_transformers_continuous_batching", False),
        "processes hold a share of each weight": trainer.is_fsdp_enabled or is_sharded(model),
        "the adapter learns a prompt": getattr(peft, "is_prompt_learning", False),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


class Sampling:
    """Stands in the place of a model's ``generate``; what the loop cannot do goes to the class's own, told once."""

    def __init__(self, model: Any) -> None:
        self.plain, self.told = partial(type(model).generate, model), False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what ``generate`` returns."""
        try:
            return self.plain(*args, **{"custom_generate": decode, **kwargs})
        except CannotDecodeError as reason:
            if not self.told:
                log.info("completions are not sampled together: %s.", reason)
            self.told = True
        return self.plain(*args, **kwargs)
