"""Methods on preference pairs, one short file each."""

from __future__ import annotations

from collections.abc import Iterable

from alignzoo import Method, hookimpl

from .alphapo import AlphaPO
from .aot import AOT
from .apo_down import APODown
from .apo_zero import APOZero
from .bco import BCO
from .cal_dpo import CalDPO
from .cdpo import ConservativeDPO
from .chipo import ChiPO
from .cpo import CPO
from .discopop import DiscoPOP
from .dpo import DPO
from .dpo_norm import DPONorm
from .dpo_shift import DPOShift
from .dpop import DPOPositive
from .dr_dpo import DrDPO
from .exo import EXO
from .f_dpo import FDPO
from .focalpo import FocalPO
from .ipo import IPO
from .ld_dpo import LDDPO
from .mpo import MPO
from .nca import NCA
from .odpo import ODPO
from .orpo import choose_orpo
from .r_dpo import LengthRegularisedDPO
from .rdpo import RobustDPO
from .rpo import RPO
from .rso import RSO
from .sampo import SamPO
from .simpo import SimPO
from .sppo import SPPO
from .tpo import TPO
from .tr_dpo import TRDPO
from .wpo import WPO

#: In the order of the alphabet; `list` sorts by name.
METHODS: tuple[type[Method], ...] = (
    AOT,
    APODown,
    APOZero,
    AlphaPO,
    BCO,
    CPO,
    CalDPO,
    ChiPO,
    ConservativeDPO,
    DPO,
    DPONorm,
    DPOPositive,
    DPOShift,
    DiscoPOP,
    DrDPO,
    EXO,
    FDPO,
    FocalPO,
    IPO,
    LDDPO,
    LengthRegularisedDPO,
    MPO,
    NCA,
    ODPO,
    choose_orpo(),
    RPO,
    RSO,
    RobustDPO,
    SPPO,
    SamPO,
    SimPO,
    TPO,
    TRDPO,
    WPO,
)


@hookimpl
def alignzoo_methods() -> Iterable[type[Method]]:
    """Return the methods on preference pairs."""
    return METHODS
