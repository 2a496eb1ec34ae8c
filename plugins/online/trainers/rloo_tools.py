"""RLOO with tools and environments, which TRL's RLOOTrainer lacks: its sampling is that of TRL's GRPOTrainer.

The functions of GRPOTrainer that write a completion turn by turn are borrowed as they are. What tools wrote gets the
log-probability 0, as if it were certain, so that neither ratio nor KL penalty nor gradient holds any of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from trl import GRPOTrainer, RLOOTrainer
from trl.trainer.utils import pad

from alignzoo.models.calls import find_training_template
from alignzoo.plugin.environment import find_actions

if TYPE_CHECKING:
    from alignzoo import Environment

Batch = dict[str, Any]


class RLOOToolsTrainer(RLOOTrainer):
    """TRL's RLOOTrainer with ``tools`` and ``environment_factory``, as GRPOTrainer has them."""

    _tokenize_prompts = GRPOTrainer._tokenize_prompts
    _tool_call_loop = GRPOTrainer._tool_call_loop
    _get_tool_suffix_ids = GRPOTrainer._get_tool_suffix_ids

    def __init__(
        self,
        *args: Any,
        tools: Sequence[Callable[..., str]] = (),
        environment_factory: Callable[[], Environment] | None = None,
        turns: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.standalone_tools, self.max_tool_calling_iterations = list(tools), turns
        self.pool = [environment_factory()] if environment_factory else []
        self.tools = self._list_functions(self.pool[0] if self.pool else None)
        self.chat_template = find_training_template(self.processing_class)
        # What GRPOTrainer's functions read.
        self.rollout_func = None
        self.environment_factories = {None: environment_factory} if environment_factory else None
        self._env_tools = {None: self.tools}
        self.tool_mask = torch.empty(0)

    def _list_functions(self, environment: Environment | None) -> list[Callable[..., str]]:
        actions = [getattr(environment, name) for name in find_actions(type(environment))] if environment else []
        return [*self.standalone_tools, *actions]

    def _generate_and_score_completions(self, inputs: list[Batch]) -> Batch:
        """Begin the environments, sample and score; ``tool_mask``, (rows, tokens), is 1 where the policy wrote."""
        rows = self._begin(inputs)
        self._async_tool_dicts: list[dict[str, Any]] = [{} for _ in rows]
        self._batch_environments = [None] * len(rows)
        batch: Batch = super()._generate_and_score_completions(rows)
        self._correct_mean("kl", batch["completion_mask"])
        return {**batch, "tool_mask": self.tool_mask}

    def _begin(self, inputs: list[Batch]) -> list[Batch]:
        """Return the rows with their environments, which rewards read, and what these add to the prompts."""
        functions = [{function.__name__: function for function in self.tools}] * len(inputs)
        if self.environment_factories is None:
            self._sync_tool_dicts = functions
            return inputs
        while len(self.pool) < len(inputs):
            self.pool.append(self.environment_factories[None]())
        rows, self._sync_tool_dicts = [], []
        for environment, row in zip(self.pool, inputs, strict=False):
            added = environment.reset(**row) or ""
            last = row["prompt"][-1]
            prompt = [*row["prompt"][:-1], {**last, "content": last["content"] + added}]
            rows.append({**row, "prompt": prompt, "environments": environment})
            self._sync_tool_dicts.append(
                {function.__name__: function for function in self._list_functions(environment)}
            )
        return rows

    def _generate(self, prompts: list[Any]) -> tuple[Any, Any, Any]:
        ids, completion_ids, written, completions, *_ = GRPOTrainer._generate(self, prompts)
        masks = [torch.tensor(row) for row in written]
        how = {"padding_side": "right", "pad_to_multiple_of": self.pad_to_multiple_of}
        self.tool_mask = pad(masks, padding_value=0, **how).to(self.accelerator.device)
        return ids, completion_ids, completions

    def _generate_single_turn(self, *args: Any, **more: Any) -> tuple[Any, None]:
        """Return the ids as GRPOTrainer's function does; it hands over the group's size too, and asks for images."""
        return super()._generate_single_turn(*args[:3]), None

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None, Any]:
        """Return log-probabilities and entropies, (rows, tokens), 0 where a tool wrote."""
        logps, entropies, loss = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        by_tools = self.tool_mask == 0
        return logps.masked_fill(by_tools, 0), None if entropies is None else entropies.masked_fill(by_tools, 0), loss

    def _compute_loss(self, model: Any, inputs: Batch) -> Tensor:
        self.tool_mask = inputs["tool_mask"]
        loss: Tensor = super()._compute_loss(model, inputs)
        self._correct_mean("entropy", inputs["completion_mask"])
        return loss

    def _correct_mean(self, name: str, completion_mask: Tensor) -> None:
        """Divide the latest value of a metric by the tokens that the policy wrote, and not by all of the completion."""
        values = self._metrics["train" if self.model.training else "eval"].get(name)
        counts = torch.stack([completion_mask.sum(), (completion_mask * self.tool_mask).sum()]).float()
        every, written = self.accelerator.reduce(counts, reduction="sum").tolist()
        if values:
            values[-1] *= every / max(written, 1.0)
