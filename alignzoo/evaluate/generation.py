"""Generates the completions of a batch of prompts, greedy and sampled ones side by side."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def generate(
    model: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    eos_ids: Sequence[int],
    limit: int,
    sampled: Sequence[bool] = (False,),
    temperature: float = 1.0,
    numbers: Tensor | None = None,
) -> list[list[int]]:
    """Return new token ids for each prompt (token ids): ``limit``, or up to the first EOS, which is the last of them.

    A prompt is read once for all its completions, and those that have ended leave the batch.

    Args:
        sampled: for each entry one completion per prompt, sampled where true, else greedy; those of the first entry
            come first.
        temperature: by which logits are divided before a token is sampled.
        numbers: by which the tokens are drawn, a row for each of the completions, (completions, limit), float64 of
            [0, 1); by default of torch's generator.
    """
    import torch

    from alignzoo.models.sampling.decode import decode
    from alignzoo.models.sampling.draws import Draws
    from alignzoo.models.sampling.obstacles import CannotDecodeError

    batch = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
    if numbers is None:
        numbers = torch.rand(len(prompts) * len(sampled), limit if any(sampled) else 0, dtype=torch.float64)
    draws = Draws(numbers, torch.tensor(sampled).repeat_interleave(len(prompts)), temperature)
    ids, mask = (batch[name].repeat(len(sampled), 1) for name in ("input_ids", "attention_mask"))
    settings = {**SETTINGS, "max_new_tokens": limit, "eos_token_id": list(eos_ids)}
    call = partial(model.generate, pad_token_id=tokenizer.pad_token_id, **settings)
    try:
        output = call(input_ids=ids, attention_mask=mask, do_sample=False, custom_generate=partial(decode, draws=draws))
    except CannotDecodeError:
        output = _generate_plainly(call, ids, mask, draws)
    return [_cut_behind_eos(new, eos_ids) for new in output[:, ids.shape[1] :].tolist()]


#: What a model's own settings would change, whatever they are.
SETTINGS: dict[str, Any] = {
    "temperature": None,
    "top_p": None,
    "top_k": None,
    "repetition_penalty": 1.0,
    "synced_gpus": False,  # each process has a whole model, and batches of its own
    "use_cache": True,
}


def _generate_plainly(call: Any, ids: Tensor, mask: Tensor, draws: Any) -> Tensor:
    """Return prompts and completions of a model that keeps something else than keys and values: by generate's loop."""
    import torch

    found: dict[int, Tensor] = {}
    with torch.random.fork_rng():
        for sampled in (False, True):
            rows = (draws.sampled == sampled).nonzero()[:, 0]
            if not len(rows):
                continue
            if sampled:
                torch.manual_seed(int(draws.numbers[rows[0], 0] * 2**53))
            more = {"temperature": draws.temperature} if sampled else {}
            output = call(input_ids=ids[rows], attention_mask=mask[rows], do_sample=sampled, **more)
            found |= dict(zip(rows.tolist(), output, strict=True))
    ordered = [found[row] for row in range(len(ids))]
    return torch.nn.utils.rnn.pad_sequence(ordered, batch_first=True, padding_value=int(call.keywords["pad_token_id"]))


def _cut_behind_eos(ids: list[int], eos_ids: Sequence[int]) -> list[int]:
    """Cut behind the first EOS."""
    end = next((place for place, token in enumerate(ids) if token in eos_ids), len(ids))
    return ids[: end + 1]
