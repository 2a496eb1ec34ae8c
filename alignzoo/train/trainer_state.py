"""Saves and restores the training state that transformers and TRL leave out of a checkpoint.

As of TRL 1.16 and transformers 5.23: GRPO's sampled block and its place in it (``steps_per_generation``,
``num_iterations``), a reference that moves (``sync_ref_model``), losses and metrics since the last logged line, and the
state of callbacks and rewards. Random states, optimizer, schedule and scaler are in transformers' own files.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Of transformers' Trainer, TRL's GRPO, TRL's other trainers, and TRL's ORPO. A trainer lacks some of them.
ATTRIBUTES = (
    *("_tr_loss", "_total_loss_scalar", "_globalstep_last_logged"),
    *("_step", "_buffered_inputs", "_logs"),
    *("_metrics", "_total_train_tokens"),
    "_stored_metrics",
)


def save_rest(trainer: Any, folder: Path) -> None:
    """Write this rank's part, and on the main rank the reference if it moves."""
    import torch

    rest = {name: _to_loadable(getattr(trainer, name)) for name in ATTRIBUTES if hasattr(trainer, name)}
    states = {name: _to_loadable(thing.state_dict()) for name, thing in _list_stateful(trainer)}
    torch.save({"attributes": rest, "states": states}, folder / _name_file(trainer))
    if _syncs_reference(trainer) and trainer.is_world_process_zero():
        reference = trainer.accelerator.unwrap_model(trainer.ref_model)
        torch.save(reference.state_dict(), folder / "reference.pth")


def load_rest(trainer: Any, folder: Path) -> None:
    """Restore it. Called after transformers has set up the training, before the first step."""
    import torch

    device = trainer.args.device
    place = "cpu" if device.type == "cpu" else device  # several processes' is cpu:0, to which torch cannot load
    rest = torch.load(folder / _name_file(trainer), map_location=place, weights_only=True)
    for name, value in rest["attributes"].items():
        _bring_back(trainer, name, value)
    for name, thing in _list_stateful(trainer):
        if name in rest["states"]:
            thing.load_state_dict(rest["states"][name])
    if _syncs_reference(trainer):
        reference = trainer.accelerator.unwrap_model(trainer.ref_model)
        reference.load_state_dict(torch.load(folder / "reference.pth", map_location="cpu", weights_only=True))


def _name_file(trainer: Any) -> str:
    return f"rest_{trainer.args.process_index}.pth"


def _syncs_reference(trainer: Any) -> bool:
    return bool(getattr(trainer.args, "sync_ref_model", False))


def _list_stateful(trainer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the callbacks and rewards that have a state, each with its class's name and its number among these.

    Not its place among all: another tracker brings other callbacks.
    """
    seen: Counter[str] = Counter()
    rewards = (getattr(function, "reward", None) for function in getattr(trainer, "reward_funcs", []))
    for thing in [*trainer.callback_handler.callbacks, *rewards]:
        if hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict"):
            name = type(thing).__qualname__
            yield f"{name}-{seen[name]}", thing
            seen[name] += 1


def _to_loadable(value: Any) -> Any:
    """Return ``value`` without the containers that torch does not load again: deques, dicts with defaults."""
    if isinstance(value, dict):
        return {key: _to_loadable(inner) for key, inner in value.items()}
    if isinstance(value, list | deque):
        return [_to_loadable(inner) for inner in value]
    return value.item() if type(value).__module__ == "numpy" and value.ndim == 0 else value


def _bring_back(trainer: Any, name: str, value: Any) -> None:
    found = getattr(trainer, name, None)
    if isinstance(found, dict):
        _fill(found, value)
    else:
        setattr(trainer, name, value)


def _fill(target: Any, value: dict[Any, Any]) -> None:
    """Put values into dicts that make their own entries, which stay what they are: lists, deques, further dicts."""
    for key, inner in value.items():
        try:
            place = target[key]
        except KeyError:
            target[key] = inner
            continue
        if isinstance(place, dict):
            _fill(place, inner)
        elif isinstance(place, list | deque):
            place.clear()
            place.extend(inner)
        else:
            target[key] = inner
