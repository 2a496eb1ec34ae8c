"""Methods that sample completions and learn from their rewards, one short file each."""

from __future__ import annotations

from collections.abc import Iterable

from alignzoo import Method, hookimpl

from .cispo import CISPO
from .dapo import DAPO
from .dr_grpo import DrGRPO
from .gdpo import GDPO
from .gmpo import GMPO
from .grpo import GRPO
from .gspo import GSPO
from .lite_ppo import LitePPO
from .luspo import LUSPO
from .online_dpo import OnlineDPO
from .ppo import PPO
from .reinforce_pp import ReinforcePP
from .remax import ReMax
from .rloo import RLOO
from .sapo import SAPO
from .vespo import VESPO

#: In the order of the alphabet; `list` sorts by name.
METHODS: tuple[type[Method], ...] = (
    CISPO,
    DAPO,
    DrGRPO,
    GDPO,
    GMPO,
    GRPO,
    GSPO,
    LUSPO,
    LitePPO,
    OnlineDPO,
    PPO,
    RLOO,
    ReMax,
    ReinforcePP,
    SAPO,
    VESPO,
)


@hookimpl
def alignzoo_methods() -> Iterable[type[Method]]:
    """Return the methods that sample."""
    return METHODS
