"""Tells the keys that go to a method's TRL config from those that alignzoo reads itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alignzoo.config.plain import to_plain

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from alignzoo.plugin.method import Method

#: Keys of `train` that the core turns into TRL's own.
OWN_TRAIN_KEYS = frozenset(
    {
        *("global_batch_size", "per_device_batch_size", "per_device_batch_tokens", "max_length", "precision"),
        *("gradient_checkpointing", "budget", "stop_before"),
    }
)

OWN_METHOD_KEYS = frozenset({"name", "learning_rates"})  #: keys of `method` that no TRL config has


def trl_items(cfg: DictConfig, group: str, method: type[Method]) -> dict[str, Any]:
    """Return the keys of ``cfg.<group>`` that go to the TRL config, as plain containers."""
    own = OWN_METHOD_KEYS | method.options if group == "method" else OWN_TRAIN_KEYS
    items: dict[str, Any] = to_plain(cfg[group])
    return {key: value for key, value in items.items() if key not in own}
