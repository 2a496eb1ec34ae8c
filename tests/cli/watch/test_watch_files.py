"""What `watch` makes of damaged files and of files that did not change, and that it writes none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from watched import hold_elsewhere, make_sweep, pick, train

from alignzoo import UserError
from alignzoo.cli import run_command
from alignzoo.cli.watch.reading import Watch


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return make_sweep(tmp_path / "sweep")


@pytest.mark.parametrize("file", ["multirun.yaml", "pipeline.yaml", "protocol.yaml"])
def test_what_is_damaged_is_named_and_the_rest_is_shown(sweep: Path, file: str) -> None:
    (sweep / file).write_text("[")
    found = Watch(sweep).read()
    assert pick(found["runs"], "name") == ["0-dpo", "1-dpo", "2-ipo"]
    (note,) = found["notes"]
    assert file in note


@pytest.mark.parametrize("content", ["{", "[1]", '{"step": "x"}', '{"phase": "training", "step": -1}', "\xff", ""])
def test_damaged_files_of_a_run_leave_it_readable(sweep: Path, content: str) -> None:
    for file in ("progress.json", "answers_so_far.jsonl", "metrics.jsonl", "run.yaml", "answers.jsonl", "result.json"):
        (sweep / "1-dpo" / file).write_bytes(content.encode("latin-1"))
    watch = Watch(sweep)
    assert watch.read()["runs"][1]["state"] == "failed", "as `sweep status` has it"
    assert watch.read_run(watch.read()["runs"][1]["key"])["answers"] == []  # type: ignore[index]
    assert len(watch.read_curves()["loss"]) == 2


def test_a_file_that_did_not_change_is_not_read_again(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(sweep)
    first = (watch.read(), watch.read_curves())
    monkeypatch.setattr("alignzoo.cli.watch.reading.Run", None)
    monkeypatch.setattr("alignzoo.cli.watch.reading.read_state", None)
    assert (watch.read(), watch.read_curves()) == first
    train(sweep / "1-dpo", 40, 11)
    with pytest.raises(TypeError):
        watch.read()


def test_watching_writes_nothing(sweep: Path) -> None:
    def content() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sweep.rglob("*")}

    before, watch = content(), Watch(sweep)
    with hold_elsewhere(sweep / "2-ipo"):
        watch.read()
        watch.read_run(watch.read()["runs"][0]["key"])
        watch.read_curves()
    after = content()
    assert {path: after[path] for path in before if path.is_file()} == {p: before[p] for p in before if p.is_file()}
    assert after.keys() == before.keys()


def test_json(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["watch", str(sweep), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(Watch(sweep).read()))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    with pytest.raises(UserError, match=r"swep is not a folder: .* Did you mean sweep\?"):
        run_command(["watch", str(tmp_path / "swep")])
