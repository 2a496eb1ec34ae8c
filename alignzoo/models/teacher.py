"""Finds and loads the teacher: the frozen model of the group ``teacher``, from which a method learns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from alignzoo.models import load, start_model
from alignzoo.models.embeddings import count_embeddings
from alignzoo.models.pretrained import RemoteCode
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from alignzoo.config.checked import Checked

#: A key or a choice of the group ``model`` in an error: of the teacher's, it is the group ``teacher`` that says it.
MODEL = re.compile(r"\bmodel(?==|\.(?:path|revision|gguf_file|wheel|sha256|dtype|trust_remote_code)\b)")

#: The logit of a token that the student has and the teacher has not: its probability is 0, and a KL stays finite.
NEVER = -100.0


def read_settings(cfg: DictConfig, precision: str = "fp32") -> DictConfig:
    """Return ``cfg`` with the teacher in the place of the model, whole and without an adapter.

    ``precision`` is that in which the run computes: ``teacher.dtype=auto`` follows it.
    """
    own = {"chat_template": None, "resize_embeddings": False, "dtype": _choose_dtype(cfg, precision)}
    model = OmegaConf.merge(cfg.model, cfg.teacher, own)
    inside = Path(model.path).expanduser() / "model" if model.path else None
    if inside and any((inside / name).is_file() for name in ("config.json", "adapter_config.json")):
        model.path = str(inside)
    return OmegaConf.create({"model": model, "peft": {"name": "none"}})


def _choose_dtype(cfg: DictConfig, precision: str) -> str:
    return load.weight_dtype(cfg.teacher.dtype, adapter=True, precision=precision)  # as frozen as what is below one


def find_teacher(cfg: DictConfig, tokenizer: PreTrainedTokenizerBase) -> Path | None:
    """Return the teacher's folder, made or downloaded if need be; None where there is no teacher.

    Raises:
        UserError: it is not there, or its tokens are not those of ``tokenizer``, the student's.
    """
    if cfg.teacher.name == "none":
        return None
    settings = read_settings(cfg)
    with explain_as_teacher():
        folder = start_model.start_folder(settings.model)
        other = load.load_tokenizer(folder, settings.model).get_vocab()
    _refuse_other_tokens(cfg, tokenizer.get_vocab(), other)
    return folder


def _refuse_other_tokens(cfg: DictConfig, own: dict[str, int], other: dict[str, int]) -> None:
    """Refuse vocabularies that differ in a token or its id, special tokens included."""
    unlike = sorted(token for token in own.keys() | other.keys() if own.get(token) != other.get(token))
    if unlike:
        raise UserError(
            f"teacher={cfg.teacher.name} has other tokens than model={cfg.model.name} ({len(unlike):,}, as "
            f"{unlike[0]!r}), and next tokens are compared one by one: take a teacher of the model's own family."
        )


def load_teacher(folder: Path, checked: Checked, student: Path) -> PreTrainedModel:
    """Return the teacher in ``folder``: frozen, in evaluation mode, with as many logits as the model in ``student``.

    Raises:
        UserError: as :func:`alignzoo.models.load.load_policy`.
    """
    cfg = checked.cfg
    with explain_as_teacher():
        model = load.load_frozen(folder, read_settings(cfg, checked.precision))
    logits = count_embeddings(student, RemoteCode.of(cfg.model))
    if logits is not None:
        match_logits(model, logits)
    return model.to(checked.device).eval().requires_grad_(False)


def match_logits(model: PreTrainedModel, logits: int) -> None:
    """Give ``model`` so many logits: many models are published with more embeddings than their tokenizer has tokens.

    Logits of no token are left out, and missing ones are :data:`NEVER`.
    """
    known = model.get_output_embeddings().weight.shape[0]
    if known > logits:
        model.resize_token_embeddings(logits)
    elif known < logits:
        model.set_output_embeddings(_widen(model.get_output_embeddings(), logits))
        model.config.get_text_config().vocab_size = logits
        model.config.get_text_config().tie_word_embeddings = False


def _widen(head: Any, logits: int) -> Any:
    """Return a last layer with more rows, whose logits are :data:`NEVER`."""
    import torch

    known, width = head.weight.shape
    wide = torch.nn.Linear(width, logits, dtype=head.weight.dtype, device=head.weight.device)
    with torch.no_grad():
        wide.weight.zero_()[:known] = head.weight
        wide.bias.fill_(NEVER)[:known] = 0.0 if head.bias is None else head.bias
    return wide


@contextmanager
def explain_as_teacher() -> Iterator[None]:
    """Let errors about the model name the group ``teacher``."""
    try:
        yield
    except UserError as error:
        raise UserError(MODEL.sub("teacher", str(error))) from error.__cause__
