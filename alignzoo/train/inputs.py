"""What every run, check and benchmark begins with: device, start model, tokenizer, rows, and the plan."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from alignzoo.config.placement import begin, micro_batch
from alignzoo.config.plain import to_plain
from alignzoo.data.convert import convert, with_pairs
from alignzoo.data.prepare import Prepared, prepare
from alignzoo.data.sources import heldout_source, training_sources
from alignzoo.data.tokenise import Tokeniser
from alignzoo.evaluate.reward_yardstick import RewardYardstick
from alignzoo.evaluate.yardstick import Yardstick
from alignzoo.models import load as models
from alignzoo.models import reward_model
from alignzoo.models import start_model as weights
from alignzoo.plan.updates import Plan, make_plan, mean_length
from alignzoo.plugin.method import ModelKind
from alignzoo.system import ranks
from alignzoo.system.device import check_peft, choose_device, choose_precision
from alignzoo.system.errors import UserError
from alignzoo.system.process_cache import process_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from datasets import Dataset
    from omegaconf import DictConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

    from alignzoo.evaluate.rewards import Rewards
    from alignzoo.plugin.method import Method


class Measuring(Protocol):
    """What the yardsticks of policies and of reward models have in common."""

    @property
    def objective(self) -> str:
        """The run's number for sweeps and leaderboards."""

    def measure_start(self, model: Any, identity: str) -> list[Any]:
        """Measure the model to compare with, whose weights ``identity`` names."""

    def measure(self, model: Any, start: Callable[[], Any] | None) -> list[Any]:
        """Measure the trained model; ``start`` loads the one to compare with."""

    def lines(self, before: Sequence[Any], after: Sequence[Any]) -> list[dict[str, Any]]:
        """Return one line a held-out prompt, as ``answers.jsonl`` holds them."""


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

    against: Path
    """The folder of the model that the result is measured against: the start model, or ``evaluate.against``."""

    kind: ModelKind = ModelKind.POLICY

    def load(self, cfg: DictConfig, folder: Path | None = None) -> PreTrainedModel:
        """Return the start model, or the one in ``folder``, as the method trains it."""
        folder = folder or self.start
        if self.kind is ModelKind.REWARD_MODEL:
            return reward_model.load_scorer(folder, self.tokenizer, self.stops, cfg, self.precision)
        return models.load_policy(folder, cfg, self.precision)

    def yardstick(self, cfg: DictConfig, rewards: Rewards) -> Measuring:
        """Return the yardstick for the held-out rows, as pairs where they can be paired."""
        rows = with_pairs(self.data.heldout, self.data.kind)
        if self.kind is ModelKind.REWARD_MODEL:
            return RewardYardstick(cfg.evaluate, rows, self.tokenizer)
        from alignzoo.models.shared_prefix.patch import prefixes_shared

        score = rewards.score if rewards.functions else None
        return Yardstick(cfg.evaluate, rows, self.tokenizer, self.stops, score, partial(prefixes_shared, cfg))

    def trained_model(self, cfg: DictConfig, trainer: Trainer, folder: Path) -> Any:
        """Return what was trained, whole; where processes hold a share of each weight, it is read from ``folder``."""
        if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
            return trainer.model
        ranks.wait()
        with ranks.first(ranks.rank() == 0):
            model = self._saved(cfg, folder / "model")
            if ranks.rank() == 0:
                model.save_pretrained(folder / "model")  # as without shards, which save tied weights twice
        return model

    def _saved(self, cfg: DictConfig, folder: Path) -> Any:
        if self.kind is ModelKind.REWARD_MODEL:
            return self.load(cfg, folder).to(self.device).eval()
        return models.load_trained(folder, self.start, cfg, self.device, self.precision)[0]

    def start_model(self, cfg: DictConfig) -> Callable[[], Any] | None:
        """Return what loads the model to compare with; None where it is the trained one without its adapter."""
        if cfg.peft.name != "none" and self.against == self.start:
            return None
        return lambda: self.load(cfg, self.against).to(self.device).eval()


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
        stops = models.read_eos_ids(start, tokenizer)
        data = _prepared(cfg, Tokeniser(tokenizer, stops))
        rows = convert(data.train, data.kind, method.data, micro_batch(cfg), cfg.seed)
    plan = make_plan(cfg, rows, method.data, mean_length(data.train, "prompt_ids"))
    policy = method.trains is ModelKind.POLICY
    against = _against(cfg, start, tokenizer) if policy else start
    return Ready(device, precision, start, tokenizer, stops, data, rows, plan, against, method.trains)


def _prepared(cfg: DictConfig, tokeniser: Tokeniser) -> Prepared:
    """Return the prepared rows; the members of a sweep share them, as long as the files stay what they are."""
    if not process_cache().in_sweep:
        return prepare(cfg, tokeniser)
    sources = [*(source for source, _ in training_sources(cfg.dataset)), heldout_source(cfg.dataset)]
    contents = [source.identity for source in sources if source]
    drawn = cfg.seed if cfg.dataset.rows is not None else None  # what else depends on the seed is done later
    key = json.dumps([tokeniser.identity, contents, to_plain(cfg.dataset), cfg.train.max_length, drawn])
    data = process_cache().get("rows", key, lambda: prepare(cfg, tokeniser))
    return replace(data, manifest=data.manifest.copy())


def _against(cfg: DictConfig, start: Path, tokenizer: PreTrainedTokenizerBase) -> Path:
    """Return the folder of ``evaluate.against``, which may name a run; ``start`` where it is null.

    Raises:
        UserError: it is not there, or its tokens are not those of ``tokenizer``.
    """
    from omegaconf import OmegaConf

    if cfg.evaluate.against is None:
        return start
    path = Path(cfg.evaluate.against).expanduser() / "model"
    named = str(path) if (path / "config.json").is_file() else cfg.evaluate.against
    own = {"path": named, "revision": None, "wheel": None, "gguf_file": None}
    try:
        against = weights.start_folder(OmegaConf.merge(cfg.model, own))  # type: ignore[arg-type]
    except UserError as error:
        raise UserError(str(error).replace("model.path", "evaluate.against")) from None
    other = models.load_tokenizer(against, cfg.model).get_vocab()
    unlike = [token for token, number in tokenizer.get_vocab().items() if other.get(token) != number]
    if unlike:
        raise UserError(
            f"evaluate.against={cfg.evaluate.against} has other tokens than model={cfg.model.name}, as {unlike[0]!r}: "
            "log-probabilities and KL can be compared between models of one vocabulary only."
        )
    return against
