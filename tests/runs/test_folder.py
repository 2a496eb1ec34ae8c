"""One reader for the folders of runs: whole, failed, killed and damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignzoo import UserError
from alignzoo.runs.find_runs import read_runs
from alignzoo.runs.folder import Run

RESULT = {"method": "dpo", "before": {"margin": 0.0}, "after": {"margin": 1.0}, "intervals": {"margin": [0.5, 1.5]}}


def test_a_finished_run(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    (tmp_path / "command.txt").write_text("python -m alignzoo method=dpo 'model.path=/a b' seed=3\n")
    (tmp_path / "run.yaml").write_text("hydra: {run: {dir: x}}\nmethod: {name: dpo, beta: 5e-07}\nseed: 3\n")
    run = Run(tmp_path)
    assert run.is_finished
    assert (run.result, run.reason, run.error) == (RESULT, "", None)
    assert run.read_result() == RESULT
    assert run.overrides == ("method=dpo", "model.path=/a b", "seed=3")
    assert run.config == {"method.name": "dpo", "method.beta": 5e-07, "seed": 3}
    assert (run.method, run.seed, run.is_stage) == ("dpo", 3, False)
    assert run.load_config() == {"method": {"name": "dpo", "beta": 5e-07}, "seed": 3}


def test_a_run_that_failed_says_why_even_beside_a_result(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    (tmp_path / "error.txt").write_text("the loss is not finite\nmore\n")
    assert (Run(tmp_path).result, Run(tmp_path).reason) == (None, "the loss is not finite\nmore")
    (tmp_path / "error.txt").write_bytes(b"")
    assert Run(tmp_path).reason == "failed, and did not say why"


def test_an_empty_folder(tmp_path: Path) -> None:
    run = Run(tmp_path / "3-ipo-m-d")
    assert (run.is_finished, run.result, run.reason) == (False, None, "did not finish")
    assert (run.overrides, run.config, run.history, run.lines) == (("3-ipo-m-d",), {}, [], [])
    assert (run.method, run.seed) == ("ipo", None)
    with pytest.raises(UserError, match=r"3-ipo-m-d is not a finished run: it has no result\.json"):
        run.read_result()


def test_a_line_that_a_kill_tore_costs_that_line_only(tmp_path: Path) -> None:
    """Behind it are those of the start that resumed the run."""
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"step": 2, "lo\xc3\n3\n{"step": "a"}\n{"step": 2}\n{"st')
    assert Run(tmp_path).history == [{"step": 1}, {"step": 2}]


def test_what_ends_a_line_of_unicode_ends_none_of_json(tmp_path: Path) -> None:
    answer = {"text": "one\u2028two\x85three", "tokens": 3, "ended": True}
    line = {"id": "p0", "prompt": "Why?", "before": answer, "after": answer}
    (tmp_path / "answers.jsonl").write_text(json.dumps(line, ensure_ascii=False) + "\n", encoding="utf-8")
    assert Run(tmp_path).lines == [line]


def test_a_configuration_that_is_not_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("- a\n")
    with pytest.raises(UserError, match=r"run\.yaml is not a configuration"):
        Run(tmp_path).load_config()


def test_runs_are_found_below_a_folder_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "multirun.yaml").touch()
    for name in ("10-dpo", "2-ipo", "0-kto", ".hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "command.txt").touch()
    (tmp_path / "3-sft").mkdir()  # a sweep job that was stopped before it wrote a file
    (tmp_path / "leaderboard").mkdir()  # of plots, where the disk was full before the first
    runs = read_runs([tmp_path, tmp_path / "2-ipo"])
    assert [run.folder.name for run in runs] == ["0-kto", "2-ipo", "3-sft", "10-dpo"]
    for folder in (tmp_path / "3-sft", tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"holds no runs|is not a folder"):
            read_runs([folder])
