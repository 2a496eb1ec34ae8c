"""Runs a pipeline: checks every stage before the first one trains, and launches each as a run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from alignzoo.config import check
from alignzoo.config.compose import compose
from alignzoo.config.errors import explain
from alignzoo.config.secrets import hide_in_word, hide_secrets
from alignzoo.launch.stages import (
    Stage,
    make_stage_words,
    quote_path,
    read_stages,
    select_settings,
    select_shared_words,
)
from alignzoo.plugin.method import ModelKind
from alignzoo.runs.folder import Run
from alignzoo.system.errors import UserError, print_error
from alignzoo.system.signals import Preempted

FILE = "pipeline.yaml"  #: in the pipeline's folder: command and stages
COMPARISON = "comparison.html"  #: there too: the last stage's completions beside those of the policy it began with

Launch = Callable[..., float | None]  #: :func:`alignzoo.launch.launch.launch`


def run_pipeline(cfg: DictConfig, folder: Path, words: Sequence[str], launch: Launch) -> float | None:
    """Run the stages that are not finished, compare all, and return the last one's objective.

    Args:
        cfg: the composed configuration, with the group ``pipeline``.
        folder: the pipeline's folder.
        words: the command's overrides.
        launch: what runs one job.

    Raises:
        UserError: a stage cannot work, or was run with other settings; nothing is trained then.
        SystemExit: a stage failed, and has printed why.
    """
    stages = read_stages(cfg.pipeline, folder)
    shared = select_shared_words(words)
    for stage in stages:
        _check_stage(stage, make_stage_words(stage, shared, cfg.model, _list_inputs(stage, stages)))
    command = shlex.join(["python", "-m", "alignzoo", *map(hide_in_word, words)])
    asked = {"command": command, "pipeline": hide_secrets(cfg)["pipeline"]}
    (folder / FILE).write_text(OmegaConf.to_yaml(OmegaConf.create(asked)), encoding="utf-8")
    for number, stage in enumerate(stages, 1):
        title = f"pipeline {cfg.pipeline.name}, stage {number} of {len(stages)}: {stage.name}"
        print(f"\n{title}, finished before" if stage.is_finished else f"\n{title}", flush=True)
        if not stage.is_finished:
            _run_stage(stage, make_stage_words(stage, shared, cfg.model, _make_inputs(stage, stages)), launch)
        if not stage.is_finished:
            _end_command()
            return None
    _print_leaderboard(folder)
    words = make_stage_words(stages[-1], shared, cfg.model, _list_inputs(stages[-1], stages))
    _write_comparison(stages[-1], stages, compose([*words, *_make_searchpath()]))
    return Run(stages[-1].folder).objective


def _find_stage(stages: Sequence[Stage], name: str) -> Stage:
    return next(stage for stage in stages if stage.name == name)


def _find_first_stage(stage: Stage, stages: Sequence[Stage]) -> Stage:
    """Return the stage at the beginning of the chain that leads to this one."""
    while stage.start:
        stage = _find_stage(stages, stage.start)
    return stage


def _list_inputs(stage: Stage, stages: Sequence[Stage]) -> dict[str, Path]:
    """Return the folders that a stage will read, before there is anything in them."""
    found = {}
    if stage.start:
        found["model.path"] = _find_stage(stages, stage.start).folder / "model"
        if stage.trains is ModelKind.POLICY:
            found["evaluate.against"] = _find_first_stage(stage, stages).folder / "model"
    if stage.data:
        found["dataset.generated"] = _find_stage(stages, stage.data).folder
    if stage.reward:
        found["reward.model.path"] = _find_stage(stages, stage.reward).folder / "model"
    return found


def _make_inputs(stage: Stage, stages: Sequence[Stage]) -> dict[str, Path]:
    """Return the folders that a stage reads; policies are compared with the first start model."""
    found = _list_inputs(stage, stages)
    if "evaluate.against" in found:
        found["evaluate.against"] = Path(Run(_find_first_stage(stage, stages).folder).read_start())
    return found


def _check_stage(stage: Stage, words: Sequence[str]) -> None:
    """Compose the stage and refuse what cannot work, or what is not what its finished run was."""
    try:
        check.check(compose([*words, *_make_searchpath()]))
    except UserError as error:
        raise stage.error(error) from None
    except Exception as error:
        text = explain(error)
        if text is None:
            raise
        raise stage.error(text) from None
    file = stage.folder / "command.txt"
    kept = list(map(hide_in_word, words))  # as command.txt keeps them
    if stage.is_finished and select_settings(Run(stage.folder).overrides) != select_settings(kept):
        raise stage.error(f"it was finished with other settings ({file}): choose another hydra.run.dir, or delete it.")


def _run_stage(stage: Stage, words: Sequence[str], launch: Launch) -> None:
    """Launch the stage as a sweep job: it writes why it failed, and does not end the process."""
    job = compose([*words, *_make_searchpath()], with_hydra=True)
    with read_write(job.hydra), open_dict(job.hydra):
        job.hydra.mode = RunMode.MULTIRUN
        job.hydra.sweep.dir = str(stage.folder.parent)
        job.hydra.runtime.output_dir = str(stage.folder)
    try:
        with _set_hydra_job(job):
            launch(job, stage=True)
    finally:  # also after Ctrl-C
        is_preempted = isinstance(sys.exception(), Preempted)  # the caller prints the whole command
        if not (stage.is_finished or is_preempted):
            how = f"the same command with hydra.run.dir={stage.folder.parent} resumes there"
            print_error(f"pipeline stage {stage.name} has no result: {how}.")


def _make_searchpath() -> list[str]:
    """Return the override by which a stage finds the options of the command's ``--config-dir`` too."""
    sources = HydraConfig.get().runtime.config_sources
    folders = [source.path for source in sources if source.provider == "command-line"]
    return [f"hydra.searchpath=[{','.join(map(quote_path, folders))}]"] if folders else []


