"""alignzoo: alignment methods as plugins around TRL, composed by Hydra, measured by one yardstick.

What this module exports is the public interface for plugins.
"""

from alignzoo.plugin.answer_loss import AnswerLoss, Marked
from alignzoo.plugin.batch import Batch
from alignzoo.plugin.environment import Environment
from alignzoo.plugin.groups import check_groups
from alignzoo.plugin.hooks import hookimpl
from alignzoo.plugin.judge import Judge
from alignzoo.plugin.method import DataFormat, Method, ModelKind
from alignzoo.plugin.pair_loss import PairLoss, Pairs, check_beta
from alignzoo.plugin.reward import Reward
from alignzoo.plugin.tool import Tool
from alignzoo.plugin.train_parts import TrainParts
from alignzoo.system.errors import UserError

__all__ = [
    "AnswerLoss",
    "Batch",
    "DataFormat",
    "Environment",
    "Judge",
    "Marked",
    "Method",
    "ModelKind",
    "PairLoss",
    "Pairs",
    "Reward",
    "Tool",
    "TrainParts",
    "UserError",
    "check_beta",
    "check_groups",
    "hookimpl",
]
