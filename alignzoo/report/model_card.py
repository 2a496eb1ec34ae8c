"""Writes the model card: what was trained on what, by which command, and the numbers as the hub reads them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.config.metrics import NUMBERS
from alignzoo.config.secrets import hide_home, hide_in_text, hide_in_word
from alignzoo.evaluate.intervals import Estimate
from alignzoo.evaluate.task_items import format_change, format_score
from alignzoo.plugin.method import ModelKind
from alignzoo.runs.folder import CONFIG, Run
from alignzoo.system.files import write_atomically
from alignzoo.system.hub import find_snapshot
from alignzoo.system.parsing import parse_file

if TYPE_CHECKING:
    import pandas as pd
    from omegaconf import DictConfig

    from alignzoo.plugin.method import Method

FILE = "README.md"

#: How a manifest names a source that is a dataset of the hub: its id, and its split.
HUB_SOURCE = re.compile(r"([\w.-]+/[\w.-]+) \(.+\)")

#: A decision of the manifest -> what the card says of such rows.
SIDES = {"train": "trained on", "validation": "for validation", "heldout": "held out"}

#: What a model does -> the hub's name of that task.
TASKS = {ModelKind.POLICY: "text-generation", ModelKind.REWARD_MODEL: "text-classification"}


@dataclass(frozen=True)
class Training:
    """A training that has come to its end."""

    run: Run
    """Its command and its environment are read."""

    cfg: DictConfig
    method: type[Method] | None
    """None where its plugin is not installed."""

    result: Mapping[str, Any]
    """What ``result.json`` holds."""

    rows: pd.DataFrame
    """The manifest of its rows."""

    measured: int
    """How many of the held-out rows the numbers are of."""

    @property
    def task(self) -> str:
        """The hub's name of what the model does."""
        return TASKS[self.method.trains if self.method else ModelKind.POLICY]

    @property
    def start(self) -> tuple[str, str] | None:
        """The id and the commit of its start model on the hub, or None."""
        return find_snapshot(str(self.result.get("start", {}).get("folder", "")))

    def list_hub_datasets(self, decision: str) -> list[str]:
        """Return the ids of the hub's datasets from which rows of this decision come."""
        sources = self.rows.loc[self.rows["decision"] == decision, "source"].unique()
        return sorted({found[1] for found in map(HUB_SOURCE.fullmatch, sources) if found})


def write_card(training: Training) -> None:
    """Write the card of a run into the folder of its model."""
    model, cfg = training.run.folder / "model", training.cfg
    adapter = (model / "adapter_config.json").is_file()
    with write_atomically(model / FILE) as aside:
        aside.write_text(make_card(training, f"{cfg.model.name}-{cfg.method.name}", adapter), encoding="utf-8")


def make_card(training: Training, name: str, adapter: bool) -> str:
    """Return the text of the card of a model called ``name``; ``adapter``: its weights are an adapter's alone.

    Its head has the numbers on the held-out rows as the hub reads them (``model-index``), its body the start model, the
    data, the settings, the command, and the numbers before and after. Secrets are masked.
    """
    cfg, method, result = training.cfg, training.method, training.result
    lines = [
        "---",
        _make_head(training, name, adapter).strip(),
        "---",
        "",
        f"# {cfg.model.name}, aligned with {cfg.method.name} on {cfg.dataset.name}",
        *(["", (method.__doc__ or "").partition("\n")[0]] if method else []),
        "",
        f"- start model: {_describe_start(training)}",
        *(f"- data: {text}" for text in _describe_sources(training.rows)),
        *_say_generated(cfg),
        *(
            f"- hash of the rows {SIDES[side]}, with their token ids: `{found}`"
            for side, found in result.get("data", {}).items()
        ),
        f"- learning rate {cfg.method.get('learning_rate')}, beta {cfg.method.get('beta')}, "
        f"{result.get('cost', {}).get('steps', '?')} steps of {cfg.train.global_batch_size} rows, "
        f"adapter: {cfg.peft.name}, seed {cfg.seed}",
        f"- made with {_describe_versions(training.run)}, by",
        "",
        f"      {shlex.join(['python', '-m', 'alignzoo', *map(hide_in_word, training.run.overrides)])}",
        "",
        f"- `python -m alignzoo --config-dir FOLDER --config-name run` repeats it, with its `{CONFIG}` in FOLDER",
        "",
        *_make_table(result, training.measured),
    ]
    return hide_home(hide_in_text("\n".join(lines))) + "\n"


