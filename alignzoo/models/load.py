"""Policy, tokenizer and adapter, each in the precision that the device supports."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from alignzoo.config.check import ADAPTER_KEYS
from alignzoo.config.plain import plain
from alignzoo.models import start_model
from alignzoo.models.start_model import is_scorer
from alignzoo.models.tiny import CHATML
from alignzoo.plugin.method import ModelKind
from alignzoo.system.errors import UserError
from alignzoo.system.process_cache import process_cache

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


#: Sizes of a model that must be free in memory for a sweep to keep it beside its members: weights, gradients and Adam's
#: two moments of the member, and a fifth for activations.
ROOM = 5


def load_tokenizer(folder: Path, cfg: DictConfig) -> PreTrainedTokenizerBase:
    """Return the tokenizer with a pad token, padding on the left, and the template of ``model.chat_template``."""
    from transformers import AutoTokenizer

    with _explained(cfg.name, folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=cfg.trust_remote_code, padding_side="left")
    if tokenizer.eos_token is None:
        raise UserError(f"the tokenizer of model={cfg.name} has no EOS token: no answer would ever end.")
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

    The members of a sweep each get a copy of one that is read once, where memory allows.

    Raises:
        UserError: as :func:`load_weights`, or the folder holds a reward model.
    """
    from transformers import AutoModelForCausalLM

    if is_scorer(folder):  # with tied embeddings transformers would make a language model of it without a word
        raise UserError(f"model={cfg.model.name} ({folder}) is a reward model: it gives scores, and no answers.")
    return load_weights(AutoModelForCausalLM, folder, cfg, precision)


def load_weights(
    auto: Any, folder: Path, cfg: DictConfig, precision: str, new: tuple[str, ...] = (), **more: Any
) -> PreTrainedModel:
    """Return the model of class ``auto``; weights whose names begin as ``new`` says may be missing, and are random.

    Raises:
        UserError: the folder has no safetensors, needs remote code, or holds weights that are not finite.
    """
    dtype = weight_dtype(cfg.model.dtype, cfg.peft.name != "none", precision)

    def load() -> PreTrainedModel:
        return _loaded(auto, folder, cfg, dtype, new, more)

    if process_cache().in_sweep and not cfg.peft.get("quantization"):
        key = json.dumps([auto.__name__, start_model.identity(folder), plain(cfg.model), dtype, new, str(more)])
        model = _copied(process_cache().get("model", key, load))
    else:
        model = load()
    _check_targets(model, cfg.peft.get("target_modules"))
    return model


def _copied(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of the model that is kept, or itself where there is no room to keep it."""
    import psutil

    if psutil.virtual_memory().available > ROOM * model.get_memory_footprint():
        return copy.deepcopy(model)
    process_cache().drop("model")
    return model


def _loaded(
    auto: Any, folder: Path, cfg: DictConfig, dtype: str, new: tuple[str, ...], more: Mapping[str, Any]
) -> PreTrainedModel:
    import torch

    arguments = {"dtype": getattr(torch, dtype), "trust_remote_code": cfg.model.trust_remote_code, **more}
    if cfg.model.attn_implementation:
        arguments["attn_implementation"] = cfg.model.attn_implementation
    if cfg.peft.get("quantization"):
        arguments |= {"quantization_config": _quantization(cfg.peft.quantization), "device_map": {"": 0}}
    with _explained(cfg.model.name, folder), _whole():
        model, loaded = auto.from_pretrained(folder, use_safetensors=True, output_loading_info=True, **arguments)
    absent = [name for name in loaded["missing_keys"] if not name.startswith(new or "?")]
    missing = sorted([*absent, *(name for name, *_ in loaded["mismatched_keys"])])
    if missing:
        raise UserError(
            f"model={cfg.model.name} ({folder}): {len(missing)} weights are missing or of another shape, {missing[0]} "
            "first: they would be random."
        )
    _refuse_broken(model, cfg.model.name)
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
    from peft import PeftModel

    base = load_policy(start, cfg, precision)
    with _explained(cfg.model.name, folder):
        return PeftModel.from_pretrained(base, folder).to(device).eval(), True


@contextmanager
def _whole() -> Iterator[None]:
    """Load every weight whole: under ZeRO-3 transformers would leave each process a share, and none can be measured."""
    from transformers.integrations import deepspeed

    known = deepspeed._hf_deepspeed_config_weak_ref
    # patch: transformers deepspeed._hf_deepspeed_config_weak_ref
    deepspeed._hf_deepspeed_config_weak_ref = None
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = known


@contextmanager
def _explained(name: str, folder: Path) -> Iterator[None]:
    """Turn what the libraries raise about a broken folder, of a dozen kinds, into one line."""
    try:
        yield
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"model={name} ({folder}) cannot be loaded: {reason}") from error


def _refuse_broken(model: Any, name: str) -> None:
    bad = next((key for key, weight in model.named_parameters() if not bool(weight.isfinite().all())), None)
    if bad:
        raise UserError(f"model={name}: the weight {bad} has NaN or infinite values. Take another checkpoint.")


def _check_targets(model: Any, targets: Any) -> None:
    """Refuse modules for an adapter that the model does not have: a list's names are endings, a text is a pattern."""
    names = [name for name, _ in model.named_modules()]
    if targets is None or targets == "all-linear":
        return
    if isinstance(targets, str):
        unknown = [] if any(re.fullmatch(targets, name) for name in names) else [targets]
    else:
        unknown = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in names)]
    if unknown:
        known = sorted({name.rpartition(".")[2] for name, module in model.named_modules() if _is_linear(module)})
        raise UserError(f"peft.target_modules: the model has no {', '.join(unknown)}; it has {', '.join(known)}.")


def _is_linear(module: Any) -> bool:
    import torch

    return isinstance(module, torch.nn.Linear)


def _quantization(cfg: DictConfig) -> Any:
    from transformers import BitsAndBytesConfig

    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise UserError("peft=qlora needs bitsandbytes: pip install 'alignzoo[qlora]'.") from None
    return BitsAndBytesConfig(**plain(cfg))


def adapter_config(cfg: DictConfig, kind: ModelKind = ModelKind.POLICY) -> PeftConfig | None:
    """Return the LoRA configuration of ``peft``, or None where all weights train; a reward model's head trains too."""
    if cfg.name == "none":
        return None
    from peft import LoraConfig

    fields = {key: value for key, value in plain(cfg).items() if key not in ADAPTER_KEYS}
    return LoraConfig(task_type="SEQ_CLS" if kind is ModelKind.REWARD_MODEL else "CAUSAL_LM", **fields)


def stop_ids(folder: Path, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the token ids at which answers end: those of the folder's generation config, and the tokenizer's EOS."""
    from transformers import GenerationConfig

    configured = None
    if (folder / "generation_config.json").is_file():
        with _explained(folder.name, folder):
            configured = GenerationConfig.from_pretrained(folder).eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return list(dict.fromkeys(i for i in [*ids, tokenizer.eos_token_id] if i is not None))
