"""Prepares the measuring of a model on the pairs of a file, none of which is trained on."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from alignzoo.config.plain import to_plain
from alignzoo.data.convert import with_pairs
from alignzoo.data.prepare import Prepared, prepare_measured
from alignzoo.data.sources import open_source
from alignzoo.data.tokenise import Tokeniser
from alignzoo.models import load, start_model
from alignzoo.models.baseline import find_baseline
from alignzoo.models.embeddings import refuse_ids_beyond
from alignzoo.models.pretrained import RemoteCode
from alignzoo.plan.budget import Plan
from alignzoo.plugin.method import ModelKind
from alignzoo.system.errors import UserError
from alignzoo.system.libraries import silence_libraries
from alignzoo.train.inputs import RunInputs

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from alignzoo.config.checked import Checked

GROUP = "dataset."  #: words that say how the file is read


def prepare_pairs(checked: Checked, file: Path, words: Sequence[str]) -> RunInputs:
    """Return what a run's model and its start model are measured with on the pairs of ``file``.

    ``words`` beginning with ``dataset.`` say how it is read; the run's own data set says nothing of it.

    Raises:
        UserError: the file holds no pairs, or the model is not what the configuration says.
    """
    cfg = checked.cfg
    silence_libraries(cfg.telemetry)
    start = start_model.start_folder(cfg.model)
    tokenizer = load.load_tokenizer(start, cfg.model)
    eos_ids = load.read_eos_ids(start, tokenizer)
    read = OmegaConf.merge(cfg, {"dataset": _describe_file(file, words, tokenizer)})
    assert isinstance(read, DictConfig)
    tokeniser = Tokeniser(tokenizer, eos_ids, to_plain(cfg.method.get("chat_template_kwargs")))
    data = prepare_measured(read, open_source(str(file), "train", None, None, "--pairs"), tokeniser)
    _refuse_without_pairs(data, file)
    against = find_baseline(cfg, start, tokenizer) if checked.method.trains is ModelKind.POLICY else start
    refuse_ids_beyond(f"model={cfg.model.name}", start, RemoteCode.of(cfg.model), tokenizer, [data.heldout])
    return RunInputs(checked, start, tokenizer, eos_ids, data, data.train, Plan(0, 0, 0, 0, exact=True), against)


def _describe_file(file: Path, words: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> DictConfig:
    """Return the group ``dataset`` for the file: its defaults, and a conversation of plain text for a chat model."""
    text = importlib.resources.files("alignzoo_conf").joinpath("config.yaml").read_text(encoding="utf-8")
    group: DictConfig = OmegaConf.create(text).dataset
    group.merge_with({"name": file.stem, "path": str(file), "chat": bool(tokenizer.chat_template)})
    group.merge_with_dotlist([word.removeprefix(GROUP) for word in words if word.startswith(GROUP)])
    return group


def _refuse_without_pairs(data: Prepared, file: Path) -> None:
    rows = with_pairs(data.heldout, data.kind)
    if "chosen_ids" not in rows.column_names or rows["chosen_ids"][0] is None:
        raise UserError(f"--pairs {file}: it holds {data.kind} rows, and no chosen and rejected completions.")
