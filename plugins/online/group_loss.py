"""What the methods share whose loss is one of those that TRL's GRPOTrainer has."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from alignzoo import DataFormat, Method, TrainParts, UserError, check_groups

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from transformers import Trainer

#: What selects and changes TRL's losses, at values that change nothing of GRPO's.
UNREAD: Mapping[str, Any] = {
    "loss_type": "grpo",
    "importance_sampling_level": "token",
    "scale_rewards": "group",
    "multi_objective_aggregation": "sum_then_normalize",
    "top_entropy_quantile": 1.0,
    "delta": None,
    "mask_truncated_completions": False,
    "off_policy_mask_threshold": None,
    "entropy_coef": 0.0,
    "use_adaptive_entropy": False,
}


def pin(*free: str, **chosen: Any) -> dict[str, Any]:
    """Return ``pinned`` for a loss of TRL's: its options are ``chosen``, or change nothing, but for those ``free``."""
    return {key: chosen.get(key, value) for key, value in UNREAD.items() if key not in free}


def check_clip(cfg: DictConfig) -> None:
    """Refuse a clip range that holds no ratio but 1, or all of them downwards; for :meth:`Method.check`."""
    for key in ("epsilon", "epsilon_high"):
        value = cfg.method.get(key)
        if value is not None and value <= 0:
            raise UserError(f"method.{key}={value} must be above 0: it is how far a ratio may move from 1.")


def check_tries(cfg: DictConfig) -> None:
    """Refuse dynamic sampling of less than no try, and beside advantages of which each depends on the whole batch."""
    tries = cfg.method.get("dynamic_sampling", 0)
    if not isinstance(tries, int) or isinstance(tries, bool) or tries < 0:
        raise UserError(f"method.dynamic_sampling={tries} must be a whole number: tries for each batch, 0 for none.")
    if tries and cfg.method.get("scale_rewards") == "batch":
        raise UserError(
            f"method.dynamic_sampling={tries}: method.scale_rewards=batch compares all groups of a batch, so that none "
            "can be replaced: leave one of the two out."
        )


def check_curriculum(cfg: DictConfig) -> None:
    """Refuse a curriculum whose column is not a name, a goal that is not a number, and a goal without a curriculum."""
    column, goal = cfg.method.get("curriculum"), cfg.method.get("curriculum_reward", 0.5)
    if column is not None and (not isinstance(column, str) or not column.strip()):
        raise UserError(f"method.curriculum={column} must name the dataset's column with each prompt's difficulty.")
    if isinstance(goal, bool) or not isinstance(goal, int | float) or not math.isfinite(goal):
        raise UserError(f"method.curriculum_reward={goal} must be a number: the mean reward at which prompts stay.")
    if column is None and "curriculum_reward" in cfg.method:
        raise UserError(f"method.curriculum_reward={goal} does nothing without +method.curriculum=COLUMN.")


class GroupLoss(Method):
    """A loss of TRL's GRPOTrainer under the name of its paper; subclasses pin it, and give the paper's equation."""

    data = DataFormat.PROMPTS
    config = "trl:GRPOConfig"
    trainer = tools_trainer = "trl:GRPOTrainer"
    whole_logits = False
    uses_rewards = True
    row_options = frozenset({"curriculum", "curriculum_reward"})
    options = frozenset({"dynamic_sampling"}) | row_options
    headline = {"reward": "reward", "reward_std": "spread", "completions/mean_length": "tokens"}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse groups that cannot be compared or do not fill a batch, and a penalty or clip range that is none."""
        check_groups(cfg)
        check_clip(cfg)
        check_tries(cfg)
        check_curriculum(cfg)
        if cfg.method.get("beta", 0) < 0:
            raise UserError(f"method.beta={cfg.method.beta} must be 0 (no KL penalty) or above.")

    @classmethod
    def holds_reference(cls, cfg: DictConfig) -> bool:
        """Only the KL penalty needs one."""
        return bool(cfg.method.get("beta", 0) > 0)

    def build_trainer(self, parts: TrainParts) -> Trainer:
        """Choose prompts by difficulty where ``method.curriculum`` names a column.

        Let groups without spread be sampled anew where ``method.dynamic_sampling`` says how often.
        """
        method, bases, facts = parts.cfg.method, [parts.trainer], {"__module__": parts.trainer.__module__}
        if method.get("dynamic_sampling", 0):
            from .trainers.dynamic import DynamicSampling

            bases.insert(0, DynamicSampling)
            facts["tries"] = method.dynamic_sampling
        if method.get("curriculum") is not None:
            from .trainers.curriculum import Curriculum

            bases.insert(0, Curriculum)
            facts |= {"column": method.curriculum, "goal": method.get("curriculum_reward", 0.5)}
        if len(bases) == 1:
            return super().build_trainer(parts)
        mixed = type(parts.trainer.__name__, tuple(bases), facts)
        return super().build_trainer(dataclasses.replace(parts, trainer=mixed))
