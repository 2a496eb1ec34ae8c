"""What every run, check and benchmark begins with: device, start model, tokenizer, rows, and the plan."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo import models, ranks, weights
from alignzoo.data.formats import convert, with_pairs
from alignzoo.data.prepare import Prepared, prepare
from alignzoo.data.sources import heldout_source, training_sources
from alignzoo.data.tokens import Tokeniser
from alignzoo.device import check_peft, choose_device, choose_precision
from alignzoo.evaluate.measure import Yardstick
from alignzoo.plain import plain
from alignzoo.plan import Plan, make_plan, mean_length
from alignzoo.speed import warm
from alignzoo.strategies import begin, micro_batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from datasets import Dataset
    from omegaconf import DictConfig
    from transformers import PreTrainedTokenizerBase, Trainer

    from alignzoo.method import Method
    from alignzoo.rewards import Rewards


@dataclass(frozen=True)
class Ready:
    """All that is known before a weight is loaded."""

    device: str
    precision: str
    start: Path
    tokenizer: PreTrainedTokenizerBase
    stops: list[int]
    """Token ids that end an answer."""

    data: Prepared
    rows: Dataset
    """The training rows in the method's format."""

    plan: Plan

    def yardstick(self, cfg: DictConfig, rewards: Rewards) -> Yardstick:
        """Return the yardstick for the held-out rows, as pairs where they can be paired."""
        rows = with_pairs(self.data.heldout, self.data.kind)
        return Yardstick(cfg.evaluate, rows, self.tokenizer, self.stops, rewards.score if rewards.functions else None)

    def trained_model(self, cfg: DictConfig, trainer: Trainer, folder: Path) -> Any:
        """Return what was trained, whole; where processes hold a share of each weight, it is read from ``folder``."""
        if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
            return trainer.model
        ranks.wait()
        with ranks.first(ranks.rank() == 0):
            model, _ = models.load_trained(folder / "model", self.start, cfg, self.device, self.precision)
            if ranks.rank() == 0:
                model.save_pretrained(
                    folder / "model"
                )  # the same file as without shards, which save tied weights twice
        return model

    def start_model(self, cfg: DictConfig) -> Callable[[], Any] | None:
        """Return what loads the start model to compare with; None where it is the model without its adapter."""
        if cfg.peft.name != "none":
            return None
        return lambda: models.load_policy(self.start, cfg, self.device, self.precision).to(self.device).eval()


def make_ready(cfg: DictConfig, method: type[Method]) -> Ready:
    """Return it for ``cfg``, whose method is ``method``; downloads and makes what is missing.

    Raises:
        UserError: device, model or data are not what the configuration says.
    """
    device = choose_device(cfg.strategy.device)
    precision = choose_precision(cfg.train.precision, device)
    check_peft(cfg, device)
    begin(cfg, device)
    with ranks.first(ranks.local_rank() == 0):
        start = weights.start_folder(cfg.model)
        tokenizer = models.load_tokenizer(start, cfg.model)
        stops = models.stop_ids(start, tokenizer)
        data = _prepared(cfg, Tokeniser(tokenizer, stops))
        rows = convert(data.train, data.kind, method.data, micro_batch(cfg), cfg.seed)
    plan = make_plan(cfg, rows, method.data, mean_length(data.train, "prompt_ids"))
    return Ready(device, precision, start, tokenizer, stops, data, rows, plan)


def _prepared(cfg: DictConfig, tokeniser: Tokeniser) -> Prepared:
    """Return the prepared rows; the members of a sweep share them, as long as the files stay what they are."""
    if not warm.sweeping():
        return prepare(cfg, tokeniser)
    sources = [*(source for source, _ in training_sources(cfg.dataset)), heldout_source(cfg.dataset)]
    contents = [source.identity for source in sources if source]
    drawn = cfg.seed if cfg.dataset.rows is not None else None  # what else depends on the seed is done later
    key = json.dumps([tokeniser.identity, contents, plain(cfg.dataset), cfg.train.max_length, drawn])
    data = warm.kept("rows", key, lambda: prepare(cfg, tokeniser))
    return replace(data, manifest=data.manifest.copy())
