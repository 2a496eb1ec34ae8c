"""DAPO's dynamic sampling on TRL's GRPOTrainer."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from .scored import Batch, ScoredTrainer

#: Padded on the left; all other columns of tokens on the right.
PROMPTS = ("prompt_ids", "prompt_mask")


class DynamicSampling(ScoredTrainer):
    """Groups without spread are replaced by those of other prompts, before a loss is computed; put before a trainer.

    Yu et al., 2025, https://arxiv.org/abs/2503.14476, section 3.2: a group whose completions all earn the same has no
    advantage and no gradient. The paper samples until the batch is full, here at most ``tries`` times.
    """

    tries = 0
    train_dataset: Any

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        """Sample and score, and again for groups without spread.

        Raises:
            UserError: this process holds a part of a group.
        """
        batch: Batch = super()._generate_and_score_completions(inputs)
        if not self.model.training:
            return batch
        self.count_groups(len(inputs), f"method.dynamic_sampling={self.tries}")
        flat, replaced, seen = self._find_flat(len(inputs)), 0, {row.get("id") for row in inputs}
        for number in range(self.tries):
            count = int(self.accelerator.gather(torch.tensor([len(flat)], device=self.accelerator.device)).max())
            if count == 0:  # on every process
                break
            rows = self._draw(count, number, seen)
            seen |= {row.get("id") for row in rows}
            more = super()._generate_and_score_completions(
                [dict(row) for row in rows for _ in range(self.num_generations)]
            )
            still = set(self._find_flat(count * self.num_generations))
            better = [place for place in range(count) if place not in still][: len(flat)]
            fills = self.processing_class.pad_token_id
            batch = replace_groups(batch, more, dict(zip(flat, better, strict=False)), self.num_generations, fills)
            flat, replaced = flat[len(better) :], replaced + len(better)
        if replaced:
            mask = batch["completion_mask"] * batch.get("tool_mask", 1)
            batch["num_items_in_batch"] = self.accelerator.gather(mask.sum()).sum()
        self.note(
            dynamic_sampling__replaced=torch.tensor(float(replaced), device=self.accelerator.device),
            dynamic_sampling__without_spread=torch.tensor(float(len(flat)), device=self.accelerator.device),
        )
        return batch

    def _find_flat(self, count: int) -> list[int]:
        """Return the places of the groups, of this process's latest ``count`` completions, that all earn the same."""
        rewards = self.read_rewards(count).view(-1, self.num_generations)
        spread = rewards.max(dim=1).values - rewards.min(dim=1).values
        return [place for place, width in enumerate(spread.tolist()) if not width > 1e-8]

    def _draw(self, count: int, number: int, seen: Collection[Any]) -> list[Mapping[str, Any]]:
        """Return ``count`` training rows, those first that were not ``seen`` in this batch; the same ones on resume."""
        rank = self.accelerator.process_index
        chance = random.Random(f"{self.args.seed} {self._step} {self.state.global_step} {number} {rank}")
        places = list(range(len(self.train_dataset)))
        chance.shuffle(places)
        ids = self.train_dataset["id"]
        places.sort(key=lambda place: ids[place] in seen)  # a stable sort: shuffled among those not seen
        return [self.train_dataset[places[turn % len(places)]] for turn in range(count)]


def replace_groups(batch: Batch, other: Batch, places: Mapping[int, int], group: int, pad_id: int) -> Batch:
    """Return ``batch`` with the groups at the keys of ``places`` replaced by the groups of ``other`` at their values.

    Columns are (rows,) or (rows, tokens), ``group`` rows a group; the shorter ones are padded.
    """
    rows = [range(place * group, (place + 1) * group) for place in places]
    others = [range(place * group, (place + 1) * group) for place in places.values()]
    into, out = (torch.tensor([row for some in found for row in some], dtype=torch.long) for found in (rows, others))
    made = {}
    for name, column in batch.items():
        if not isinstance(column, Tensor) or column.dim() == 0:
            made[name] = column
            continue
        mine, theirs = column.clone(), other[name]
        if column.dim() == 2:
            width = max(mine.shape[1], theirs.shape[1])
            fill = pad_id if name.endswith("_ids") else 0
            mine, theirs = (_widen(one, width, name in PROMPTS, fill) for one in (mine, theirs))
        mine[into.to(mine.device)] = theirs[out.to(mine.device)].to(mine.dtype)
        made[name] = mine
    return made


def _widen(column: Tensor, width: int, left: bool, fill: int) -> Tensor:
    more = width - column.shape[1]
    return pad(column, (more, 0) if left else (0, more), value=fill)
