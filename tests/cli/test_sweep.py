"""``alignzoo sweep``: how far a sweep is, and that resuming finishes what is missing and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import QUICK
from inprocess import run

from alignzoo import UserError
from alignzoo.cli import run_command
from alignzoo.runs.sweep_status import BASIC, State, read_command, read_jobs
from alignzoo.system.lock import hold_lock

MORE = ("train.max_steps=2", "evaluate.shown=0")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sweep whose second member has not finished, whose third has failed, and whose fourth never began."""
    folder = tmp_path_factory.mktemp("swept") / "sweep"
    done = run(folder, "-m", *QUICK, *MORE, "method=dpo,ipo", "method.beta=0.1,0.5")
    assert done.code == 0, done.err
    one, two, three = (next(folder.glob(f"{number}-*")) for number in (1, 2, 3))
    (one / "result.json").unlink()
    (two / "result.json").unlink()
    (two / "error.txt").write_text("the moon is full\n")
    three.rename(folder.parent / "away")
    return folder


def states(folder: Path) -> list[State]:
    return [member.state for member in read_jobs(folder)]


def test_each_member_has_a_state(swept: Path) -> None:
    assert states(swept) == [State.DONE, State.STOPPED, State.FAILED, State.PENDING]
    with hold_lock(next(swept.glob("1-*"))):
        assert states(swept)[1] == State.RUNNING
    assert [member.words for member in read_jobs(swept)][:2] == [
        "method=dpo method.beta=0.1",
        "method=dpo method.beta=0.5",
    ]


def test_status_prints_them(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["sweep", "status", str(swept)]) == 1
    out = capsys.readouterr().out
    assert "1 done, 1 failed, 1 stopped, 1 pending" in out
    assert "the moon is full" in out


def test_status_writes_nothing(swept: Path) -> None:
    def content() -> dict[Path, tuple[int, bytes]]:
        files = (path for path in swept.rglob("*") if path.is_file())
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    with hold_lock(next(swept.glob("1-*"))):
        before = content()
        assert run_command(["sweep", "status", str(swept)]) == 1
        assert content() == before
    before = content()
    assert run_command(["sweep", "status", str(swept)]) == 1
    assert content() == before


@pytest.fixture(scope="module")
def resumed(swept: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the sweep that was resumed."""
    folder = shutil.copytree(swept, tmp_path_factory.mktemp("resumed") / "sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["alignzoo"])
        assert run_command(["sweep", "resume", str(folder)]) == 0
    return folder


def test_resume_finishes_only_what_is_missing(swept: Path, resumed: Path) -> None:
    before = (next(swept.glob("0-*")) / "result.json").stat().st_mtime_ns
    assert states(resumed) == [State.DONE] * 4
    assert (next(resumed.glob("0-*")) / "result.json").stat().st_mtime_ns == before
    assert not (next(resumed.glob("2-*")) / "error.txt").exists()
    betas = [json.loads((next(resumed.glob(f"{n}-*")) / "result.json").read_text())["method"] for n in range(4)]
    assert betas == ["dpo", "dpo", "ipo", "ipo"]
    assert (resumed / "leaderboard.html").exists()


def test_a_finished_sweep_that_is_started_again_stays_finished(resumed: Path) -> None:
    """Without ``resume=auto``, its members are refused and left as they are."""
    again = run(resumed, "-m", *QUICK, *MORE, "method=dpo,ipo", "method.beta=0.1,0.5")
    assert states(resumed) == [State.DONE] * 4, again.err


def test_the_command_is_taken_back_without_its_folder(swept: Path) -> None:
    words = read_command(swept)
    assert "method=dpo,ipo" in words
    assert not any(word.startswith(("hydra.sweep.dir", "hydra.mode")) for word in words)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a sweep's folder: there is no multirun\.yaml in it"):
        read_jobs(tmp_path)


ACCOUNT = {"sweeper": {"_target_": BASIC}, "overrides": {"task": ["method=dpo,ipo"], "hydra": ["hydra.mode=MULTIRUN"]}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hydra: [1", "line 1: expected"),
        ("- 1", "TypeError"),
        ("hydra: 3", "TypeError"),
        ("hydra: {sweeper: !!bool x}", "KeyError"),
        (json.dumps({"hydra": {**ACCOUNT, "overrides": {"task": [3], "hydra": []}}}), "are not a list of words"),
        ("hydra: \xff", "it is not written in UTF-8"),
        (json.dumps({"hydra": {**ACCOUNT, "overrides": {"task": ["dpo"], "hydra": []}}}), "are not key=value (Error"),
    ],
)
def test_an_account_that_cannot_be_read_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "multirun.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"multirun\.yaml cannot be read: ") as refused:
        read_jobs(tmp_path)
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"cost": {}}', b"\xff"])
def test_a_job_whose_result_cannot_be_read_has_failed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "multirun.yaml").write_text(json.dumps({"hydra": ACCOUNT}))
    for number, result in enumerate((content, b'{"before": {}, "after": {}}')):
        (tmp_path / f"{number}-m").mkdir()
        (tmp_path / f"{number}-m" / "result.json").write_bytes(result)
    one, two = read_jobs(tmp_path)
    assert (one.state, two.state, two.detail) == (State.FAILED, State.DONE, "")
    assert "result.json cannot be read: " in one.detail


def test_a_sweeper_that_chooses_as_it_goes_is_refused(tmp_path: Path) -> None:
    hydra = {"sweeper": {"_target_": "hydra_plugins.optuna.OptunaSweeper"}, "overrides": {"task": [], "hydra": []}}
    (tmp_path / "multirun.yaml").write_text(json.dumps({"hydra": hydra}))
    with pytest.raises(UserError, match="chooses values as it goes"):
        read_jobs(tmp_path)
