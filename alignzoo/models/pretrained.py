"""Reads configurations, tokenizers, models and adapters that were saved: the only place that calls ``from_pretrained``.

Code that lies beside a model's weights runs with all rights of the user. transformers asks on the terminal whether it
may, where it was not told; here every call tells it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.models.broken import explain_errors
from alignzoo.models.config_bounds import check_config
from alignzoo.system.errors import UserError
from alignzoo.system.hub import hub
from alignzoo.system.parsing import parse_file

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from transformers import PreTrainedTokenizerBase

#: What transformers says of code that it was not allowed to run.
NEEDS_CODE = re.compile(r"custom (modeling |generation )?code|execute custom code|trust_remote_code=True")


@dataclass(frozen=True)
class RemoteCode:
    """Whether code that lies beside a model's weights may run, and the word with which the user allows it."""

    allowed: bool
    switch: str = "model.trust_remote_code=true"

    def __post_init__(self) -> None:
        """Take nothing but true for true."""
        if not isinstance(self.allowed, bool):
            key = self.switch.partition("=")[0]
            raise UserError(f"{key}={self.allowed!r} is neither true nor false.")

    @classmethod
    def of(cls, model: DictConfig) -> RemoteCode:
        """Return what the group ``model`` says."""
        return cls(model.trust_remote_code)


def read_config(source: str | Path, code: RemoteCode, **more: Any) -> Any:
    """Return the configuration of the model in the folder, or of the hub id, ``source``.

    Raises:
        UserError: it needs code that may not run.
    """
    from transformers import AutoConfig

    with _explain_code(source, code):
        check_config(source, **more)
        return AutoConfig.from_pretrained(source, trust_remote_code=code.allowed, **more)


def read_tokenizer(source: str | Path, code: RemoteCode, **more: Any) -> PreTrainedTokenizerBase:
    """Return its tokenizer.

    Raises:
        UserError: as :func:`read_config`.
    """
    from transformers import AutoTokenizer

    from alignzoo.models.templates import bound_templates

    bound_templates()
    with _explain_code(source, code):
        check_config(source, **{key: more[key] for key in ("revision", "gguf_file") if key in more})
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source, trust_remote_code=code.allowed, **more
        )
    return tokenizer


def read_model(auto: Any, source: str | Path, code: RemoteCode, **more: Any) -> Any:
    """Return the model of transformers' class ``auto``, from safetensors alone: other formats can hold code.

    Raises:
        UserError: as :func:`read_config`, or its config.json names an attention kernel that would be downloaded.
    """
    with _explain_code(source, code):
        which: dict[str, Any] = {key: more[key] for key in ("revision", "gguf_file") if key in more}
        check_config(source, **which)
        if not code.allowed:
            _refuse_kernel(source, code, which)
        return auto.from_pretrained(source, trust_remote_code=code.allowed, **{"use_safetensors": True, **more})


def build_model(auto: Any, config: Any, code: RemoteCode, **more: Any) -> Any:
    """Return a model of transformers' class ``auto`` with random weights.

    Raises:
        UserError: as :func:`read_config`.
    """
    with _explain_code(config.name_or_path, code):
        return auto.from_config(config, trust_remote_code=code.allowed, **more)


def read_adapter(model: Any, folder: Path) -> Any:
    """Return ``model`` with the adapter of ``folder`` on it; PEFT runs no code of a folder.

    Raises:
        UserError: PEFT does not know the adapter's kind, or cannot load it.
    """
    from peft import PeftModel, PeftType

    file = folder / "adapter_config.json"
    kind = parse_file(file, lambda text: json.loads(text).get("peft_type"))
    if kind not in list(PeftType):
        known = ", ".join(sorted(PeftType))
        raise UserError(f"{file} names the peft_type {kind!r}, which this PEFT does not know. It knows {known}.")
    with explain_errors(f"the adapter {folder}"):
        return PeftModel.from_pretrained(model, folder)


def _refuse_kernel(source: str | Path, code: RemoteCode, more: Mapping[str, Any]) -> None:
    """Refuse a config.json that names a kernel of the hub as its attention: transformers would download and run it."""
    named = read_config(source, code, **more)._attn_implementation
    if named and "/" in named:
        raise UserError(
            f"{source} takes its attention from {named}, a program that would be downloaded and run.\n"
            f"Name another with model.attn_implementation, or trust it and add {code.switch}."
        )


def is_scorer(folder: Path) -> bool:
    """Tell whether a folder holds a sequence classifier, such as a reward model, and no language model."""
    file = folder / "config.json"
    try:
        names = json.loads(file.read_text(encoding="utf-8")).get("architectures") or []
    except (OSError, ValueError, AttributeError, RecursionError):
        return False  # whoever loads it says what is wrong
    return any(str(name).endswith("ForSequenceClassification") for name in names)


@contextmanager
def _explain_code(source: str | Path, code: RemoteCode) -> Iterator[None]:
    try:
        with hub().reading(source), _trust_all_its_code(code.allowed):
            yield
    except RuntimeError as error:
        folder = Path(source)
        is_gguf = folder.is_dir() and not (folder / "config.json").is_file()  # which says its shapes itself
        if "ignore_mismatched_sizes" not in str(error) or is_gguf:
            raise
        raise UserError(f"{source}: its weights have other shapes than its config.json says. Take its own.") from error
    except (ValueError, OSError) as error:
        if code.allowed or not NEEDS_CODE.search(str(error)):
            raise
        raise UserError(
            f"{source} comes with Python code of its own, which would run with all your rights.\n"
            f"Read it first; to let it run, add {code.switch}."
        ) from error


@contextmanager
def _trust_all_its_code(allowed: bool) -> Iterator[None]:
    """Where a model's code may run, let it build other models of its own: transformers asks anew for each of them."""
    from transformers.models.auto import auto_factory

    before = auto_factory.resolve_trust_remote_code

    def resolve(trusted: bool | None, *args: Any, **more: Any) -> Any:
        return before(allowed or None if trusted is None else trusted, *args, **more)

    # patch: transformers auto_factory.resolve_trust_remote_code
    auto_factory.resolve_trust_remote_code = resolve
    try:
        yield
    finally:
        auto_factory.resolve_trust_remote_code = before
