"""A run that was stopped and went on is the run that was never stopped; and what is refused or skipped on the way."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import QUICK
from inprocess import Outcome, run
from omegaconf import DictConfig
from stopping import PLUGIN, metrics, result, same, weights

from alignzoo.runs import resume
from alignzoo.runs.checkpoint import SEAL, find_damage, seal
from alignzoo.system.lock import hold_lock
from alignzoo.system.seal import check_seal
from alignzoo.system.signals import EXIT_CODE

pytestmark = pytest.mark.slow

#: Three steps per epoch (of pairs), in two batches each, and two epochs; changes that can be seen in the weights.
WORDS = (
    *(word for word in QUICK if "dataset.rows" not in word),
    "train.per_device_batch_size=2",
    "train.num_train_epochs=2",
    "train.warmup_steps=0",
    "method.learning_rate=0.001",
    "reward=length",
    "reward.length.slack=200",
    "evaluate.shown=0",
)

GRPO = ("method=grpo", "dataset.rows=3", "method.max_completion_length=6")

#: For each case, its words and the steps after which it is stopped: in an epoch, at its end, in the next one.
CASES: dict[str, tuple[tuple[str, ...], str]] = {
    "sft": (("method=sft", "dataset.rows=12"), "2,3,5"),
    "dpo": (("method=dpo", "dataset.rows=12"), "2,3,5"),
    "ipo": (("method=ipo", "dataset.rows=12"), "1,4"),
    "orpo": (("method=orpo", "dataset.rows=12"), "2,5"),
    "kto": (("method=kto", "dataset.rows=6", "train.per_device_batch_size=4"), "2,3,5"),
    "grpo": (GRPO, "2,3,5"),
    "grpo in the middle of a block": ((*GRPO, "+method.num_iterations=2", "+method.steps_per_generation=4"), "1,3,6"),
    "grpo without accumulation": ((*GRPO, "train.per_device_batch_size=4", "+method.num_iterations=3"), "2,4,11"),
    "a reward with a state": ((*GRPO, "+reward.counting.weight=1.0"), "2,5"),
    "an adapter with dropout": (("method=dpo", "dataset.rows=12", "peft=lora", "peft.lora_dropout=0.3"), "2,4"),
    "lines of several updates": (("method=orpo", "dataset.rows=12", "train.logging_steps=4"), "2,5"),
    "a reference that moves": (
        (
            *("method=dpo", "dataset.rows=12", "method.precompute_ref_log_probs=false"),
            *("+method.sync_ref_model=true", "+method.ref_model_sync_steps=2"),
        ),
        "3,5",
    ),
    "after the last update": (("method=dpo", "dataset.rows=12", "train.max_steps=4"), "4"),
}


#: They go the way of others here: run by `nox -s faults`, which disturbs every method.
ALIKE = {"sft", "ipo", "orpo", "grpo"}
#: In every suite; the others by `nox -s long`.
SHORT = {"dpo", "kto", "grpo in the middle of a block"}
MARKED = [
    pytest.param(
        *case, id=name, marks=pytest.mark.faults if name in ALIKE else () if name in SHORT else pytest.mark.long
    )
    for name, case in CASES.items()
]


@pytest.fixture
def stopped(
    fake_package: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Outcome]:
    """Run the words, stopped after each of the steps that are named, and then to the end."""
    fake_package("fake_stop", PLUGIN)

    def start(folder: Path, *words: str, stops: str, ends: bool = True) -> Outcome:
        monkeypatch.setenv("STOPS", stops)
        for number in range(len(stops.split(","))):
            done = run(folder, *WORDS, *words, "resume=auto")
            assert done.code == EXIT_CODE, f"start {number}: {done.out[-2000:]} {done.err}"
            assert "To resume:" in done.err
            assert not (folder / "result.json").exists()
            assert not (folder / ".lock").exists()
        monkeypatch.delenv("STOPS")
        return run(folder, *WORDS, *words, "resume=auto") if ends else done

    return start


@pytest.mark.parametrize(("words", "stops"), MARKED)
def test_a_stopped_run_ends_as_one_that_never_was(
    words: tuple[str, ...], stops: str, stopped: Callable[..., Outcome], tmp_path: Path
) -> None:
    whole = run(tmp_path / "whole", *WORDS, *words)
    assert whole.code == 0, whole.err
    steps = [int(stop) for stop in stops.split(",")]
    ended = stopped(tmp_path / "stopped", *words, stops=stops)
    assert ended.code == 0, ended.err
    same(ended.folder, whole.folder)
    assert result(ended.folder)["cost"]["resumed"] == steps
    assert result(whole.folder)["cost"]["resumed"] == []
    assert result(ended.folder)["cost"]["steps"] == result(whole.folder)["cost"]["steps"]
    assert [folder.name for folder in ended.folder.glob("checkpoints/*-*")] == [f"checkpoint-{steps[-1]}"]


BASE = ("method=dpo", "dataset.rows=12", "train.save_strategy=steps", "train.save_steps=2", "train.save_total_limit=9")


@pytest.fixture
def interrupted(stopped: Callable[..., Outcome], tmp_path: Path, saved: dict[str, Path]) -> Path:
    """A copy of a run of six steps, stopped after the fifth: it has checkpoints of the second, fourth and fifth."""
    if "interrupted" not in saved:
        folder = saved["root"] / "interrupted"
        saved["interrupted"] = stopped(folder, *BASE, stops="5", ends=False).folder
    shutil.copytree(saved["interrupted"], tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("saved")
    whole = run(root / "whole", *WORDS, *BASE)
    assert whole.code == 0, whole.err
    return {"root": root, "whole": whole.folder}


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return every file's time and content; not Hydra's log, which is opened before a run looks at its folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "alignzoo.log")
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def refused(folder: Path, *words: str) -> str:
    """Run the words on ``folder``, which must stay as it is; return what is said."""
    before = contents(folder)
    done = run(folder, *WORDS, *words)
    assert done.code == 1
    assert contents(folder) == before
    assert len(done.err.splitlines()) <= 2
    return done.err


#: What is done to the newest checkpoint.
DAMAGE: dict[str, Callable[[Path], object]] = {
    "model.safetensors has 1,000 bytes": lambda folder: os.truncate(folder / "model.safetensors", 1_000),
    "optimizer.pt has 0 bytes": lambda folder: os.truncate(folder / "optimizer.pt", 0),
    "rng_state.pth is missing": lambda folder: (folder / "rng_state.pth").unlink(),
    "rest_0.pth is missing": lambda folder: (folder / "rest_0.pth").unlink(),
    "trainer_state.json has 7 bytes": lambda folder: (folder / "trainer_state.json").write_text("garbage"),
}


def test_damaged_checkpoints_are_named_and_skipped(interrupted: Path, saved: dict[str, Path]) -> None:
    """The newest two are damaged: the run goes on from the one before, and its log is cut back to it."""
    for step, harm in ((5, "trainer_state.json has 7 bytes"), (4, "optimizer.pt has 0 bytes")):
        DAMAGE[harm](interrupted / "checkpoints" / f"checkpoint-{step}")
    with (interrupted / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 6, "lo')  # a kill in the middle of a line
    done = run(interrupted, *WORDS, *BASE, "resume=auto")
    assert done.code == 0, done.err
    assert "resume: checkpoint-5 is skipped: trainer_state.json has 7 bytes of " in done.out
    assert "resume: checkpoint-4 is skipped: optimizer.pt has 0 bytes of " in done.out
    assert "checkpoint-2 (step 2)." in done.out
    same(done.folder, saved["whole"])
    assert result(done.folder)["cost"]["resumed"] == [2]


@pytest.mark.parametrize("harm", DAMAGE)
def test_each_damage_is_seen(harm: str, interrupted: Path, compose_config: Callable[..., DictConfig]) -> None:
    DAMAGE[harm](interrupted / "checkpoints" / "checkpoint-5")
    cfg = compose_config(*WORDS, *BASE, "resume=auto")
    found = resume.find(cfg, interrupted)
    assert found is not None
    assert found.step == 4


def test_no_whole_checkpoint_means_afresh(interrupted: Path, saved: dict[str, Path]) -> None:
    for folder in (interrupted / "checkpoints").glob("checkpoint-*"):
        (folder / "checkpoint.json").unlink()
    done = run(interrupted, *WORDS, *BASE, "resume=auto")
    assert done.code == 0, done.err
    assert f"resume: no whole checkpoint in {interrupted}: the run starts anew." in done.out
    same(done.folder, saved["whole"])


def test_another_configuration_is_refused_by_its_keys(interrupted: Path) -> None:
    said = refused(interrupted, *BASE, "method.beta=0.7", "seed=4", "resume=auto")
    assert "was made with method.beta=0.2 (now 0.7), seed=0 (now 4)." in said


def test_a_mistake_leaves_a_run_that_can_go_on_as_it_was(interrupted: Path) -> None:
    assert "train.precision=fp8 must be one of" in refused(interrupted, *BASE, "train.precision=fp8", "resume=auto")
    assert "train.stop_before=soon is not a duration" in refused(interrupted, *BASE, "train.stop_before=soon")
    assert "resume=yes must be one of no, auto" in refused(interrupted, *BASE, "resume=yes")
    assert "save_only_model=true leaves out" in refused(
        interrupted, *BASE, "+train.save_only_model=true", "resume=auto"
    )


def test_what_does_not_change_the_training_may_differ(interrupted: Path, saved: dict[str, Path]) -> None:
    words = ("evaluate.rows=3", "train.save_strategy=no", "tracker=tensorboard", "train.stop_before=5h")
    done = run(interrupted, *WORDS, *BASE, *words, "resume=auto")
    assert done.code == 0, done.err
    assert weights(done.folder) == weights(saved["whole"])
    assert metrics(done.folder) == metrics(saved["whole"])


@pytest.mark.parametrize(
    ("kind", "key", "said"),
    [
        ("data", "train", "another rows (data.train)"),
        ("start", "model.safetensors", "another start model (start.model"),
    ],
)
def test_other_rows_and_another_start_model_are_refused(kind: str, key: str, said: str, interrupted: Path) -> None:
    for file in (interrupted / "checkpoints").glob("*/checkpoint.json"):
        facts = check_seal(file.parent, SEAL)
        file.unlink()
        seal(file.parent, facts["step"], {**facts, kind: {**facts[kind], key: 1}})
    before = contents(interrupted / "checkpoints")
    done = run(interrupted, *WORDS, *BASE, "resume=auto")
    assert done.code == 1
    assert said in done.err
    assert contents(interrupted / "checkpoints") == before


def test_checkpoints_are_not_written_over_without_resume(interrupted: Path) -> None:
    assert "holds a run with checkpoints: add resume=auto to resume it" in refused(interrupted, *BASE)


def test_a_finished_run_does_nothing_again(saved: dict[str, Path]) -> None:
    before = contents(saved["whole"])
    done = run(saved["whole"], *WORDS, *BASE, "resume=auto")
    assert (done.code, done.err) == (0, "")
    assert f"resume: {saved['whole']} holds the finished run (6 steps): nothing to do." in done.out
    assert contents(saved["whole"]) == before
    assert "method.beta=0.2 (now 0.7)" in refused(saved["whole"], *BASE, "method.beta=0.7", "resume=auto")


def test_a_folder_in_use_is_refused(interrupted: Path) -> None:
    with hold_lock(interrupted):
        assert f"{interrupted} is in use by process {os.getpid()}" in refused(interrupted, *BASE, "resume=auto")


def test_the_end_of_the_time_stops_a_run(
    tmp_path: Path, saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop = {"1s": 1e-3}  # a quick machine is at step 3 after a second
        patch.setattr("alignzoo.config.check.parse_duration", lambda text, key="": stop.get(text, 600.0))
        done = run(tmp_path / "run", *WORDS, *BASE, "train.stop_before=1s")
    assert done.code == EXIT_CODE
    assert "alignzoo: stopped by train.stop_before at step 1 of 6. To resume:" in done.err
    (command,) = [line for line in done.err.splitlines() if line.startswith("    python -m alignzoo ")]
    words = [word for word in shlex.split(command)[3:] if not word.startswith(("train.stop_before", "hydra.run.dir"))]
    again = run(tmp_path / "run", *words)
    assert again.code == 0, again.err
    same(again.folder, saved["whole"])


def test_a_stopped_sweep_starts_no_further_member_and_goes_on(
    stopped: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("-m", "seed=0,1", *BASE)
    monkeypatch.setenv("STOPS", "3")
    monkeypatch.setenv("SIGNAL", "SIGUSR1")
    first = run(tmp_path / "sweep", *words, *WORDS)
    assert first.code == EXIT_CODE
    assert f"hydra.sweep.dir={tmp_path / 'sweep'} resume=auto" in first.err
    assert [path.name for path in first.folder.glob("[0-9]-*")] == ["0-dpo-tiny-concise"]
    monkeypatch.delenv("STOPS")
    second = run(tmp_path / "sweep", *words, *WORDS, "resume=auto")
    assert second.code == 0, second.err
    assert [result(path)["cost"]["resumed"] for path in sorted(first.folder.glob("[0-9]-*"))] == [[3], []]
    third = run(tmp_path / "sweep", *words, *WORDS, "resume=auto")
    assert third.code == 0, third.err
    assert third.out.count("nothing to do") == 2


def test_the_best_checkpoint_is_kept_and_is_the_result(stopped: Callable[..., Outcome], tmp_path: Path) -> None:
    """The learning rate is so high that the first step is the best one."""
    words = ("method=dpo", "dataset.rows=12", "method.learning_rate=0.03", "train.save_strategy=steps")
    words += ("train.save_steps=1", "+train.eval_strategy=steps", "+train.eval_steps=1")
    words += ("+train.load_best_model_at_end=true", "+train.metric_for_best_model=loss", "dataset.heldout.rows=8")
    whole = run(tmp_path / "whole", *WORDS, *words)
    assert whole.code == 0, whole.err
    state = json.loads(next(whole.folder.glob("checkpoints/checkpoint-6/trainer_state.json")).read_text())
    best = state["best_global_step"]
    assert best < 6
    assert Path(state["best_model_checkpoint"]) == whole.folder / "checkpoints" / f"checkpoint-{best}"
    assert len(list(whole.folder.glob("checkpoints/checkpoint-*"))) == 2
    assert weights(whole.folder) == (whole.folder / f"checkpoints/checkpoint-{best}/model.safetensors").read_bytes()
    ended = stopped(tmp_path / "stopped", *words, stops="3,5")
    assert ended.code == 0, ended.err
    same(ended.folder, whole.folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB: room for some checkpoints of the tiny model."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("looked", [True, False], ids=["seen before", "seen while writing"])
def test_a_full_disk_leaves_the_last_checkpoint_whole(
    looked: bool, small_disk: Path, saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not looked:
        monkeypatch.setattr("alignzoo.train.checkpointing.CheckpointSaver.estimate_bytes", lambda saving: 0)
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 13_300_000)
    full = run(small_disk / "run", *WORDS, *BASE, "resume=auto")
    assert full.code == 1
    expected = " MB in " if looked else "is full: checkpoint"
    assert expected in full.err
    (folder,) = (small_disk / "run" / "checkpoints").glob("[!R]*")
    assert find_damage(folder) is None
    filler.unlink()
    done = run(small_disk / "run", *WORDS, *BASE, "resume=auto")
    assert done.code == 0, done.err
    same(done.folder, saved["whole"])
