"""alignzoo: alignment methods as plugins around TRL, composed by Hydra, measured by one yardstick.

What this module exports is the public interface for plugins.
"""

from alignzoo.errors import UserError
from alignzoo.groups import check_groups
from alignzoo.hookspecs import hookimpl
from alignzoo.judge import Judge
from alignzoo.method import DataFormat, Method, ModelKind, TrainParts
from alignzoo.reward import Reward
from alignzoo.verify.batch import Batch

__all__ = [
    "Batch",
    "DataFormat",
    "Judge",
    "Method",
    "ModelKind",
    "Reward",
    "TrainParts",
    "UserError",
    "check_groups",
    "hookimpl",
]
