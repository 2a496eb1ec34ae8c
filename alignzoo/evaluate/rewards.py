"""Builds the configured rewards as TRL calls them, and checks what they return."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence, Set
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig

from alignzoo.config.plain import to_plain
from alignzoo.evaluate.returned import join_from_another_loop, read_list, read_number, wait_for
from alignzoo.plugin.registry import registry
from alignzoo.system.errors import UserError, explain_arguments

if TYPE_CHECKING:
    from datasets import Dataset

    from alignzoo.evaluate.completions import Completion
    from alignzoo.plugin.method import Method
    from alignzoo.plugin.reward import Reward

RewardFunction = Callable[..., list[float]]


class Rewards(NamedTuple):
    """The functions of the group ``reward`` and of the environment, as TRL calls them, and their weights."""

    functions: list[RewardFunction]
    weights: list[float]
    stops: list[int]

    def score(self, rows: Dataset, answers: Sequence[Completion]) -> list[float]:
        """Return the weighted sum of the rewards of each held-out row's greedy completion."""
        prompts = [json.loads(prompt) for prompt in rows["prompt"]]
        ids = [[self.stops[0]] if answer.ended else [] for answer in answers]
        extras = [json.loads(extra) for extra in rows["extra"]]
        names = dict.fromkeys(name for extra in extras for name in extra)  # a row may lack one
        columns = {name: [extra.get(name) for extra in extras] for name in names}
        inputs = [json.loads(text or "{}") for text in rows["template_inputs"]]
        columns |= {"tools": [given.get("tools") for given in inputs]} if any(map(bool, inputs)) else {}
        totals = [0.0] * len(answers)
        for function, weight in zip(self.functions, self.weights, strict=True):
            scores = function(prompts, [a.last_turn for a in answers], ids, environments=list(answers), **columns)
            totals = [total + weight * score for total, score in zip(totals, scores, strict=True)]
        return totals


def build_configured_rewards(
    cfg: DictConfig, method: type[Method], rows: Dataset, heldout: Dataset, stops: list[int]
) -> Rewards:
    """Return the run's rewards, that of the environment last.

    None of the group ``reward`` where the method does not learn from them and the held-out rows lack a column.

    Raises:
        UserError: as :func:`build_rewards`, where the method learns from them.
    """
    if method.uses_rewards:
        found = build_rewards(cfg.reward, set(rows.column_names), stops)
    else:
        columns = set(json.loads(heldout[0]["extra"])) if len(heldout) else set()
        known = not any(registry().reward(str(name)).columns - columns for name in cfg.reward)
        found = build_rewards(cfg.reward, columns, stops) if known else Rewards([], [], stops)
    if cfg.environment.name == "none":
        return found
    weight = float(cfg.environment.get("weight", 1.0))
    return Rewards([*found.functions, wrap_environment(str(cfg.environment.name))], [*found.weights, weight], stops)


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
        refuse_missing_columns(f"reward={name}", reward_class.columns, columns)
        arguments: dict[str, Any] = to_plain(options)
        weights.append(float(arguments.pop("weight", 1.0)))
        try:
            reward = reward_class(**arguments)
        except TypeError as error:
            raise UserError(f"reward.{name}: {explain_arguments(error, reward_class)}") from None
        functions.append(wrap_reward(reward, stops))
    return Rewards(functions, weights, stops)


def refuse_missing_columns(reader: str, read: Set[str], columns: Set[str]) -> None:
    """Refuse a dataset of these ``columns`` that lacks some of those that are ``read``; ``reader``: as it was chosen.

    Raises:
        UserError: with the words that map a column.
    """
    missing = sorted(read - columns)
    if missing:
        named = f"the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        there = f"it has: {', '.join(sorted(columns))}" if columns else "it has no further columns"
        raise UserError(
            f"{reader} reads {named}, which the dataset lacks ({there}).\n"
            f"Map it: 'dataset.columns={{yours: {missing[0]}}}'."
        )


def wrap_reward(reward: Reward, stops: list[int]) -> RewardFunction:
    """Return ``reward`` as a function of its name, since TRL names metrics after functions.

    Where the reward is asynchronous, the function waits for it, and its attribute ``asynchronous`` is a coroutine
    function that does not, for trainers that run several rewards at the same time.
    """
    ends = set(stops)

    def ask(prompts: list[Any], completions: list[Any], ids: list[list[int]], columns: Any) -> tuple[Any, list[str]]:
        """Return what the reward returns, and the completions' texts."""
        texts = [_read_answer(completion) for completion in completions]
        columns.pop("environments", None)
        columns["ended"] = [_has_ended(*given, ends) for given in zip(completions, ids, strict=True)]
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


def wrap_environment(name: str) -> RewardFunction:
    """Return the reward of the environments that completions have acted in, as TRL calls it."""

    def function(
        prompts: list[Any], completions: list[Any], completion_ids: Any, environments: list[Any], **columns: Any
    ) -> list[float]:
        scores = []
        for environment in environments:
            number = read_number(environment.reward)
            if number is None:
                raise UserError(
                    f"environment={name}: its reward is {environment.reward!r}; it must be a finite number."
                )
            scores.append(number)
        return scores

    function.__name__ = name
    return function


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


def _read_answer(completion: Any) -> str:
    """Return the text of a completion, or of its last turn; nothing where a tool has the last word."""
    if not isinstance(completion, str) and completion[-1]["role"] == "tool":
        return ""
    return _read_last_text(completion)


def _has_ended(completion: Any, ids: list[int], ends: set[int]) -> bool:
    """Tell whether a completion ended with EOS, which stands behind each of several turns.

    One of a single turn may have padding behind EOS, which some trainers leave there.
    """
    if isinstance(completion, str) or len(completion) == 1:
        return not ends.isdisjoint(ids)
    return bool(ids) and ids[-1] in ends


def _read_last_text(turns: Any) -> str:
    """Return a plain text, or the last message's."""
    return turns if isinstance(turns, str) else str(turns[-1]["content"])
