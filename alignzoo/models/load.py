"""Loads tokenizers and models: those that train, those that were trained, and those that only answer."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from alignzoo.config.plain import to_plain
from alignzoo.models import start_model
from alignzoo.models.adapter import check_targets, quantization_config
from alignzoo.models.broken import explain_errors, refuse_not_finite, refuse_random
from alignzoo.models.embeddings import guard_embeddings
from alignzoo.models.pretrained import RemoteCode, is_scorer, read_adapter, read_model, read_tokenizer
from alignzoo.models.tiny import CHATML
from alignzoo.system.errors import UserError
from alignzoo.system.process_cache import process_cache

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


#: Memory that must be free for a sweep to cache a model beside its jobs, over the model's size: weights, gradients and
#: Adam's two moments of a job, and a fifth for activations.
FREE_MEMORY_FACTOR = 5


def load_tokenizer(folder: Path, cfg: DictConfig) -> PreTrainedTokenizerBase:
    """Return the tokenizer with a pad token, padding on the left, and the template of ``model.chat_template``."""
    with explain_errors(f"model={cfg.name} ({folder})"):
        tokenizer = read_tokenizer(folder, RemoteCode.of(cfg), padding_side="left")
    if tokenizer.eos_token is None:
        raise UserError(f"the tokenizer of model={cfg.name} has no EOS token: no completion would ever end.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # rows carry their own masks, so EOS is still trained
    if cfg.chat_template == "chatml":
        tokenizer.chat_template = CHATML
    elif cfg.chat_template:
        tokenizer.chat_template = _template(cfg.chat_template)
    return tokenizer


def _template(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"model.chat_template={path}: {error.strerror}. Name a Jinja file, or chatml.") from None


def load_policy(folder: Path, cfg: DictConfig, precision: str) -> PreTrainedModel:
    """Return the start model, ready to train: float32 where all weights train, unless ``model.dtype`` says otherwise.

    The jobs of a sweep each get a copy of one that is read once, where memory allows.

    Raises:
        UserError: as :func:`load_weights`, or the folder holds a reward model.
    """
    from transformers import AutoModelForCausalLM

    _refuse_scorer(folder, cfg)
    return load_weights(AutoModelForCausalLM, folder, cfg, precision)


def load_frozen(folder: Path, cfg: DictConfig) -> PreTrainedModel:
    """Return the causal model in ``folder`` that does not train, in ``model.dtype``; the jobs of a sweep share none.

    Raises:
        UserError: as :func:`load_policy`.
    """
    from transformers import AutoModelForCausalLM

    _refuse_scorer(folder, cfg)
    return _read_weights(AutoModelForCausalLM, folder, cfg, cfg.model.dtype, (), {})


def _refuse_scorer(folder: Path, cfg: DictConfig) -> None:
    if is_scorer(folder):  # with tied embeddings transformers would make a language model of it without a word
        raise UserError(f"model={cfg.model.name} ({folder}) is a reward model: it gives scores, and no answers.")


def load_weights(
    auto: Any, folder: Path, cfg: DictConfig, precision: str, new: tuple[str, ...] = (), **more: Any
) -> PreTrainedModel:
    """Return the model of class ``auto``; weights whose names begin as ``new`` says may be missing, and are random.

    Raises:
        UserError: the folder has no safetensors, needs remote code, or holds weights that are not finite.
    """
    dtype = weight_dtype(cfg.model.dtype, cfg.peft.name != "none", precision)

    def load() -> PreTrainedModel:
        return _read_weights(auto, folder, cfg, dtype, new, more)

    if process_cache().in_sweep and not cfg.peft.get("quantization"):
        key = json.dumps([auto.__name__, start_model.identity(folder), to_plain(cfg.model), dtype, new, str(more)])
        model = _copy(process_cache().get("model", key, load))
    else:
        model = load()
    check_targets(model, cfg.peft.get("target_modules"))
    return model


def _copy(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of the cached model, or the model itself where there is no memory to cache it."""
    import psutil

    if psutil.virtual_memory().available > FREE_MEMORY_FACTOR * model.get_memory_footprint():
        return copy.deepcopy(model)
    process_cache().drop("model")
    return model


