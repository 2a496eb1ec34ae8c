"""Computes reference log-probabilities once per model and sequence, and caches them for later runs.

They do not depend on beta, loss, learning rate, seed or run folder, and take a quarter of a step's time: DPO, IPO and
KTO share them, over sweeps and runs, with an adapter as without. TRL caches them too, but for one dataset as a whole,
and with a new adapter's random weights in the key.
"""

from __future__ import annotations

import functools
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from alignzoo.train.reference.scoring import Scorer
from alignzoo.train.reference.sequences import Column
from alignzoo.train.reference.store import KEY, LogProbs

if TYPE_CHECKING:
    from datasets import Dataset

    from alignzoo.train.reference.store import Keys, Values

VERSION = 1  #: raised whenever the same model gives the same sequence another number
PART = 4096  #: sequences after which what was computed is written, so that a killed pass resumes there


class CachedReference:
    """A mixin for TRL's DPO and KTO trainers, which read the reference's log-probabilities from the cache."""

    # patch: trl DPOTrainer._precompute_ref_logps
    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """Return the rows with TRL's own columns: ``ref_chosen_logps`` and the like, float32, in nats.

        A trainer that computes or collates in a way of its own, and one whose model is sharded, keeps to TRL's pass.
        """
        import datasets

        if not _is_trl_pass(self):
            ours: Dataset = super()._precompute_ref_logps(dataset, name, batch_size)  # type: ignore[misc]
            return ours
        found = {column: self._cached.look_up(dataset, of) for column, of in _list_columns(self).items()}
        joined: Dataset = datasets.concatenate_datasets([dataset, datasets.Dataset.from_dict(found)], axis=1)
        return joined

    @functools.cached_property
    def _cached(self) -> Reference:
        return Reference(self)


class Reference:
    """The log-probabilities of one trainer's reference, cached or computed."""

    def __init__(self, trainer: Any) -> None:
        self.trainer, self.scorer = trainer, Scorer(trainer)
        self.store = LogProbs(_broadcast(describe_model(trainer)))

    def look_up(self, rows: Dataset, column: Column) -> Values:
        """Return the log-probability of each row's sequence, (rows,)."""
        facts = ((one.key, len(one.ids)) for one in column.read_sequences(rows))
        table = np.fromiter(facts, [("key", KEY), ("length", np.int32)], len(rows))
        keys: Keys = np.ascontiguousarray(table["key"])
        found: Values = _broadcast(self.store.look_up(keys))
        missing = np.flatnonzero(np.isnan(found))
        if len(missing):
            unique = missing[np.unique(keys[missing], return_index=True)[1]]
            longest_first = unique[np.argsort(-table["length"][unique], kind="stable")]
            self._compute(rows, column, keys, longest_first.tolist())
            found[missing] = self.store.look_up(keys[missing])
        return found

    def _compute(self, rows: Dataset, column: Column, keys: Keys, order: list[int]) -> None:
        """Compute the rows ``order``, each process its share, and cache them part by part."""
        from accelerate.utils import gather_object
        from rich.progress import Progress

        from alignzoo.system.console import make_console

        accelerator = self.trainer.accelerator
        console = make_console(stderr=True)
        shown = console.is_terminal and accelerator.is_main_process
        with Progress(console=console, transient=True, disable=not shown) as bar:
            task = bar.add_task("Reference log-probabilities", total=len(order))
            for start in range(0, len(order), PART):
                part = order[start : start + PART]
                mine = part[accelerator.process_index :: accelerator.num_processes]
                values = []
                for scores in self.scorer.score(list(column.read_sequences(rows.select(mine)))) if mine else ():
                    values.append(scores)
                    bar.advance(task, len(scores) * accelerator.num_processes)
                shares = gather_object([(mine, np.concatenate(values) if values else np.empty(0, np.float32))])
                for places, share in shares:
                    self.store.add(keys[places], share, save=accelerator.is_main_process)


def describe_model(trainer: Any) -> str:
    """Return all that a reference log-probability depends on, beside the sequence: weights, architecture, arithmetic.

    The weights count by content, so that a copy in another folder is the same model. With an adapter that starts anew,
    the reference is the model below it: the same as without an adapter, if its weights have the same precision. With
    one that had been trained before, it is TRL's frozen copy of it, ``ref``.
    """
    import torch
    import transformers
    import trl
    from peft import PeftModel

    model = trainer.accelerator.unwrap_model(trainer.ref_model or trainer.model)
    adapter = None
    if isinstance(model, PeftModel) and trainer.ref_model is None:
        adapter = model.peft_config["ref"].to_dict() if "ref" in model.peft_config else None
        digest, model = _hash_base_model(model), model.get_base_model()
    else:
        digest = trainer._precompute_model_hash
    config = {name: value for name, value in model.config.to_dict().items() if name not in UNRELATED}
    libraries = [library.__version__ for library in (torch, transformers, trl)]
    arithmetic = [trainer.accelerator.mixed_precision, trainer.accelerator.device.type, str(model.dtype)]
    facts = [VERSION, digest, config, model.config._attn_implementation, adapter, arithmetic, libraries]
    return json.dumps(facts, sort_keys=True, default=str)


#: Keys of a model's config without influence on its numbers; TRL sets `use_cache`, and a folder may be moved.
UNRELATED = {"_name_or_path", "use_cache", "transformers_version"}


def _hash_base_model(model: Any) -> str:
    """Hash the weights below the adapter that trains, and those of ``ref``, as TRL hashes a model without any."""
    from trl.trainer.utils import hash_module

    below = {}
    for name, weight in model.get_base_model().state_dict().items():
        parts = name.split(".")
        if "ref" in parts or not set(parts) & set(model.peft_config):
            below[".".join(part for part in parts if part not in ("base_layer", "original_module"))] = weight
    found: str = hash_module(SimpleNamespace(state_dict=lambda: below))
    return found


def _list_columns(trainer: Any) -> dict[str, Column]:
    """Return TRL's columns of reference log-probabilities, and what each is of."""
    from trl import KTOTrainer

    limit = trainer.args.max_length
    if isinstance(trainer, KTOTrainer):
        pairs = {"ref_KL_logps": Column("KL_completion_ids", limit)} if trainer.calculate_KL else {}
        return {"ref_logps": Column("completion_ids", limit), **pairs}
    chosen, rejected, alpha = "chosen_ids", "rejected_ids", trainer.ld_alpha
    return {
        "ref_chosen_logps": Column(chosen, limit, rejected, alpha),
        "ref_rejected_logps": Column(rejected, limit, chosen, alpha),
    }


def _is_trl_pass(trainer: Any) -> bool:
    """Return whether collator and reference pass are TRL's own, on a model that each process has whole."""
    from trl import DPOTrainer, KTOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference
    from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

    whole = not trainer.is_deepspeed_enabled and not trainer.is_fsdp_enabled
    passes = {DPOTrainer.compute_ref_log_probs, KTOTrainer.compute_ref_log_probs}
    collators = {DataCollatorForPreference, DataCollatorForUnpairedPreference}
    own = getattr(type(trainer), "compute_ref_log_probs", None) in passes and type(trainer.data_collator) in collators
    keeps_start = getattr(trainer.args, "truncation_mode", "keep_start") == "keep_start"
    return whole and own and keeps_start


def _broadcast(value: Any) -> Any:
    """Return the first process's value, on all processes."""
    from accelerate.utils import broadcast_object_list

    values = [value]
    broadcast_object_list(values, from_process=0)
    return values[0]
