"""Writes the completions of a batch of prompts, in the place of transformers' own loop of ``generate``.

``model.generate(..., custom_generate=decode)`` prepares everything as always: lengths, EOS, processors of logits. The
work is another: a prompt that several rows share is read once and its keys and values are copied to them, rows that
have ended leave the batch, and a token is drawn by one random number.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from alignzoo.models.sampling.cache import count_row_bytes, give_room
from alignzoo.models.sampling.draws import Draws
from alignzoo.models.sampling.obstacles import CannotDecodeError, find_obstacle

#: Rows leave once they are so large a share of the batch: to leave, the others' keys and values are copied.
LEAVING = 1 / 8

#: What ``generate`` prepares for the ids.
BESIDE_IDS = ("attention_mask", "position_ids")

#: Share of the free memory that keys, values and distributions may take.
MEMORY = 0.5


def decode(
    model: Any,
    input_ids: Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    draws: Draws | None = None,
    **inputs: Any,
) -> Tensor:
    """Return prompts and completions, (rows, tokens), padded behind EOS, as ``generate`` does.

    Args:
        model: a causal language model.
        input_ids: the prompts, (rows, tokens), padded on the left.
        logits_processor: what changes logits; one with ``keep_rows`` is told which rows stay.
        stopping_criteria: of the longest completion and of EOS.
        generation_config: ``generate``'s.
        draws: how tokens are chosen; by default all rows as ``generation_config.do_sample`` says.
        inputs: mask, positions and cache, as ``generate`` prepares them.

    Raises:
        CannotDecodeError: the call asks for more than this loop does.
    """
    reason = find_obstacle(logits_processor, stopping_criteria, generation_config, inputs)
    if reason:
        raise CannotDecodeError(reason)
    limit = generation_config.max_length - input_ids.shape[1]
    draws = draws or Draws.draw(len(input_ids), limit, bool(generation_config.do_sample))
    fitting = count_fitting(model, generation_config.max_length)
    if any(hasattr(one, "keep_rows") for one in logits_processor):
        fitting = len(input_ids)  # what it keeps is of all rows
    cache, written = inputs["past_key_values"], []
    for part in torch.split(torch.arange(len(input_ids)), fitting):
        prompts = [None if whole is None else whole[part] for whole in (input_ids, *map(inputs.get, BESIDE_IDS))]
        batch = Batch(model, give_room(cache), logits_processor, "logits_to_keep" in inputs, *prompts)
        written.append(_write(batch, draws.select(part), generation_config, limit))
        cache = type(cache)(config=model.config)
    width = max(part.shape[1] for part in written)
    padded = [functional.pad(part, (0, width - part.shape[1]), value=_find_pad(generation_config)) for part in written]
    return torch.cat([input_ids, torch.cat(padded)], dim=1)


def find_distinct(ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return where each different prompt stands first, in this order, and for each row which of them it has."""
    whole = ids if mask is None else torch.cat([ids, mask.to(ids.dtype)], dim=1)
    _, sorted_ones = torch.unique(whole, dim=0, return_inverse=True)
    rows = torch.arange(len(ids), device=ids.device)
    firsts = rows.new_full((len(ids),), len(ids)).scatter_reduce(0, sorted_ones, rows, "amin")[sorted_ones]
    distinct, copies = torch.unique(firsts, return_inverse=True)
    return distinct, copies


def count_fitting(model: Any, tokens: int) -> int:
    """Return how many rows of so many tokens fit into the free memory, at least one."""
    if model.device.type == "cuda":
        free = torch.cuda.mem_get_info(model.device)[0]
        free += torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
    else:
        import psutil

        free = psutil.virtual_memory().available
    return max(1, int(MEMORY * free / count_row_bytes(model.config, tokens, model.dtype)))


def _find_pad(config: Any) -> int:
    """Return the token that stands behind EOS."""
    ids = [config.pad_token_id, *_list_eos(config), 0]
    return next(int(token) for token in ids if token is not None)


