"""The value head: a linear layer on the policy's last hidden state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FILE = "value_head.safetensors"  #: beside the policy's weights, which no loader of a policy reads


class ValueHead(nn.Module):
    """What reward is still to come, from the hidden state from which the next token is chosen.

    It starts at 0, in float32 whatever the policy's precision: the first advantages are the rewards themselves.
    """

    def __init__(self, width: int) -> None:
        """Make it for hidden states of ``width`` numbers."""
        super().__init__()
        self.linear = nn.Linear(width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Return (answers, tokens) values of (answers, tokens, width) hidden states."""
        values: Tensor = self.linear(states.float()).squeeze(-1)
        return values

    def save(self, folder: Path) -> None:
        """Write :data:`FILE` into ``folder``."""
        save_file({name: weight.detach().cpu() for name, weight in self.state_dict().items()}, folder / FILE)

    def load(self, folder: Path) -> None:
        """Read :data:`FILE` from ``folder``."""
        self.load_state_dict(load_file(folder / FILE))


@contextmanager
def answer_states(model: Any, tokens: int) -> Iterator[list[Tensor]]:
    """Collect, of each forward pass, the last hidden states from which the last ``tokens`` tokens are chosen.

    Each is (answers, tokens, width). TRL's chunked log-probabilities never make them part of the model's output.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, arguments: Any, output: Any) -> None:
        seen.append(output.last_hidden_state[:, -tokens - 1 : -1])

    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    hook = causal.base_model.register_forward_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()
