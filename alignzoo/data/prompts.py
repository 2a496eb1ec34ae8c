"""Brings prepared rows into prompts for methods that sample, whose TRL trainers write and tokenise them themselves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from alignzoo.data.messages import KEPT, Messages
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 10_000  #: rows read at once

_FIELDS = tuple(f'"{field}": ' for field in KEPT)


def make_prompts(rows: Dataset) -> Dataset:
    """Return each prompt once, as messages or text, with the dataset's further columns for rewards to read.

    Raises:
        UserError: a prompt is empty, or has what TRL's trainers do not hand to the chat template.
    """
    import datasets
    import pyarrow as pa

    unique = take_unique(rows).select_columns(["id", "prompt", "extra", "template_inputs"])
    _refuse_unwritable(unique)
    kinds: dict[str, set[type]] = {}
    for extra in (json.loads(text) for batch in unique.iter(BATCH) for text in batch["extra"]):
        for name, value in extra.items():
            kinds.setdefault(name, set()).add(type(value))
    # Arrow's columns have one type.
    of_several_types = {name for name, found in kinds.items() if len(found - {type(None)}) > 1}

    def read(identity: str, prompt: str, extra: str) -> dict[str, Any]:
        messages = json.loads(prompt)
        refuse_empty(messages, identity, "the method needs prompts", "try method=sft")
        given = dict.fromkeys(kinds) | json.loads(extra)
        further = {n: str(v) if n in of_several_types and v is not None else v for n, v in given.items()}
        return {**further, "id": identity, "prompt": unwrap_text(messages)}

    tables = [
        pa.Table.from_pylist([read(*row) for row in zip(b["id"], b["prompt"], b["extra"], strict=True)])
        for b in unique.iter(BATCH)
    ]
    made = datasets.Dataset(pa.concat_tables(tables, promote_options="permissive"))
    return _keep_fields(made, unique) if _have_fields(unique) else made


def take_unique(rows: Dataset) -> Dataset:
    """Return the first row of each prompt, in the rows' order."""
    return rows.select(np.sort(np.unique(np.array(rows["prompt_key"]), return_index=True)[1]))


def refuse_empty(prompt: Messages, identity: str, needs: str, advice: str) -> None:
    """Refuse a row that is a text without a prompt.

    Raises:
        UserError: names the row, and says what ``needs`` prompts, with ``advice``.
    """
    if not prompt[-1]["content"].strip():
        raise UserError(f"{needs}, and row {identity} of the dataset has none: {advice}.")


def _have_fields(rows: Dataset) -> bool:
    return any(field in prompt for batch in rows.iter(BATCH) for prompt in batch["prompt"] for field in _FIELDS)


def _keep_fields(made: Dataset, rows: Dataset) -> Dataset:
    """Replace the prompts by ones that keep each message's own fields: Arrow gives all messages the fields of all."""
    import datasets

    prompts = [unwrap_text(json.loads(prompt)) for prompt in rows["prompt"]]
    kind = datasets.Features({"prompt": datasets.List(datasets.Json())})
    column = datasets.Dataset.from_dict({"prompt": prompts}, features=kind)
    joined: Dataset = datasets.concatenate_datasets([made.remove_columns(["prompt"]), column], axis=1)
    return joined


def _refuse_unwritable(prompts: Dataset) -> None:
    for batch in prompts.iter(BATCH):
        for name, prompt, inputs in zip(batch["id"], batch["prompt"], batch["template_inputs"], strict=True):
            if inputs and "tools" in json.loads(inputs):
                raise UserError(
                    f"the prompt {name} has tools: methods that sample do not hand them to the chat template."
                )
            if '"prefix": true' in prompt and json.loads(prompt)[-1].get("prefix"):
                raise UserError(f"the prompt {name} ends with the assistant's turn: methods that sample begin another.")
    read_template_kwargs(prompts)


def read_template_kwargs(rows: Dataset) -> dict[str, Any]:
    """Return the rows' arguments for the chat template, the same for all.

    Raises:
        UserError: they differ from row to row.
    """
    texts = {
        text for batch in rows.select_columns(["template_inputs"]).iter(BATCH) for text in batch["template_inputs"]
    }
    found = [dict(json.loads(text or "{}").get("template_kwargs", {})) for text in texts]
    if any(kwargs != found[0] for kwargs in found):
        raise UserError("chat_template_kwargs differ from row to row: methods that sample take one for all prompts.")
    return found[0] if found else {}


def unwrap_text(messages: Messages) -> Messages | str:
    """Return a plain text as one, and other messages as they are."""
    return str(messages[0]["content"]) if messages[0]["role"] == "text" else messages