@contextmanager
def _set_hydra_job(job: DictConfig) -> Iterator[None]:
    """Make ``job`` the job that Hydra is running, and take its ``hydra`` node out, as Hydra does."""
    running = HydraConfig.instance()
    before = running.cfg
    running.set_config(job)
    with read_write(job), open_dict(job):
        del job["hydra"]
    try:
        yield
    finally:
        # patch: hydra HydraConfig.cfg
        running.cfg = before


def _end_command() -> None:
    """End the process, unless a sweep continues with its next job."""
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        raise SystemExit(1)


def _print_leaderboard(folder: Path) -> None:
    from alignzoo.report.leaderboard.files import write_leaderboard
    from alignzoo.report.leaderboard.table import print_leaderboard

    board = write_leaderboard([folder], folder)
    print(f"\npipeline {folder}")
    print_leaderboard(board)
    print(f"page: {folder / 'leaderboard.html'}")
    sys.stdout.flush()


def _write_comparison(stage: Stage, stages: Sequence[Stage], cfg: DictConfig) -> None:
    """Put the last stage's completions beside those of the policy that it began with, judged by the stage's judges."""
    from alignzoo.evaluate.comparison import compare, read_runs
    from alignzoo.evaluate.judge import build_configured_judges
    from alignzoo.report.comparison import print_comparison, write_comparison

    if stage.start is None or stage.trains is not ModelKind.POLICY or not cfg.evaluate.enabled:
        return
    page = stage.folder.parent / COMPARISON
    try:
        runs, failed = read_runs([_find_stage(stages, stage.start).folder, stage.folder])
        report = compare(runs, build_configured_judges(cfg.judge), failed)
    except UserError as error:  # the stages are finished all the same
        print(f"their completions are not compared: {error}", flush=True)
        return
    write_comparison(report, page)
    print_comparison(report, cfg.evaluate.shown)
    print(f"page: {page}", flush=True)
