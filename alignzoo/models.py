"""Policy, tokenizer, adapter and reward model, each in the precision that the device supports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from alignzoo.chatml import CHATML
from alignzoo.data.sources import hub_reason
from alignzoo.errors import UserError
from alignzoo.plain import plain

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_tokenizer(folder: Path, cfg: DictConfig) -> PreTrainedTokenizerBase:
    """Return the tokenizer with a pad token, padding on the left, and the template of ``model.chat_template``."""
    from transformers import AutoTokenizer

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


def load_policy(folder: Path, cfg: DictConfig, device: str, precision: str) -> PreTrainedModel:
    """Return the start model, ready to train: float32 where all weights train, unless ``model.dtype`` says otherwise.

    Raises:
        UserError: the folder has no safetensors, needs remote code, or holds weights that are not finite.
    """
    import torch
    from transformers import AutoModelForCausalLM

    adapter = cfg.peft.name != "none"
    dtype = cfg.model.dtype
    if dtype == "auto":
        dtype = "bfloat16" if adapter and precision == "bf16" else "float32"
    arguments: dict[str, Any] = {"dtype": getattr(torch, dtype), "trust_remote_code": cfg.model.trust_remote_code}
    if cfg.model.attn_implementation:
        arguments["attn_implementation"] = cfg.model.attn_implementation
    if cfg.peft.get("quantization"):
        arguments |= {"quantization_config": _quantization(cfg.peft.quantization), "device_map": {"": 0}}
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, **arguments)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"model={cfg.model.name} ({folder}): {str(error).splitlines()[0]}") from error
    _refuse_broken(model, cfg.model.name)
    return model


def _refuse_broken(model: Any, name: str) -> None:
    bad = next((key for key, weight in model.named_parameters() if not bool(weight.isfinite().all())), None)
    if bad:
        raise UserError(f"model={name}: the weight {bad} has NaN or infinite values. Take another checkpoint.")


def _quantization(cfg: DictConfig) -> Any:
    from transformers import BitsAndBytesConfig

    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise UserError("peft=qlora needs bitsandbytes: pip install 'alignzoo[qlora]'.") from None
    return BitsAndBytesConfig(**plain(cfg))


def adapter_config(cfg: DictConfig) -> PeftConfig | None:
    """Return the LoRA configuration of ``peft``, or None where all weights train."""
    if cfg.name == "none":
        return None
    from peft import LoraConfig

    own = {"name", "rate", "quantization"}
    fields = {key: value for key, value in plain(cfg).items() if key not in own}
    try:
        return LoraConfig(task_type="CAUSAL_LM", **fields)
    except TypeError as error:
        raise UserError(f"peft: {str(error).split('__init__() ')[-1]}") from None


def stop_ids(folder: Path, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the token ids at which answers end: those of the folder's generation config, and the tokenizer's EOS."""
    from transformers import GenerationConfig

    configured = None
    if (folder / "generation_config.json").is_file():
        configured = GenerationConfig.from_pretrained(folder).eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return list(dict.fromkeys(i for i in [*ids, tokenizer.eos_token_id] if i is not None))


def load_classifier(path: str, revision: str | None) -> tuple[Any, Any]:
    """Return a sequence-classification model with one output, in evaluation mode, and its tokenizer."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
        model = AutoModelForSequenceClassification.from_pretrained(path, revision=revision, use_safetensors=True)
    except Exception as error:  # the hub's client raises a dozen kinds
        raise UserError(f"reward.model.path={path}: {hub_reason(error)}") from error
    if model.config.num_labels != 1:
        raise UserError(f"reward.model.path={path} has {model.config.num_labels} outputs; a reward model has one.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer
