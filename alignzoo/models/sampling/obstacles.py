"""Says which calls of ``generate`` are left to transformers."""

from __future__ import annotations

from typing import Any

from transformers import DynamicCache
from transformers.generation import GenerationMode

#: One completion is written for each row, a token at a time.
MODES = (GenerationMode.SAMPLE, GenerationMode.GREEDY_SEARCH)

#: transformers' processors that look at one row at a time, and keep nothing of it.
ROW_BY_ROW = frozenset(
    {
        "EpsilonLogitsWarper",
        "EtaLogitsWarper",
        "InfNanRemoveLogitsProcessor",
        "LogitNormalization",
        "MinLengthLogitsProcessor",
        "MinNewTokensLengthLogitsProcessor",
        "MinPLogitsWarper",
        "SuppressTokensLogitsProcessor",
        "TemperatureLogitsWarper",
        "TopHLogitsWarper",
        "TopKLogitsWarper",
        "TopPLogitsWarper",
        "TypicalLogitsWarper",
    }
)

#: What transformers ends completions by, and is done here.
CRITERIA = frozenset({"MaxLengthCriteria", "EosTokenCriteria"})

#: What ``generate`` hands on beside the ids. Images and the like are read with the prompt, in ways of their own.
KNOWN = frozenset({"attention_mask", "position_ids", "past_key_values", "use_cache", "logits_to_keep"})


class CannotDecodeError(Exception):
    """Says why a call of ``generate`` is left to transformers; nothing was computed or drawn."""


def find_obstacle(processors: Any, criteria: Any, config: Any, inputs: dict[str, Any]) -> str | None:
    """Return why this call of ``generate`` is left to transformers, or None."""
    mode = config.get_generation_mode()
    own = [type(one).__name__ for one in processors if not hasattr(one, "keep_rows")]
    ends = {type(one).__name__ for one in criteria} - CRITERIA
    more = {name for name, value in inputs.items() if value is not None and name not in KNOWN}
    cache: Any = inputs.get("past_key_values")
    reasons = {
        f"{mode.value.replace('_', ' ')} is asked for": mode not in MODES,
        f"{', '.join(sorted({*own} - ROW_BY_ROW))} may keep something of each row": {*own} - ROW_BY_ROW,
        f"completions end by {', '.join(sorted(ends))}": ends,
        "the model keeps no keys and values, or not as one cache": type(cache) is not DynamicCache,
        "the cache is offloaded, or begun already": cache and (cache.offloading or cache.get_seq_length()),
        f"the model is given {', '.join(sorted(more))}": more,
        "more than token ids is to be returned": config.return_dict_in_generate,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)