def _make_head(training: Training, name: str, adapter: bool) -> str:
    """Return the card's metadata as YAML."""
    from huggingface_hub import ModelCardData

    card = ModelCardData(
        library_name="peft" if adapter else "transformers",
        base_model=training.start[0] if training.start else None,
        datasets=training.list_hub_datasets("train") or None,
        pipeline_tag=training.task,
        tags=["alignzoo", "trl", training.cfg.method.name],
        model_name=name,
        eval_results=list(_list_numbers(training)) or None,
    )
    text: str = card.to_yaml()
    return text


def _list_numbers(training: Training) -> Iterator[Any]:
    """Yield each number of the yardstick as the hub's client has it, with its interval and what it was before."""
    from huggingface_hub import EvalResult

    result, dataset = training.result, str(training.cfg.dataset.name)
    on_hub = training.list_hub_datasets("heldout")
    heldout = int((training.rows["decision"] == "heldout").sum())
    rows = {"rows": training.measured, "of": heldout, "hash": result.get("data", {}).get("heldout")}
    for key, number in NUMBERS.items():
        if key in result["after"]:
            yield EvalResult(
                task_type=training.task,
                dataset_type=on_hub[0] if on_hub else dataset,
                dataset_name=f"{dataset}, held-out rows",
                dataset_args=rows,
                metric_type=key,
                metric_name=number.label,
                metric_value=result["after"][key],
                metric_args={"before": result["before"][key], "interval_95": result.get("intervals", {}).get(key)},
            )


def _describe_start(training: Training) -> str:
    """Return which model it began with; of a folder of this machine, no more than its name."""
    model = training.cfg.model
    if training.start:
        return f"{training.start[0]}, commit `{training.start[1]}`"
    return f"`{model.wheel}`, from the package index" if model.wheel else f"`{model.name}`, not on the hub"


def _describe_sources(rows: pd.DataFrame) -> list[str]:
    """Return each source of rows, with how many were taken for what."""
    found = []
    for source, part in rows.groupby("source", sort=False):
        counts = part["decision"].value_counts()
        taken = ", ".join(f"{counts[side]:,} {what}" for side, what in SIDES.items() if side in counts)
        found.append(f"`{source}`, rows: {taken or 'none taken'}")
    return found


def _say_generated(cfg: DictConfig) -> list[str]:
    """Return a line that the answers trained on are not the dataset's, where they were generated."""
    made = cfg.dataset.get("generated")
    return [f"- the prompts trained on were answered anew by a model (`{Path(made).name}`)"] if made else []


def _describe_versions(run: Run) -> str:
    packages = parse_file(run.folder / "environment.json", lambda text: dict(json.loads(text)["packages"]))
    return ", ".join(f"{name} {packages.get(name, '?')}" for name in ("alignzoo", "trl", "transformers", "torch"))


def _make_table(result: Mapping[str, Any], measured: int) -> list[str]:
    before, after, intervals = result["before"], result["after"], result.get("intervals", {})
    rows = []
    for key, number in ((key, number) for key, number in NUMBERS.items() if key in after):
        ends = " to ".join(number.form.format(end) for end in intervals.get(key, ()))
        rows.append(
            f"| {number.label} | {number.form.format(before[key])} | {number.form.format(after[key])} | {ends} |"
        )
    head = [f"| {measured} held-out rows | before | after | 95 % interval |", "| --- | --- | --- | --- |"]
    table = [*head, *rows] if rows else ["The model was not measured on held-out rows."]
    return [*table, *_make_tasks(result.get("tasks", {}))]


def _make_tasks(tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not tasks:
        return []
    rows = []
    for label, one in tasks.items():
        before, after = (format_score(one[side], one["share"]) for side in ("before", "after"))
        rows.append(f"| {label} | {before} | {after} | {format_change(Estimate(*one['change']), one['share'])} |")
    return ["", "| benchmark | before | after | change (95 %) |", "| --- | --- | --- | --- |", *rows]
