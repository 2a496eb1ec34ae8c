"""Measures a model by tasks of lm-evaluation-harness, with the score of every item."""

from __future__ import annotations

import copy
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from alignzoo.config.tasks import KEY
from alignzoo.evaluate.harness import LoadedTask, fixed_random_numbers
from alignzoo.evaluate.yardstick import evaluation_mode, read_rows, write_rows
from alignzoo.runs.contents import is_number
from alignzoo.system import cache, ranks
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from transformers import PreTrainedTokenizerBase

VERSION = 1  #: raised whenever the same model would get other scores


@dataclass(frozen=True)
class ItemScores:
    """One model's scores on one item of a task."""

    task: str
    part: str
    """The harness's name of the task, within a group."""

    item: int
    """Its place in the task's data, from 0."""

    hash: str
    """Of its content."""

    scores: dict[str, float]
    """By metric, and filter where there are several."""

    answer: str | None
    """What the model wrote; None where it ranked given answers."""


class TaskYardstick:
    """The tasks by which start and trained model are measured, as :class:`alignzoo.evaluate.yardstick.Yardstick` is.

    Where the model writes its answers it is asked through its chat template, if it has one; where it ranks given
    answers by their likelihood, by the task's plain text, as the harness does for both by itself.
    """

    def __init__(
        self,
        cfg: DictConfig,
        tasks: Sequence[LoadedTask],
        tokenizer: PreTrainedTokenizerBase,
        template_arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """``cfg`` is the group ``evaluate``; ``template_arguments`` go to the chat template."""
        self.cfg, self.tasks = cfg, tasks
        self.tokenizer, self.template_arguments = copy.deepcopy(tokenizer), dict(template_arguments or {})

    @property
    def objective(self) -> str:
        """Empty: no run aims at a benchmark."""
        return ""

    def measure_start(self, model: Any, identity: str) -> list[ItemScores]:
        """Measure the start model, or read its scores from the cache: once per model, tasks and settings."""
        key = json.dumps([VERSION, identity, str(model.dtype), *self._describe()], default=str)
        entry = cache.make_folder("measured") / hashlib.sha256(key.encode()).hexdigest()[:32]
        known = ranks.broadcast(read_rows(entry) if ranks.rank() == 0 else None)
        if known is not None:
            return [ItemScores(**row) for row in known]
        measured = self.measure(model, None)
        write_rows(entry, measured)
        return measured

    def measure(self, model: Any, start: Callable[[], Any] | None) -> list[ItemScores]:
        """Score the items; processes share them, the model is left in the mode it came in, ``start`` is not needed.

        Raises:
            UserError: a task has no score for each item, or lacks data of a library of its own.
        """
        count = ranks.world_size()
        with evaluation_mode(model), fixed_random_numbers():
            found = ranks.share_work(lambda part: self._score(model, part, count), range(count))
        places = {(one.name, one.part): place for place, one in enumerate(self.tasks)}
        items = sorted((item for part in found for item in part), key=lambda i: (places[i.task, i.part], i.item))
        for one in self.tasks:
            if not any(item.scores for item in items if item.part == one.part):
                raise UserError(f"{KEY}: {one.part} has no score for each item, only one for all. Leave it out.")
        return items

    def make_lines(self, before: Sequence[ItemScores], after: Sequence[ItemScores]) -> list[dict[str, Any]]:
        """Return one line per item, as ``tasks.jsonl`` holds them."""
        lines = []
        for first, second in zip(before, after, strict=True):
            item = {key: getattr(second, key) for key in ("task", "part", "item", "hash")}
            sides = {"before": first, "after": second}
            lines.append(item | {side: {"scores": one.scores, "answer": one.answer} for side, one in sides.items()})
        return lines

    def _describe(self) -> list[Any]:
        """Return what the scores depend on, beside the model."""
        import importlib.metadata

        tasks = [(one.name, one.task.dump_config(), _name_data(one.task)) for one in self.tasks]
        template = [self.tokenizer.chat_template, self.template_arguments]
        return [importlib.metadata.version("lm_eval"), self.cfg.task_items, *template, *tasks]

    def _score(self, model: Any, part: int, parts: int) -> list[ItemScores]:
        """Return the scores of every ``parts``-th item, from ``part`` on."""
        harness_model = self._wrap_model(model)
        samples: dict[str, list[Any]] = {}
        for generates in (True, False):
            chosen = {one.part: one.task for one in self.tasks if one.generates is generates}
            items = {name: self._choose_items(task)[part::parts] for name, task in chosen.items()}
            items = {name: places for name, places in items.items() if places}
            chats = generates and bool(self.tokenizer.chat_template)
            samples |= _ask(harness_model, {name: chosen[name] for name in items}, items, chats) if items else {}
        return [item for one in self.tasks for item in _read_items(one, samples.get(one.part, []))]

    def _wrap_model(self, model: Any) -> Any:
        """Return the model as the harness asks it, with bars on a terminal alone."""
        from lm_eval.models.huggingface import HFLM

        found = HFLM(
            pretrained=model,
            tokenizer=self.tokenizer,
            batch_size=self.cfg.batch_size,
            chat_template_args=self.template_arguments,
        )
        for name in ("loglikelihood", "loglikelihood_rolling", "generate_until"):
            setattr(found, name, partial(getattr(found, name), disable_tqdm=not sys.stderr.isatty()))
        return found

    def _choose_items(self, task: Any) -> range:
        count = len(task.eval_docs)
        return range(min(count, self.cfg.task_items or count))


def _ask(harness_model: Any, tasks: Mapping[str, Any], items: Mapping[str, range], chats: bool) -> dict[str, list[Any]]:
    """Return what the harness says of each item of each task.

    Raises:
        UserError: NLTK lacks data, which are downloads of its own.
    """
    from lm_eval.evaluator import evaluate

    try:
        found: Any = evaluate(
            harness_model,
            {"tasks": dict(tasks), "groups": {}, "group_map": {}},
            samples=dict(items),
            bootstrap_iters=0,
            apply_chat_template=chats,
            fewshot_as_multiturn=chats,
        )
    except LookupError as error:
        if "nltk" not in str(error).lower():
            raise
        said = " ".join(str(error).replace("*", " ").split())[:200]
        raise UserError(f"{KEY}: {', '.join(tasks)}: {said}") from error
    samples: dict[str, list[Any]] = found["samples"]
    return samples


def _name_data(task: Any) -> list[str]:
    """Return what changes with the task's data: the fingerprints of its splits."""
    splits = getattr(task, "dataset", None)
    rows = splits.values() if isinstance(splits, Mapping) else [task.eval_docs]
    return [str(getattr(split, "_fingerprint", split)) for split in rows]


def _read_items(one: LoadedTask, samples: Sequence[Mapping[str, Any]]) -> Iterator[ItemScores]:
    """Yield the items of one task, their metrics of all filters together."""
    items: dict[int, ItemScores] = {}
    for sample in samples:
        place = int(sample["doc_id"])
        answer = str(sample["resps"][0][0]) if one.generates else None
        known = items.setdefault(place, ItemScores(one.name, one.part, place, str(sample["doc_hash"])[:16], {}, answer))
        known.scores.update(_read_scores(sample))
    yield from items.values()


def _read_scores(sample: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for metric in sample["metrics"]:
        value = sample[metric]
        value = value.item() if hasattr(value, "item") else float(value) if isinstance(value, bool) else value
        if is_number(value) or isinstance(value, bool):
            name = metric if sample["filter"] == "none" else f"{metric} ({sample['filter']})"
            yield str(name), float(value)
