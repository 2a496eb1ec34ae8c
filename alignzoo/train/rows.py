"""Prepares the rows of runs, once for the jobs of a sweep, and converts them into a method's format."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from alignzoo.config.plain import to_plain
from alignzoo.config.trl_fields import read_config_fields
from alignzoo.data.convert import convert
from alignzoo.data.generated import generated_source
from alignzoo.data.prepare import Prepared, prepare
from alignzoo.data.prompts import read_template_kwargs
from alignzoo.data.sources import MEASURED, measured_source, training_sources
from alignzoo.plugin.method import DataFormat
from alignzoo.system.cache import explain_full_cache
from alignzoo.system.errors import UserError
from alignzoo.system.process_cache import process_cache

if TYPE_CHECKING:
    from datasets import Dataset
    from omegaconf import DictConfig

    from alignzoo.config.checked import Checked
    from alignzoo.data.tokenise import Tokeniser


def convert_rows(checked: Checked, rows: Dataset, data: Prepared, measured: bool = False) -> Dataset:
    """Return ``rows`` of ``data``, its training rows or ``measured`` ones, in the method's format.

    Raises:
        UserError: the method cannot train on them.
    """
    method, further = checked.method, checked.method.further_columns(checked.cfg)
    if method.data is DataFormat.PROMPTS and read_template_kwargs(rows):
        fields = read_config_fields(method.config)
        if fields and "chat_template_kwargs" not in fields:
            raise UserError(f"method={method.name} reads no chat_template_kwargs, and the prompts have some.")
    with explain_full_cache("the method's rows"):
        kind = data.measured_kind if measured else data.kind
        found = convert(rows, kind, method.data, checked.placement.micro_batch, checked.cfg.seed, further)
    method.check_rows(checked.cfg, found)
    return found


def prepare_rows(cfg: DictConfig, tokeniser: Tokeniser) -> Prepared:
    """Return the prepared rows; the jobs of a sweep share them, while the files stay the same."""
    if not process_cache().in_sweep:
        return prepare(cfg, tokeniser)
    sources = [source for source, _ in training_sources(cfg.dataset)]
    sources += [source for side in MEASURED if (source := measured_source(cfg.dataset, side))]
    sources += [found[0]] if (found := generated_source(cfg.dataset)) else []
    contents = [source.identity for source in sources]
    drawn = cfg.seed if cfg.dataset.rows is not None else None  # what else depends on the seed is done later
    key = json.dumps([tokeniser.identity, contents, to_plain(cfg.dataset), cfg.train.max_length, drawn])
    data = process_cache().get("rows", key, lambda: prepare(cfg, tokeniser))
    return replace(data, manifest=data.manifest.copy())
