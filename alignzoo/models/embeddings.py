"""Compares a tokenizer with the embeddings of its model, and gives every token a row of them where that is wanted.

A tokenizer to which tokens were added may give ids for which the model has no row: a lookup fails within the first
forward pass, on a GPU without a word on why.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.models.broken import explain_errors
from alignzoo.models.pretrained import RemoteCode, is_scorer, read_config, read_model, read_tokenizer
from alignzoo.system import ranks
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

#: Of the random numbers in new rows: every run that begins with a model begins with the same one.
SEED = 0

ADVICE = "Add model.resize_embeddings=true, or take the tokenizer with which the weights were trained."


def count_embeddings(folder: Path, code: RemoteCode) -> int | None:
    """Return the rows of the embeddings as the folder's config.json says, without its weights; None if it does not."""
    with explain_errors(f"the model {folder}"):
        rows: int | None = getattr(read_config(folder, code).get_text_config(), "vocab_size", None)
    return rows


def count_ids(tokenizer: Any) -> int:
    """Return the highest token id that the tokenizer can give, plus one: there may be holes below it."""
    return int(max(tokenizer.get_vocab().values(), default=-1)) + 1


def lacks_rows(folder: Path, code: RemoteCode) -> bool:
    """Tell whether the folder's tokenizer has tokens beyond the embeddings of its model."""
    with explain_errors(f"the model {folder}"):
        tokenizer = read_tokenizer(folder, code)
    rows = count_embeddings(folder, code)
    return rows is not None and count_ids(tokenizer) > rows


def add_rows(folder: Path, code: RemoteCode, made: Path) -> None:
    """Save the model of ``folder`` in ``made`` with a row for each token of its tokenizer, drawn with :data:`SEED`.

    transformers draws them close to the mean of the old rows, so that the new tokens do not take probability from the
    others (Hewitt, 2021, https://nlp.stanford.edu/~johnhew/vocab-expansion.html).
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    auto = AutoModelForSequenceClassification if is_scorer(folder) else AutoModelForCausalLM
    with explain_errors(f"the model {folder}"):
        tokenizer, model = read_tokenizer(folder, code), read_model(auto, folder, code)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model.resize_token_embeddings(count_ids(tokenizer), mean_resizing=True)
    ranks.save_here(model, made)
    tokenizer.save_pretrained(made)


def refuse_ids_beyond(what: str, folder: Path, code: RemoteCode, tokenizer: Any, tables: Iterable[Dataset]) -> None:
    """Refuse prepared rows, or a tokenizer whose pad token pads them, with ids for which the model has no embedding.

    ``tables``: columns whose names end in ``_ids`` hold token ids. Only where the tokenizer has more tokens than the
    model has embeddings are they read: some models are published with tokens that no text holds.

    Raises:
        UserError: names the token and what to do.
    """
    rows = count_embeddings(folder, code)
    if rows is None or count_ids(tokenizer) <= rows:
        return
    found = max([tokenizer.pad_token_id, *(_find_highest(table) for table in tables)])
    if found >= rows:
        raise UserError(f"{_describe(what, tokenizer, found, rows)}\n{ADVICE}")


def _find_highest(table: Dataset) -> int:
    import pyarrow.compute as pc

    columns = [name for name in table.column_names if name.endswith("_ids")]
    batches = table.select_columns(columns).with_format("arrow").iter(10_000)
    highest = [pc.max(pc.list_flatten(batch.column(name))).as_py() for batch in batches for name in columns]
    return max((one for one in highest if one is not None), default=-1)


def _describe(what: str, tokenizer: Any, token: int, rows: int) -> str:
    name = tokenizer.convert_ids_to_tokens(token)
    return f"{what}: token {token} ({name}) is beyond its embeddings, which are those of {rows} tokens."


def guard_embeddings(model: Any, tokenizer: Any, what: str, rows: int | None = None) -> None:
    """Let ``model`` refuse token ids for which it has no embedding, where ``tokenizer`` can give such ids.

    For models whose texts are not known when they are loaded: of judges, rewards, teachers and chats. The model raises
    :class:`UserError`. ``rows``: the embeddings that it came with, where it was given more for a pad token.
    """
    embeddings = model.get_input_embeddings()
    known = embeddings.num_embeddings if rows is None else rows
    spared = None if rows is None else tokenizer.pad_token_id
    if max((i for i in tokenizer.get_vocab().values() if i != spared), default=-1) < known:
        return

    def refuse(module: Any, inputs: tuple[Any, ...]) -> None:
        ids = inputs[0] if spared is None else inputs[0][inputs[0] != spared]
        found = int(ids.max()) if ids.numel() else -1
        if found >= known:
            raise UserError(_describe(what, tokenizer, found, known))

    embeddings.register_forward_pre_hook(refuse)
