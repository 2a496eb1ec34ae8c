"""Lets a model answer prompts with tools or in an environment, turn by turn, as TRL's trainers do."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from alignzoo.evaluate.completions import GENERATED_PER_SCORED, Completion, fixed_seed, map_in_batches
from alignzoo.evaluate.generation import generate
from alignzoo.evaluate.kl import Sample

if TYPE_CHECKING:
    from datasets import Dataset
    from omegaconf import DictConfig
    from transformers import PreTrainedTokenizerBase

    from alignzoo.evaluate.toolbox import Toolbox
    from alignzoo.plugin.environment import Environment


class Play(NamedTuple):
    """One completion of several turns, and its tokens."""

    completion: Completion
    sample: Sample


@dataclass
class _Game:
    """A completion while it is written."""

    prompt_ids: list[int]
    environment: Environment | None
    functions: Mapping[str, Callable[..., Any]]
    ids: list[int] = field(default_factory=list)
    written: list[bool] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    """What the model wrote, turn by turn, calls included."""

    answer: str = ""
    """Its last turn without calls."""

    turns: int = 0

    @property
    def is_over(self) -> bool:
        return self.environment is not None and self.environment.over

    def add(self, ids: Sequence[int], written: bool) -> None:
        self.ids += ids
        self.written += [written] * len(ids)


class Player:
    """Plays prompts with a toolbox; the settings are those of the yardstick."""

    def __init__(
        self,
        toolbox: Toolbox,
        tokenizer: PreTrainedTokenizerBase,
        eos_ids: Sequence[int],
        limit: int,
        batch: int,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """``tokenizer``: prepared by :func:`alignzoo.models.calls.prepare_calls`; ``limit``: tokens of a completion.

        ``batch``: rows scored at once; ``template_kwargs``: further arguments of the chat template.
        """
        from alignzoo.models.calls import find_training_template

        self.toolbox, self.tokenizer, self.eos_ids = toolbox, tokenizer, list(eos_ids)
        self.limit, self.batch, self.template_kwargs = limit, batch, dict(template_kwargs or {})
        self.schemas = toolbox.schemas
        self.template = find_training_template(tokenizer)

    def play(self, model: Any, rows: Sequence[Mapping[str, Any]], sampled: bool = False) -> list[Play]:
        """Return one play for each row, which has ``prompt`` (messages) and further columns.

        Greedy, or ``sampled`` at temperature 1: the same whenever the same model is asked.
        """

        def play_batch(chosen: list[int]) -> list[Play]:
            with fixed_seed(chosen[0]):
                return self._play_batch(model, [rows[place] for place in chosen], sampled)

        return map_in_batches(play_batch, range(len(rows)), GENERATED_PER_SCORED * self.batch)

    def complete(self, model: Any, rows: Dataset, samples: bool) -> tuple[list[Completion], list[Sample]]:
        """Return a greedy completion of each canonical row and, where ``samples`` are asked for, a sampled one.

        Environments get the rows as trainers that sample do: prompt and further columns.
        """
        read = [{**json.loads(r["extra"]), "id": r["id"], "prompt": json.loads(r["prompt"])} for r in rows]
        played = self.play(model, read, sampled=True) if samples else []
        return [play.completion for play in self.play(model, read)], [play.sample for play in played]

    def _play_batch(self, model: Any, rows: Sequence[Mapping[str, Any]], sampled: bool) -> list[Play]:
        games = [self._begin(row) for row in rows]
        writing = games
        for turn in range(self.toolbox.turns + 1):
            limit = min(self.toolbox.turn_tokens or self.limit, self.limit)
            contexts = [game.prompt_ids + game.ids for game in writing]
            new = generate(model, self.tokenizer, contexts, self.eos_ids, limit, sampled=(sampled,))
            calls = [self._write_turn(*given) for given in zip(writing, contexts, new, strict=True)]
            if turn == self.toolbox.turns:
                break
            answered = [self._answer(game, called) for game, called in zip(writing, calls, strict=True)]
            writing = [game for game, goes_on in zip(writing, answered, strict=True) if goes_on]
            if not writing:
                break
        return [self._finish(game) for game in games]

    def _begin(self, row: Mapping[str, Any]) -> _Game:
        prompt, environment = copy.deepcopy(row["prompt"]), None
        if self.toolbox.environment:
            environment = self.toolbox.environment()
            prompt[-1]["content"] += environment.reset(**row) or ""
        functions = {function.__name__: function for function in self.toolbox.list_functions(environment)}
        rendered = self.tokenizer.apply_chat_template(
            prompt,
            tools=self.schemas,
            chat_template=self.template,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            **self.template_kwargs,
        )
        return _Game(list(rendered["input_ids"]), environment, functions)

    def _write_turn(self, game: _Game, context: list[int], new: list[int]) -> list[dict[str, Any]]:
        """Add what the model wrote, as far as there is room, and return its calls."""
        from trl.chat_template_utils import parse_response

        kept, game.answer = new[: self.limit - len(game.ids)], ""
        if not kept:
            return []
        game.add(kept, written=True)
        game.texts.append(str(self.tokenizer.decode(kept, skip_special_tokens=True)).strip())
        message = parse_response(self.tokenizer, kept, prefix=context, tools=self.schemas)
        game.answer = str(message["content"]).strip()
        return list(message.get("tool_calls") or [])

    def _answer(self, game: _Game, calls: list[dict[str, Any]]) -> bool:
        """Run the calls and add what they give; return whether the model writes another turn."""
        if not calls or game.is_over:
            return False
        game.turns += 1
        answers = [_call(game.functions, call) for call in calls]
        if game.is_over:
            return False
        suffix = self._render_answers(answers)
        if len(game.ids) + len(suffix) > self.limit:
            return False
        game.add(suffix, written=False)
        return True

    def _render_answers(self, answers: list[dict[str, str]]) -> list[int]:
        """Return the token ids between two turns of the model, by TRL's own function."""
        from trl import GRPOTrainer

        trainer = SimpleNamespace(
            processing_class=self.tokenizer,
            _tokenizer=self.tokenizer,
            chat_template=self.template,
            chat_template_kwargs=self.template_kwargs,
            _is_vlm=False,
        )
        return list(GRPOTrainer._get_tool_suffix_ids(trainer, answers))

    def _finish(self, game: _Game) -> Play:
        tokens = sum(by for by, token in zip(game.written, game.ids, strict=True) if token not in self.eos_ids)
        ended = game.is_over or (bool(game.ids) and game.ids[-1] in self.eos_ids)
        played = game.environment
        facts = (bool(played.success), played.reward) if played else (None, None)
        text = "\n".join(game.texts) if played else game.answer
        done = Completion(text, tokens, ended, game.answer, game.turns, *facts)
        return Play(done, Sample(game.prompt_ids, game.ids, game.written))


def make_player(
    toolbox: Toolbox | None, cfg: DictConfig, tokenizer: Any, eos_ids: Sequence[int], kwargs: Mapping[str, Any]
) -> Player | None:
    """Return what plays the held-out rows by the group ``evaluate``, ``cfg``; None without a toolbox."""
    return toolbox and Player(toolbox, tokenizer, eos_ids, cfg.max_new_tokens, cfg.batch_size, kwargs)


def _call(functions: Mapping[str, Callable[..., Any]], call: dict[str, Any]) -> dict[str, str]:
    """Return the message of the tool that ``call`` asks for, as TRL makes it."""
    asked = call.get("function", call)
    name = str(asked["name"])
    try:
        if name not in functions:
            raise ValueError(f"Tool {name} not found.")
        result = functions[name](**asked["arguments"])
    except Exception as error:  # the model reads it, and may try again
        result = {"error": str(error)}
    return {"role": "tool", "name": name, "content": str(result)}
