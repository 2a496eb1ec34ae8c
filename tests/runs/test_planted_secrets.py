"""Ten planted secrets: no file of a run or a sweep holds one, nor an export, nor what wandb keeps to send."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from inprocess import Outcome, call, run
from omegaconf import DictConfig

from alignzoo.launch.attempt import Attempt
from alignzoo.launch.torchrun import describe_job
from alignzoo.runs import resume

QUICK = (
    *("model=tiny", "dataset.rows=8", "evaluate.rows=2", "evaluate.max_new_tokens=4", "train.max_steps=1"),
    *("train.warmup_steps=0", "train.save_strategy=steps", "train.save_steps=1"),
)

#: In the environment: named by the configuration, or just there.
ENVIRONMENT = {
    "PLANTED_KEY": "planted-0-named-by-the-configuration",
    "PLANTED_PART": "planted-1-inside-of-a-longer-value",
    "HF_TOKEN": "hf_planted2ThatIsJustThere",
    "WANDB_API_KEY": "planted-3-of-the-tracker-0123456789abcdef",
}

#: Typed.
WORDS = (
    "+tracker.api_key=${oc.env:PLANTED_KEY}",
    "+tracker.header='Basic ${oc.env:PLANTED_PART}'",
    "+tracker.again=${tracker.header}",
    "+tracker.password=planted-4-typed",
    "+tracker.headers.authorization=planted-5-typed-deep",
    "+tracker.note='see hf_planted6KnownByItsForm'",
    "+tracker.url=https://me:planted-7-in-an-address@localhost/x",
)

#: In the checkout that the run is started from.
FILES = {".env": "OTHER=planted-8-in-a-tracked-env-file\n", "code.py": 'API_KEY = "planted-9-in-code"\n'}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a checkout with uncommitted secrets, with secrets in the environment."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    monkeypatch.chdir(folder)
    own = ("-c", "user.name=me", "-c", "user.email=me@localhost", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "init", "-q"], check=True)
    for name in FILES:
        Path(name).write_text("before\n")
    subprocess.run(["git", "add", "."], check=True)
    subprocess.run(["git", *own, "commit", "-q", "-m", "first"], check=True)
    for name, text in FILES.items():
        Path(name).write_text(text)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return folder


def find_planted(folder: Path) -> dict[str, str]:
    """Return the files below ``folder`` that hold a planted secret, with what stands there."""
    found = {}
    for file in (path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes().lower()
        place = content.find(b"planted-") if b"planted-" in content else content.find(b"hf_planted")
        if place >= 0:
            found[str(file.relative_to(folder))] = content[place : place + 40].decode(errors="replace")
    return found


@pytest.mark.parametrize("tracker", ["none", "wandb"])
def test_a_run_writes_none(checkout: Path, tmp_path: Path, tracker: str) -> None:
    words = (*QUICK, f"tracker={tracker}", *(("tracker.mode=offline",) if tracker == "wandb" else ()), *WORDS)
    done = run(tmp_path / "run", *words)
    assert done.code == 0, done.err
    assert find_planted(tmp_path / "run") == {}
    text = (tmp_path / "run" / "run.yaml").read_text()
    assert "api_key: ${oc.env:PLANTED_KEY}" in text, "as it was typed: the run can be repeated"
    assert "header: Basic ${oc.env:PLANTED_PART}" in text
    diff = (tmp_path / "run" / "environment.json").read_text()
    assert "API_KEY = ***" in diff
    assert ".env" not in diff
    again = run(tmp_path / "run", *words, "resume=auto")
    assert again.code == 0, again.err
    assert "holds the finished run" in again.out


def test_a_run_that_fails_writes_none(checkout: Path, tmp_path: Path) -> None:
    refused = run(tmp_path / "sweep", "-m", *QUICK, *WORDS, "method.beta=hf_planted6KnownByItsForm,0.1")
    assert refused.code == 1
    assert (tmp_path / "sweep").is_dir()
    assert list((tmp_path / "sweep").glob("*/error.txt"))
    assert find_planted(tmp_path / "sweep") == {}


def test_a_masked_word_is_not_resumed(checkout: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "sweep", "-m", *QUICK, *WORDS, "method.beta=-1,0.1").code == 1
    done = call("sweep", "resume", str(tmp_path / "sweep"))
    assert done.code == 1
    assert "holds a secret that was not kept (+tracker.password=***)" in done.err
    assert "${oc.env:NAME}" in done.err


def test_an_export_holds_none(checkout: Path) -> None:
    named = ("--secret", "PLANTED_KEY", "--secret", "PLANTED_PART")
    for command in (("kubernetes", "--image", "x", "--shared", "y"), ("skypilot", "--shared", "s3://x")):
        done = call("export", *command, *QUICK, *WORDS)
        assert "reads PLANTED_KEY from the environment: add --secret PLANTED_KEY." in done.err
        done = call("export", *command, *named, *QUICK, *WORDS)
        assert done.code == 0, done.err
        assert "api_key: ${oc.env:PLANTED_KEY}" in done.out
        assert "planted-" not in done.out
        assert "hf_planted" not in done.out


@pytest.mark.usefixtures("checkout")
def test_processes_are_handed_what_was_typed(
    compose_config: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = compose_config(*QUICK, *WORDS[:2])
    handed = describe_job(cfg, tmp_path, Attempt([], None))["config"]
    assert handed["tracker"]["api_key"] == "${oc.env:PLANTED_KEY}"
    before = resume.flatten_config(cfg)
    monkeypatch.setenv("PLANTED_KEY", "another")
    changed = resume.find_differences(before, resume.flatten_config(compose_config(*QUICK, *WORDS[:2])))
    assert not changed, "the tracker may differ"
    monkeypatch.setenv("RATE", "1e-3")
    words = (*QUICK, "method.learning_rate='${oc.decode:${oc.env:RATE}}'")
    before = resume.flatten_config(compose_config(*words))
    monkeypatch.setenv("RATE", "2e-3")
    assert resume.find_differences(before, resume.flatten_config(compose_config(*words)))


def test_a_mask_is_no_value(checkout: Path, tmp_path: Path) -> None:
    done: Outcome = run(tmp_path / "run", *QUICK, "+tracker.api_key='***'")
    assert done.code == 1
    assert "tracker.api_key=*** stands for a secret that was not written: type it" in done.err
