"""Prepares the inputs of a generation: the model that answers, and the training prompts, each once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from alignzoo.data.prompts import refuse_empty, take_unique
from alignzoo.data.tokenise import Tokeniser
from alignzoo.models import load, start_model
from alignzoo.models.embeddings import refuse_ids_beyond
from alignzoo.models.pretrained import RemoteCode
from alignzoo.system import ranks
from alignzoo.system.libraries import silence_libraries
from alignzoo.train.hardware import check_hardware
from alignzoo.train.processes import join_processes
from alignzoo.train.rows import prepare_rows

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset
    from omegaconf import DictConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from alignzoo.config.checked import Checked
    from alignzoo.data.prepare import Prepared


@dataclass(frozen=True)
class GenerationInputs:
    """The inputs of a generation, known before a weight is loaded."""

    checked: Checked
    start: Path
    """The folder of the model that answers."""

    tokenizer: PreTrainedTokenizerBase
    eos_ids: list[int]
    """Token ids that end a completion."""

    data: Prepared
    prompts: Dataset
    """The first training row of each prompt; no prompt that is held out, or for validation, is among them."""

    @property
    def cfg(self) -> DictConfig:
        """The configuration."""
        return self.checked.cfg

    @property
    def dtype(self) -> str:
        """The precision of the weights: nothing trains, so ``auto`` is that in which the run computes."""
        return load.weight_dtype(self.cfg.model.dtype, adapter=True, precision=self.checked.precision)

    def load_model(self) -> PreTrainedModel:
        """Return the model that answers, in evaluation mode."""
        model = OmegaConf.merge(self.cfg.model, {"dtype": self.dtype})
        whole: DictConfig = OmegaConf.create({"model": model, "peft": {"name": "none"}})
        return load.load_frozen(self.start, whole).to(self.checked.device).eval()


def prepare_generation(checked: Checked) -> GenerationInputs:
    """Return the inputs of a generation; downloads and makes what is missing.

    Raises:
        UserError: device, model or data are not what the configuration says, or a row has no prompt.
    """
    cfg = checked.cfg
    silence_libraries(cfg.telemetry)
    check_hardware(checked)
    join_processes(cfg, checked.device, checked.patience)
    with ranks.go_first(ranks.local_rank() == 0):
        start = start_model.start_folder(cfg.model)
        tokenizer = load.load_tokenizer(start, cfg.model)
        eos_ids = load.read_eos_ids(start, tokenizer)
        data = prepare_rows(cfg, Tokeniser(tokenizer, eos_ids))
    prompts = take_unique(data.train)
    for name, prompt in zip(prompts["id"], prompts["prompt"], strict=True):
        refuse_empty(json.loads(prompt), name, "answers need prompts", "take a dataset that has them")
    refuse_ids_beyond(f"model={cfg.model.name}", start, RemoteCode.of(cfg.model), tokenizer, [prompts])
    return GenerationInputs(checked, start, tokenizer, eos_ids, data, prompts)
