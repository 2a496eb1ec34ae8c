"""Builds the configured rewards as TRL calls them, and checks what they return."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig

from alignzoo.config.plain import to_plain
from alignzoo.evaluate.returned import join_from_another_loop, read_list, read_number, wait_for
from alignzoo.plugin.registry import registry
from alignzoo.system.errors import UserError, explain_arguments

if TYPE_CHECKING:
    from datasets import Dataset

    from alignzoo.evaluate.completions import Completion
    from alignzoo.evaluate.yardstick import RowMeasurement
    from alignzoo.plugin.method import Method
    from alignzoo.plugin.reward import Reward

RewardFunction = Callable[..., list[float]]


class Rewards(NamedTuple):
    """The functions of the group ``reward``, as TRL calls them, and their weights."""

    functions: list[RewardFunction]
    weights: list[float]
    stops: list[int]

    def score(self, rows: Dataset, measured: Sequence[RowMeasurement | Completion]) -> list[float]:
        """Return the weighted sum of the rewards of each row's completion."""
        prompts = [json.loads(prompt) for prompt in rows["prompt"]]
        ids = [[self.stops[0]] if answer.ended else [] for answer in measured]
        extras = [json.loads(extra) for extra in rows["extra"]]
        names = dict.fromkeys(name for extra in extras for name in extra)  # a row may lack one
        columns = {name: [extra.get(name) for extra in extras] for name in names}
        inputs = [json.loads(text or "{}") for text in rows["template_inputs"]]
        columns |= {"tools": [given.get("tools") for given in inputs]} if any(map(bool, inputs)) else {}
        totals = [0.0] * len(measured)
        for function, weight in zip(self.functions, self.weights, strict=True):
            scores = function(prompts, [answer.text for answer in measured], ids, **columns)
            totals = [total + weight * score for total, score in zip(totals, scores, strict=True)]
        return totals


def build_configured_rewards(
    cfg: DictConfig, method: type[Method], rows: Dataset, heldout: Dataset, stops: list[int]
) -> Rewards:
    """Return the run's rewards; none where the method does not learn from them and the held-out rows lack a column.

    Raises:
        UserError: as :func:`build_rewards`, where the method learns from them.
    """
    if method.uses_rewards:
        return build_rewards(cfg.reward, set(rows.column_names), stops)
    columns = set(json.loads(heldout[0]["extra"])) if len(heldout) else set()
    if any(registry().reward(str(name)).columns - columns for name in cfg.reward):
        return Rewards([], [], stops)
    return build_rewards(cfg.reward, columns, stops)


def build_rewards(cfg: DictConfig, columns: set[str], stops: list[int]) -> Rewards:
    """Return the group ``reward`` as TRL's reward functions, and their weights.

    Args:
        cfg: the group ``reward``: name -> weight and the reward's own keyword arguments.
        columns: the dataset's columns.
        stops: token ids of EOS.

    Raises:
        UserError: a reward needs a column that the dataset lacks, or does not take one of its keys.
    """
    functions, weights = [], []
    for name, options in ((str(key), value) for key, value in cfg.items()):
        reward_class = registry().reward(name)
        missing = reward_class.columns - columns
        if missing:
            raise UserError(
                f"reward={name} reads the column {', '.join(sorted(missing))}, which the dataset lacks (it has: "
                f"{', '.join(sorted(columns))}).\nMap it: 'dataset.columns={{yours: {min(missing)}}}'."
            )
        arguments: dict[str, Any] = to_plain(options)
        weights.append(float(arguments.pop("weight", 1.0)))
        try:
            reward = reward_class(**arguments)
        except TypeError as error:
            raise UserError(f"reward.{name}: {explain_arguments(error, reward_class)}") from None
        functions.append(wrap_reward(reward, stops))
    return Rewards(functions, weights, stops)


def wrap_reward(reward: Reward, stops: list[int]) -> RewardFunction:
    """Return ``reward`` as a function of its name, since TRL names metrics after functions.

    Where the reward is asynchronous, the function waits for it, and its attribute ``asynchronous`` is a coroutine
    function that does not, for trainers that run several rewards at the same time.
    """
    ends = set(stops)

    def ask(prompts: list[Any], completions: list[Any], ids: list[list[int]], columns: Any) -> tuple[Any, list[str]]:
        """Return what the reward returns, and the completions' texts."""
        texts = [_read_last_text(completion) for completion in completions]
        columns["ended"] = [not ends.isdisjoint(row) for row in ids]  # some trainers pad behind EOS
        columns["whole_prompts"] = [_whole_prompt(prompt) for prompt in prompts]
        return reward([_read_last_text(prompt) for prompt in prompts], texts, **columns), texts

    def function(
        prompts: list[Any], completions: list[Any], completion_ids: list[list[int]], **columns: Any
    ) -> list[float]:
        returned, texts = ask(prompts, completions, completion_ids, columns)
        return _read_scores(reward, wait_for(returned) if inspect.isawaitable(returned) else returned, texts)

    async def asynchronous(
        prompts: list[Any], completions: list[Any], completion_ids: list[list[int]], **columns: Any
    ) -> list[float]:
        returned, texts = ask(prompts, completions, completion_ids, columns)
        return _read_scores(reward, await join_from_another_loop(returned), texts)

    if inspect.iscoroutinefunction(reward.__call__):
        function.asynchronous = _label(asynchronous, reward)  # type: ignore[attr-defined]
    labelled: RewardFunction = _label(function, reward)
    return labelled


def _label(function: Any, reward: Reward) -> Any:
    """Give ``function`` the reward's name, and the reward itself, whose state a checkpoint holds."""
    function.__name__, function.reward = reward.name, reward
    return function


def _read_scores(reward: Reward, returned: Any, texts: Sequence[str]) -> list[float]:
    """Return one finite score for each completion.

    Raises:
        UserError: the reward returned something else.
    """
    name = f"reward={reward.name}"
    scores = []
    for score, text in zip(read_list(name, returned, len(texts), "scores"), texts, strict=True):
        number = read_number(score)
        if number is None:
            shown = repr(score) if isinstance(score, str) else score
            raise UserError(f"{name} returned {shown} for the completion {text[:60]!r}; it must be a finite number.")
        scores.append(number)
    return scores


def _whole_prompt(prompt: Any) -> Any:
    """Return a prompt's messages, or its text where it is a plain one."""
    return prompt if isinstance(prompt, str) or prompt[0]["role"] != "text" else str(prompt[0]["content"])


def _read_last_text(turns: Any) -> str:
    """Return a plain text, or the last message's."""
    return turns if isinstance(turns, str) else str(turns[-1]["content"])
