"""A hub that cannot be reached is asked once, whatever asks it; what is cached is used, and said in one line."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICK
from inprocess import Outcome, call, run

from alignzoo.system.hub import hub

NOBODY = "nobody/nothing"
ABSENT = "not in the local cache, and the hub cannot be reached. Connect, or name a folder."


@pytest.fixture
def attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Take the network away: the hub's address is a loopback port that is closed. Return the connections tried."""
    import datasets
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tried: list[Any] = []
    connect = socket.socket.connect

    def note(self: socket.socket, address: Any) -> None:
        tried.append(address)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", note)
    for name, value in {"ENDPOINT": f"http://127.0.0.1:{port}", "HF_HUB_CACHE": str(tmp_path / "hub")}.items():
        monkeypatch.setattr(constants, name, value)
    for module in (constants, datasets.config):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    close_session()
    hub().ask_again()
    yield tried
    hub().ask_again()
    close_session()


ABSENT_OF = {
    "plan model": ("plan", "model=local", f"model.path={NOBODY}"),
    "model": ("model=local", f"model.path={NOBODY}"),
    "dataset": (*QUICK, "dataset=local", f"dataset.path={NOBODY}"),
    "first rows": (*QUICK, "dataset=local", f"dataset.path={NOBODY}", "dataset.first=8"),
    "reward": (*QUICK, "method=grpo", "reward=model", f"reward.model.path={NOBODY}"),
    "local judge": (*QUICK, "judge=pairwise_lm", f"judge.path={NOBODY}"),
    "reward judge": (*QUICK, "judge=reward_model", f"judge.path={NOBODY}"),
    "against": (*QUICK, f"evaluate.against={NOBODY}"),
    "evaluate": ("evaluate", NOBODY, "model=tiny", "dataset.rows=16", "evaluate.rows=2", "evaluate.max_new_tokens=4"),
    "chat": ("chat", NOBODY),
}


def try_it(folder: Path, words: tuple[str, ...]) -> Outcome:
    return run(folder, *words) if "=" in words[0] else call(*words)


@pytest.mark.parametrize("words", ABSENT_OF.values(), ids=ABSENT_OF)
def test_one_attempt_and_one_line(tmp_path: Path, attempts: list[Any], words: tuple[str, ...]) -> None:
    done = try_it(tmp_path / "run", words)
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert line.startswith("alignzoo: ")
    assert NOBODY in line
    assert line.endswith(ABSENT)
    assert "Retrying" not in done.out
    assert len(attempts) == 1


def put_into_cache(model: Path, tmp_path: Path) -> None:
    """Lay the model's files where the hub's client keeps those of a repository that it has downloaded."""
    repository = tmp_path / "hub" / "models--nobody--nothing"
    shutil.copytree(model, repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)


def test_a_cached_copy_is_used_and_said_once(
    tmp_path: Path, start: Path, attempts: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """By the start model, the one to compare with, and the plan, in one run."""
    put_into_cache(start, tmp_path)
    words = ("model=local", *QUICK[1:], f"model.path={NOBODY}", f"evaluate.against={NOBODY}", "train.max_steps=1")
    done = run(tmp_path / "run", *words)
    assert done.code == 0, done.err
    assert len(attempts) == 1
    said = [line for line in done.out.splitlines() if "cannot be reached" in line]
    assert len(said) == 1
    assert f"{NOBODY} is read from the cache." in said[0]


def test_the_next_job_asks_again(start: Path, tmp_path: Path, attempts: list[Any]) -> None:
    put_into_cache(start, tmp_path)
    words = ("model=local", *QUICK[1:], f"model.path={NOBODY}", "train.max_steps=1", "evaluate.enabled=false")
    done = run(tmp_path / "sweep", "-m", "seed=0,1", *words)
    assert done.code == 0, done.err
    assert len(attempts) == 2


def test_the_clients_are_as_they_were(attempts: list[Any]) -> None:
    import datasets
    from huggingface_hub import is_offline_mode

    with hub().reading(NOBODY):
        assert is_offline_mode()
        assert datasets.config.HF_HUB_OFFLINE
        with hub().reading("somebody/else"):
            assert is_offline_mode()
    assert not is_offline_mode()
    assert not datasets.config.HF_HUB_OFFLINE
    assert len(attempts) == 1


def test_a_folder_asks_nobody(start: Path, attempts: list[Any]) -> None:
    with hub().reading(start):
        pass
    assert not attempts
