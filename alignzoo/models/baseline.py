"""Finds the model that a run is measured against, where it is not the start model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alignzoo.models import load, start_model
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from transformers import PreTrainedTokenizerBase


def find_baseline(cfg: DictConfig, start: Path, tokenizer: PreTrainedTokenizerBase) -> Path:
    """Return the folder of ``evaluate.against``, which may name a run; ``start`` where it is null.

    Raises:
        UserError: it is not there, or its tokens are not those of ``tokenizer``.
    """
    if cfg.evaluate.against is None:
        return start
    try:
        against = start_model.find_further(cfg.model, cfg.evaluate.against)
    except UserError as error:
        raise UserError(str(error).replace("model.path", "evaluate.against")) from None
    other = load.load_tokenizer(against, cfg.model).get_vocab()
    unlike = [token for token, number in tokenizer.get_vocab().items() if other.get(token) != number]
    if unlike:
        raise UserError(
            f"evaluate.against={cfg.evaluate.against} has other tokens than model={cfg.model.name}, as {unlike[0]!r}: "
            "log-probabilities and KL can be compared between models of one vocabulary only."
        )
    return against
