"""A checkpoint counts if it is whole; the newest such is found, whatever a kill or a disk left around it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from alignzoo.runs import checkpoint
from alignzoo.runs.checkpoint import SEAL, UNFINISHED, find_damage, find_newest, folder_of, prune, seal, tidy
from alignzoo.system.files import put_in_place

#: What the seal of a run says of it, beside its files.
FACTS = {
    **{kind: {} for kind in ("config", "data", "start", "device", "versions")},
    "spent": {"resumed": [], "train_seconds": 1.0},
}

FILES = {"model.safetensors": b"weights" * 99, "optimizer.pt": b"moments", "rng_state.pth": b"dice", "sub/x": b""}


def write(folder: Path, step: int, whole: bool = True) -> Path:
    for name, content in {**FILES, "trainer_state.json": json.dumps({"global_step": step}).encode()}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    if whole:
        seal(folder, step, {**FACTS, "config": {"seed": step}})
    return folder


def test_the_newest_is_found_by_its_number_and_brings_its_facts(tmp_path: Path) -> None:
    for step in (9, 10, 2):
        write(folder_of(tmp_path, step), step)
    os.utime(folder_of(tmp_path, 2))  # times say nothing: a copy has new ones
    found, skipped = find_newest(tmp_path)
    assert found is not None
    assert (found.step, found.folder.name, found.facts["config"]) == (10, "checkpoint-10", {"seed": 10})
    assert skipped == []


def truncate(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 100)


def flip(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"Weights" + b"weights" * 98)


def change(folder: Path, seed: int) -> None:
    facts = json.loads((folder / SEAL).read_text())
    (folder / SEAL).write_text(json.dumps({**facts, "config": {"seed": seed}}))


#: What is done to the newest one, and what is said of it.
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated weights": (truncate, "model.safetensors has 100 bytes of 693"),
    "another byte": (flip, "model.safetensors is not what was written"),
    "empty optimizer": (lambda folder: os.truncate(folder / "optimizer.pt", 0), "optimizer.pt has 0 bytes of 7"),
    "no random states": (lambda folder: (folder / "rng_state.pth").unlink(), "rng_state.pth is missing"),
    "garbage state": (lambda folder: (folder / "trainer_state.json").write_bytes(b"\0" * 17), "trainer_state.json"),
    "no seal": (lambda folder: (folder / SEAL).unlink(), "it has no checkpoint.json, so it was not written to its end"),
    "half a seal": (lambda folder: os.truncate(folder / SEAL, 40), "checkpoint.json cannot be read"),
    "a seal with other facts": (lambda folder: change(folder, seed=4), "checkpoint.json is not what was written"),
    "a seal without its facts": (lambda folder: seal(folder, 10, {}), "checkpoint.json does not say its config"),
    "a forged seal": (lambda folder: seal(folder, 10, {**FACTS, "spent": {}}), "does not say how long it trained"),
    "the seal of another step": (lambda folder: seal(folder, 11, FACTS), "checkpoint.json is that of step 11"),
    "another seal": (lambda folder: (folder / SEAL).write_text("[1]"), "checkpoint.json cannot be read"),
}


@pytest.mark.parametrize(("harm", "said"), DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_one_is_named_and_the_one_before_is_taken(
    harm: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    for step in (5, 10):
        write(folder_of(tmp_path, step), step)
    harm(folder_of(tmp_path, 10))
    found, (skipped,) = find_newest(tmp_path)
    assert found is not None
    assert found.step == 5
    assert skipped.startswith("checkpoint-10 is skipped: ")
    assert said in skipped


def test_every_kill_while_saving_leaves_one_that_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop at each call that changes the disk, from the seal to the pruning, then look what a resumed run finds."""

    class Killed(BaseException):
        pass

    left = 0

    def dies(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*words: object, **more: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed(name)
            return real(*words, **more)

        return call

    for owner, name in ((Path, "rename"), (Path, "replace"), (Path, "unlink"), (checkpoint.shutil, "rmtree")):
        monkeypatch.setattr(owner, name, dies(name, getattr(owner, name)))
    seen = []
    for number in range(1, 10):
        root = tmp_path / str(number)
        left = 0
        write(folder_of(root, 3), 3)
        write(folder_of(root, 4), 4, whole=False)  # of an earlier kill, at the same step
        aside = write(folder_of(root / UNFINISHED, 4), 4, whole=False)
        left = number
        try:
            seal(aside, 4, FACTS)
            put_in_place(aside, folder_of(root, 4))
            prune(root, 1)
        except Killed as killed:
            seen.append(str(killed))
        left = 0
        tidy(root)
        found, _ = find_newest(root)
        assert found is not None, seen
        assert found.step == (3 if number == 1 else 4)
        assert not (root / UNFINISHED).exists()
        assert [path.name for path in root.iterdir() if path.name.startswith(".")] == []
    assert seen == ["replace", "rename", "rmtree", "rename", "unlink", "rmtree"]


def test_what_was_not_finished_aside_is_removed(tmp_path: Path) -> None:
    write(folder_of(tmp_path / UNFINISHED, 7), 7, whole=False)
    tidy(tmp_path)
    assert find_newest(tmp_path) == (None, [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("limit", "best", "left"),
    [(1, None, [4]), (2, None, [3, 4]), (1, 1, [1, 4]), (2, 1, [1, 4]), (3, 1, [1, 3, 4]), (None, None, [1, 2, 3, 4])],
)
def test_the_oldest_are_removed_and_the_best_stays(
    limit: int | None, best: int | None, left: list[int], tmp_path: Path
) -> None:
    for step in (1, 2, 3, 4):
        write(folder_of(tmp_path, step), step)
    prune(tmp_path, limit, None if best is None else folder_of(tmp_path, best))
    assert sorted(int(path.name.removeprefix("checkpoint-")) for path in tmp_path.iterdir()) == left


def test_a_folder_whose_name_has_no_step_is_left_alone(tmp_path: Path) -> None:
    write(folder_of(tmp_path, 3), 3)
    for name in ("checkpoint-²", "checkpoint-", "checkpoint--1", "checkpoint-1e3"):
        (tmp_path / name).mkdir()
    found, skipped = find_newest(tmp_path)
    assert (found and found.step, skipped) == (3, [])


def test_there_is_none_where_there_is_no_folder(tmp_path: Path) -> None:
    tidy(tmp_path / "missing")
    assert find_newest(tmp_path / "missing") == (None, [])
    assert checkpoint.measure_newest(tmp_path / "missing") is None


def test_a_seal_says_sizes_and_hashes_of_all_files(tmp_path: Path) -> None:
    folder = write(tmp_path / "checkpoint-1", 1)
    files = json.loads((folder / SEAL).read_text())["files"]
    assert files.keys() == {*FILES, "trainer_state.json"}
    assert files["sub/x"]["bytes"] == 0
    assert len({file["sha256"] for file in files.values()}) == len(files)
    assert find_damage(folder) is None