def _read_weights(
    auto: Any, folder: Path, cfg: DictConfig, dtype: str, new: tuple[str, ...], more: Mapping[str, Any]
) -> PreTrainedModel:
    import torch

    arguments = {"dtype": getattr(torch, dtype), **more}
    if cfg.model.attn_implementation:
        arguments["attn_implementation"] = cfg.model.attn_implementation
    if cfg.peft.get("quantization"):
        arguments |= {"quantization_config": quantization_config(cfg.peft.quantization), "device_map": {"": 0}}
    what = f"model={cfg.model.name} ({folder})"
    with explain_errors(what), _without_sharding():
        model, loaded = read_model(auto, folder, RemoteCode.of(cfg.model), output_loading_info=True, **arguments)
    refuse_random(what, loaded, new)
    refuse_not_finite(f"model={cfg.model.name}", model)
    loaded_model: PreTrainedModel = model
    return loaded_model


def weight_dtype(wanted: str, adapter: bool, precision: str) -> str:
    """Return the dtype of the weights for ``model.dtype``: auto is bfloat16 only where an adapter trains in bf16."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if adapter and precision == "bf16" else "float32"


def load_trained(folder: Path, start: Path, cfg: DictConfig, device: str, precision: str) -> tuple[Any, bool]:
    """Return the model saved in ``folder``, and whether it is the model in ``start`` under an adapter.

    Raises:
        UserError: as :func:`load_policy`, or the adapter does not fit.
    """
    if not (folder / "adapter_config.json").is_file():
        return load_policy(folder, cfg, precision).to(device).eval(), False
    base = load_policy(start, cfg, precision)
    with explain_errors(f"model={cfg.model.name} ({folder})"):
        return read_adapter(base, folder).to(device).eval(), True


def load_further(
    path: str, cfg: DictConfig, device: str, precision: str, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel:
    """Return a model beside the one that trains, such as a teacher: frozen, in evaluation mode.

    ``path`` is what ``model.path`` takes, or a run folder. ``tokenizer`` is that of the rows, some of which may be
    beyond the model's embeddings: it then raises :class:`UserError` where it meets one.

    Raises:
        UserError: as :func:`load_policy`, or it is not there.
    """
    try:
        folder = start_model.find_further(cfg.model, path)
    except UserError as error:
        raise UserError(str(error).removeprefix("model.path=")) from error
    model = load_policy(folder, cfg, precision)
    guard_embeddings(model, tokenizer, path)
    return model.to(device).eval().requires_grad_(False)


def load_for_generation(
    source: str | Path, device: str, code: RemoteCode, revision: str | None = None, adapter: Path | None = None
) -> tuple[Any, PreTrainedTokenizerBase]:
    """Return a saved causal model in evaluation mode, and its tokenizer: that of the ``adapter`` if it has one.

    ``source`` is a folder or a hub id. On a GPU weights keep their precision; on a CPU, where bf16 is many times
    slower, they become float32.
    """
    from transformers import AutoModelForCausalLM

    own_tokenizer = adapter and (adapter / "tokenizer_config.json").is_file()
    tokenizer = read_tokenizer(adapter if adapter and own_tokenizer else source, code, revision=revision)
    dtype = "float32" if device == "cpu" else "auto"
    model = read_model(AutoModelForCausalLM, source, code, revision=revision, dtype=dtype).to(device)
    if adapter:
        model = read_adapter(model, adapter)
    guard_embeddings(model, tokenizer, str(adapter or source))
    return model.eval(), tokenizer


@contextmanager
def _without_sharding() -> Iterator[None]:
    """Load every weight whole: under ZeRO-3 transformers would leave each process a share, and none can be measured."""
    from transformers.integrations import deepspeed

    known = deepspeed._hf_deepspeed_config_weak_ref
    # patch: transformers deepspeed._hf_deepspeed_config_weak_ref
    deepspeed._hf_deepspeed_config_weak_ref = None
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = known


def read_eos_ids(folder: Path, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the token ids at which completions end: those of the generation config, and the tokenizer's EOS."""
    from transformers import GenerationConfig

    configured = None
    if (folder / "generation_config.json").is_file():
        with explain_errors(f"model={folder.name} ({folder})"):
            configured = GenerationConfig.from_pretrained(folder).eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    for i in ids:
        if i is not None and (not isinstance(i, int) or i < 0):
            raise UserError(f"{folder / 'generation_config.json'}: eos_token_id={i!r} is not the number of a token.")
    return list(dict.fromkeys(i for i in [*ids, tokenizer.eos_token_id] if i is not None))
