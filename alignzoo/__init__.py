"""alignzoo: alignment methods as plugins around TRL, composed by Hydra, measured by one yardstick.

What this module exports is the public interface for plugins.
"""

from alignzoo.errors import UserError
from alignzoo.hookspecs import hookimpl
from alignzoo.method import DataFormat, Method, TrainParts
from alignzoo.reward import Reward

__all__ = ["DataFormat", "Method", "Reward", "TrainParts", "UserError", "hookimpl"]
