"""Generates rows to train on, from the checked configuration to the written folder."""

from __future__ import annotations

import time
from dataclasses import asdict
from statistics import fmean
from typing import TYPE_CHECKING, Any

from alignzoo.config.generation import PAIRED
from alignzoo.config.plain import to_plain
from alignzoo.data.manifest import fingerprints
from alignzoo.generate.inputs import GenerationInputs, prepare_generation
from alignzoo.generate.plan import plan_generation, print_plan
from alignzoo.generate.rows import make_prompt, make_rows, make_samples
from alignzoo.generate.sample import Answers, Sampling, sample
from alignzoo.generate.score import Scorer, build_scorer, describe_scorer, name_scorer
from alignzoo.generate.selection import Scored, Selection, check_rows, check_spread, select
from alignzoo.models.contents import hash_model
from alignzoo.runs.generation import ROWS, SAMPLES, describe_generation
from alignzoo.system import ranks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from alignzoo.config.checked import Checked
    from alignzoo.runs.record import Record


def generate(checked: Checked, record: Record, started: float) -> None:
    """Answer, score and select, and write the rows into ``record``; each process of a run calls this.

    ``started``: when this start of the run began, as ``time.time()`` gives it.
    """
    inputs = prepare_generation(checked)
    record.write_manifest(inputs.data.manifest)
    scorer, sampling, keys = build_scorer(inputs), Sampling.of(inputs), to_plain(checked.cfg.generate)
    print_plan(plan_generation(inputs, sampling))
    sampled = sample(inputs, sampling, lambda places, found: scorer(inputs.prompts.select(places), found))
    if ranks.rank() != 0:  # the main process alone scores, and writes
        return
    answers = _score(scorer, inputs, sampled.answers)
    check_spread(answers, keys["keep"], name_scorer(inputs))
    selection = select(answers, keys)
    check_rows(selection, answers, keys, sampling.max_new_tokens)
    record.watch.check()
    prompts = [make_prompt(row) for row in inputs.prompts]
    files = {ROWS: make_rows(selection, prompts), SAMPLES: make_samples(answers, prompts)}
    summary = _summarise(answers, selection, keys)
    cost = {"seconds": time.time() - started, "batches": sampled.batches, "cached_batches": sampled.cached}
    found = {**_describe_inputs(inputs, sampling, keys), **summary, "cost": cost}
    record.write_generation(files, found)
    print(f"generated: {describe_generation(found)}")
    print(f"{cost['seconds']:.0f} s; run folder: {record.folder}", flush=True)


def _score(scorer: Scorer, inputs: GenerationInputs, answers: Answers) -> list[list[Scored]]:
    with ranks.work_alone():
        scores = scorer(inputs.prompts, answers)
    pairs = zip(answers, scores, strict=True)
    return [[Scored(*one) for one in zip(found, given, strict=True)] for found, given in pairs]


def _summarise(answers: Sequence[Sequence[Scored]], selection: Selection, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was made, how many of each, and mean scores."""
    every = [one for scored in answers for one in scored]
    rejected = [row.rejected.score for row in selection.rows if row.rejected]
    counts = {
        "prompts": len(answers),
        "answers": len(every),
        "ended": sum(one.answer.ended for one in every),
        "empty": sum(not one.text for one in every),
        "tokens": sum(one.answer.tokens for one in every),
        "rows": len(selection.rows),
        **selection.left_out,
    }
    scores = {
        "mean": fmean(one.score for one in every),
        "best": fmean(max(one.score for one in scored) for scored in answers),
        "worst": fmean(min(one.score for one in scored) for scored in answers),
        "chosen": fmean(row.chosen.score for row in selection.rows),
        "rejected": fmean(rejected) if rejected else None,
    }
    return {"kind": "pairs" if keys["keep"] in PAIRED else "good answers", "counts": counts, "scores": scores}


def _describe_inputs(inputs: GenerationInputs, sampling: Sampling, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return which model answered which prompts, how, and what scored and selected the answers."""
    return {
        "start": {"folder": str(inputs.start), "contents": hash_model(inputs.start)},
        "sampling": asdict(sampling),
        **describe_scorer(inputs),
        "selection": {key: keys[key] for key in ("keep", "margin", "least", "allow_cut_off")},
        "data": fingerprints(inputs.data.manifest),
    }