def _list_eos(config: Any) -> list[int]:
    """Return the tokens that end a completion."""
    eos = config.eos_token_id
    return [] if eos is None else [int(token) for token in (eos if isinstance(eos, list | tuple) else [eos])]


def _write(batch: Batch, draws: Draws, config: Any, limit: int) -> Tensor:
    """Return the completions, (rows, longest of them), padded."""
    pad, device = _find_pad(config), batch.ids.device
    eos = torch.tensor(_list_eos(config), dtype=torch.long, device=device)
    found = torch.full((len(batch.ids), limit), pad, dtype=batch.ids.dtype, device=device)
    rows = torch.arange(len(batch.ids))  # which rows the batch holds, on the CPU
    going = torch.ones(len(rows), dtype=torch.bool, device=device)
    logits = batch.read_prompts()
    for place in range(limit):
        tokens = draws.choose(batch.process(logits), rows, place).masked_fill(~going, pad)
        found[rows.to(device), place] = tokens
        going = going & ~torch.isin(tokens, eos)
        left = int(going.sum())
        if not left or place + 1 == limit:
            return found[:, : place + 1]
        batch.append(tokens)
        if len(rows) - left >= LEAVING * len(rows):
            kept = going.nonzero()[:, 0]
            batch.keep_rows(kept)
            rows, going = rows[kept.cpu()], going[kept]
        logits = batch.read_last()
    return found


class Batch:
    """The rows that are being written, and what the model keeps of them."""

    def __init__(self, model: Any, cache: Any, processors: Any, one_logit: bool, ids: Any, *beside: Any) -> None:
        """``one_logit``: whether the model can leave out all logits but the last; ``beside``: mask and positions.

        The mask is left out where no row is padded, the positions where the model takes none.
        """
        self.model, self.cache, self.processors = model, cache, processors
        self.ids: Tensor = ids
        self.mask, self.positions = beside
        self.more = {"use_cache": True, **({"logits_to_keep": 1} if one_logit else {})}

    def read_prompts(self) -> Tensor:
        """Read each different prompt once; return the logits behind them for all rows, (rows, vocabulary)."""
        firsts, copies = find_distinct(self.ids, self.mask)
        mask, positions = (None if part is None else part[firsts] for part in (self.mask, self.positions))
        logits = self._read(self.ids[firsts], None, mask, positions, is_first_iteration=True)
        if len(firsts) < len(copies):
            self.cache.reorder_cache(copies)
        return logits[copies]

    def read_last(self) -> Tensor:
        """Read the last token of each row; return the logits behind it, (rows, vocabulary)."""
        return self._read(self.ids, 1, self.mask, self.positions)

    def _read(self, ids: Tensor, length: int | None, mask: Any, positions: Any, **more: Any) -> Tensor:
        inputs = self.model.prepare_inputs_for_generation(
            ids,
            next_sequence_length=length,
            past_key_values=self.cache,
            attention_mask=mask,
            position_ids=positions,
            **self.more,
            **more,
        )
        logits: Tensor = self.model(**inputs, return_dict=True).logits[:, -1]
        return logits

    def process(self, logits: Tensor) -> Tensor:
        """Return the scores of the next tokens, in float32."""
        scores: Tensor = self.processors(self.ids, logits.to(torch.float32, copy=True))
        return scores

    def append(self, tokens: Tensor) -> None:
        """Add a token to each row."""
        self.ids = torch.cat([self.ids, tokens[:, None]], dim=1)
        self.mask = None if self.mask is None else functional.pad(self.mask, (0, 1), value=1)
        self.positions = None if self.positions is None else self.positions[:, -1:] + 1

    def keep_rows(self, rows: Tensor) -> None:
        """Let all other rows leave."""
        self.cache.reorder_cache(rows)
        self.ids = self.ids[rows]
        self.mask, self.positions = (None if part is None else part[rows] for part in (self.mask, self.positions))
        for processor in self.processors:
            if hasattr(processor, "keep_rows"):
                processor.keep_rows(rows)
