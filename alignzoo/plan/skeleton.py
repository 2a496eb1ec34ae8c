"""Builds a model without weights, of fake tensors, from its config alone."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alignzoo.models import load, start_model, teacher
from alignzoo.models.adapter import adapter_config
from alignzoo.models.pretrained import RemoteCode, build_model, read_config
from alignzoo.plugin.method import ModelKind
from alignzoo.system.errors import UserError
from alignzoo.system.hub import explain_hub_error

if TYPE_CHECKING:
    from omegaconf import DictConfig


def load_model_config(cfg: DictConfig) -> Any:
    """Return the transformers config of the model that the group ``model`` names; of a hub's, only config.json is read.

    Raises:
        UserError: it is not there, or cannot be reached.
    """
    folder, more = start_model.config_source(cfg)
    try:
        return read_config(folder, RemoteCode.of(cfg), **more)
    except UserError:
        raise
    except Exception as error:  # the hub's client raises a dozen kinds
        raise UserError(f"model={cfg.name} ({folder}): {explain_hub_error(error)}") from error


@dataclass(frozen=True)
class Skeleton:
    """A model of fake tensors, and the mode in which these are made."""

    model: Any
    mode: Any
    config: Any

    quantized: int = 0
    """Weights that are stored in 4 bits; the skeleton has them in the precision in which they are multiplied."""

    @property
    def is_adapted(self) -> bool:
        """Whether only an adapter trains."""
        return hasattr(self.model, "get_base_model")

    @property
    def core(self) -> Any:
        """The model without its adapter's wrapper."""
        return self.model.get_base_model() if self.is_adapted else self.model

    @property
    def parameters(self) -> int:
        """All weights, the adapter's included; tied ones count once."""
        return sum(weight.numel() for weight in self.model.parameters())

    @property
    def trained(self) -> int:
        """Weights that train."""
        return sum(weight.numel() for weight in self.model.parameters() if weight.requires_grad)

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights and buffers, those in 4 bits counted so."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        whole = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return int(whole - self.quantized * (2 - NF4_BITS / 8))

    @property
    def gradient_bytes(self) -> int:
        """Bytes of the gradients of all weights that train."""
        return sum(w.numel() * w.element_size() for w in self.model.parameters() if w.requires_grad)

    @property
    def head(self) -> Any:
        """The weight of the last layer, (vocabulary, width); of a reward model, (1, width)."""
        return (self.core.get_output_embeddings() or self.core.score).weight

    @property
    def largest(self) -> int:
        """Bytes of the largest weight that trains."""
        return int(max(w.numel() * w.element_size() for w in self.model.parameters() if w.requires_grad))

    @property
    def layer_bytes(self) -> int:
        """Bytes of the largest block of layers, which a sharded model gathers at a time."""
        blocks = [layer for module in self.model.modules() if _is_list(module) for layer in module]
        return max((sum(w.numel() * w.element_size() for w in block.parameters()) for block in blocks), default=0)


#: Bits of a weight in NF4 with double quantization: 4, and 0.127 for the constants (Dettmers et al., 2023, section 3).
NF4_BITS = 4.127


def build_teacher(cfg: DictConfig, precision: str, student: Skeleton) -> Skeleton | None:
    """Return the teacher beside the ``student``, with its logits and in its mode; None where there is no teacher.

    Raises:
        UserError: as :func:`load_model_config`.
    """
    if cfg.teacher.name == "none":
        return None
    settings = teacher.read_settings(cfg, precision)
    with teacher.explain_as_teacher():
        config = copy.copy(load_model_config(settings.model))
    config.get_text_config().vocab_size = student.head.shape[0]
    made = build_skeleton(config, settings, precision, settings.peft, mode=student.mode)
    made.model.requires_grad_(False)
    return made


def build_skeleton(
    config: Any,
    cfg: DictConfig,
    precision: str,
    peft: DictConfig,
    trains: ModelKind = ModelKind.POLICY,
    mode: Any = None,
) -> Skeleton:
    """Return the model that a run would train, of fake tensors on the CPU.

    ``config`` is the model's; ``cfg`` the run's; ``precision`` fp32, bf16 or fp16; ``peft`` the group's choice;
    ``mode`` that of another skeleton that it computes with.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    auto: Any = AutoModelForCausalLM
    if trains is ModelKind.REWARD_MODEL:
        auto, config = AutoModelForSequenceClassification, copy.copy(config)
        config.num_labels, config.pad_token_id = 1, 0  # there is no padding, any id will do
    dtype = load.weight_dtype(cfg.model.dtype, peft.name != "none", precision)
    quantized = bool(peft.get("quantization"))
    with torch.device("meta"):
        model = build_model(
            auto,
            config,
            RemoteCode.of(cfg.model),
            dtype=torch.bfloat16 if quantized else getattr(torch, dtype),
            attn_implementation=cfg.model.attn_implementation or "sdpa",
        )
        linear = sum(w.numel() for w in _list_quantizable(model)) if quantized else 0
        adapter = adapter_config(peft, trains)
        if adapter is not None:
            from peft import get_peft_model

            model = get_peft_model(model, adapter)
    mode = mode or FakeTensorMode(allow_non_fake_inputs=True)
    _make_fake(model, mode)
    return Skeleton(model, mode, config, linear)


def _make_fake(model: Any, mode: Any) -> None:
    """Put fake tensors, which say that they are on the CPU, in the place of meta ones, for which attention differs.

    peft can only add an adapter before that. Tied weights stay tied.
    """
    import torch

    made: dict[int, Any] = {}
    with mode:
        for module in model.modules():
            for table in (module._parameters, module._buffers):
                for name, tensor in table.items():
                    if tensor is not None and id(tensor) not in made:
                        fake = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
                        is_weight = isinstance(tensor, torch.nn.Parameter)
                        made[id(tensor)] = torch.nn.Parameter(fake, tensor.requires_grad) if is_weight else fake
                    if tensor is not None:
                        table[name] = made[id(tensor)]


def _list_quantizable(model: Any) -> list[Any]:
    """Return the weights that bitsandbytes puts into 4 bits: those of linear layers but the output's."""
    import torch

    head = model.get_output_embeddings()
    return [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]


def _is_list(module: Any) -> bool:
    import torch

    return isinstance(module, torch.nn.ModuleList)
