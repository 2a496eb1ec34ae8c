"""Methods on preference pairs, one short file each."""

from __future__ import annotations

from collections.abc import Iterable

from alignzoo import Method, hookimpl

from .alphapo import AlphaPO
from .aot import AOT
from .apo_down import APODown
from .apo_zero import APOZero
from .bco import BCO
from .cdpo import ConservativeDPO
from .cpo import CPO
from .discopop import DiscoPOP
from .dpo import DPO
from .dpo_norm import DPONorm
from .dpop import DPOPositive
from .dr_dpo import DrDPO
from .exo import EXO
from .f_dpo import FDPO
from .ipo import IPO
from .ld_dpo import LDDPO
from .nca import NCA
from .orpo import ORPO
from .r_dpo import LengthRegularisedDPO
from .rdpo import RobustDPO
from .rpo import RPO
from .rso import RSO
from .simpo import SimPO
from .sppo import SPPO

#: In the order of the alphabet; `list` sorts by name.
METHODS: tuple[type[Method], ...] = (
    AOT,
    APODown,
    APOZero,
    AlphaPO,
    BCO,
    CPO,
    ConservativeDPO,
    DPO,
    DPONorm,
    DPOPositive,
    DiscoPOP,
    DrDPO,
    EXO,
    FDPO,
    IPO,
    LDDPO,
    LengthRegularisedDPO,
    NCA,
    ORPO,
    RPO,
    RSO,
    RobustDPO,
    SPPO,
    SimPO,
)


@hookimpl
def alignzoo_methods() -> Iterable[type[Method]]:
    """Return the methods on preference pairs."""
    return METHODS
