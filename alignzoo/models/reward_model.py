"""Loads reward models: language models with one output, a score, in the place of the next-token head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from alignzoo.models.embeddings import guard_embeddings
from alignzoo.models.load import load_weights
from alignzoo.models.pretrained import RemoteCode, read_model, read_tokenizer
from alignzoo.system.errors import UserError
from alignzoo.system.hub import explain_hub_error

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Where the classes of transformers keep the output.
HEADS = ("score.", "classifier.")

#: Key of the saved config.json: the tokens in which a scored conversation ends. Its model was trained on conversations
#: that end there; most chat templates write a line break behind it, where such a model has never been read.
EOS_KEY = "alignzoo_stops"


def load_scorer(
    folder: Path, tokenizer: PreTrainedTokenizerBase, eos_ids: Sequence[int], cfg: DictConfig, precision: str
) -> PreTrainedModel:
    """Return the model in ``folder`` with one output, ready to train; where it has none, a random one by the seed.

    ``tokenizer`` gets a pad token of its own where EOS stood in for one.

    Raises:
        UserError: as :func:`alignzoo.models.load.load_weights`, or it has several outputs.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    with torch.random.fork_rng(devices=[]), _silence_transformers():  # it reports the missing output in a table
        torch.manual_seed(cfg.seed)
        model = load_weights(AutoModelForSequenceClassification, folder, cfg, precision, new=HEADS, num_labels=1)
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.pad_token = None
    _ensure_own_pad_token(model, tokenizer)
    setattr(model.config, EOS_KEY, tokenizer.convert_ids_to_tokens(list(eos_ids)))
    return model


def load_classifier(path: str, revision: str | None, code: RemoteCode) -> tuple[Any, Any]:
    """Return a sequence-classification model with one output, in evaluation mode, and its tokenizer.

    ``path`` is a hub id, a model's folder, or the folder of a run that trained one.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    inside = Path(path).expanduser() / "model"
    folder = str(inside) if (inside / "config.json").is_file() else path
    try:
        tokenizer = read_tokenizer(folder, code, revision=revision)
        model = read_model(AutoModelForSequenceClassification, folder, code, revision=revision)
    except UserError:
        raise
    except Exception as error:  # the hub's client raises a dozen kinds
        raise UserError(f"reward.model.path={path}: {explain_hub_error(error)}") from error
    if model.config.num_labels != 1:
        raise UserError(f"reward.model.path={path} has {model.config.num_labels} outputs; a reward model has one.")
    rows = model.get_input_embeddings().num_embeddings
    _ensure_own_pad_token(model, tokenizer)
    guard_embeddings(model, tokenizer, f"reward.model.path={path}", rows)
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


@contextmanager
def _silence_transformers() -> Iterator[None]:
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _ensure_own_pad_token(model: Any, tokenizer: Any) -> None:
    """Make sure of a pad token other than EOS, in which a conversation may end: the head reads the last other token."""
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
        model.resize_token_embeddings(max(len(tokenizer), model.get_input_embeddings().num_embeddings))
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
