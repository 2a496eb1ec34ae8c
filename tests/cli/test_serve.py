"""``alignzoo serve``: the openai client gets from `transformers serve` what ``chat`` answers, vLLM its words."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import QUICK
from inprocess import call, run

from alignzoo.models.tiny import make_tiny
from alignzoo.system.terminal import escape

if sys.platform == "win32":
    pytest.skip("exec does not replace a process", allow_module_level=True)

QUESTIONS = ("What is salt?", "Why is the sea blue?")
PATIENCE = 300  #: seconds until it serves; importing takes most of them


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    make_tiny(tmp_path / "run" / "model", seed=1)
    return tmp_path / "run"


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run with an adapter."""
    words = ("method=sft", *QUICK, "peft=lora", "method.learning_rate=0.005")
    done = run(tmp_path_factory.mktemp("adapted") / "run", *words)
    assert done.code == 0, done.err
    return done.folder


def find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def serve(folder: Path, *words: str) -> Iterator[list[str]]:
    """Serve the model; yield the words of the printed line once it answers, and stop it by SIGINT."""
    port = find_port()
    command = [sys.executable, "-m", "alignzoo", "serve", str(folder), "--port", str(port), *words]
    with (
        (folder / "serve.log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as program,
    ):
        try:
            assert program.stdout
            first = [program.stdout.readline() for _ in range(3)]
            assert "ask it with" in first[0], first
            wait_for(f"http://127.0.0.1:{port}/health", program)
            yield shlex.split(first[2])
        finally:
            program.send_signal(signal.SIGINT)
            try:
                program.communicate(timeout=60)
            finally:
                program.kill()
    assert "Finished server process" in (folder / "serve.log").read_text()


def wait_for(address: str, program: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and program.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"it does not serve: {program.poll()}")


def ask_chat(folder: Path, monkeypatch: pytest.MonkeyPatch, question: str) -> str:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{question}\n"))
    done = call("chat", str(folder), "--temperature", "0", "--max-new-tokens", "12")
    assert done.code == 0, done.err
    return done.out.removesuffix("\n")


@pytest.mark.slow
def test_the_openai_client_gets_what_chat_answers(adapted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an adapter on its base model."""
    openai = pytest.importorskip("openai")
    pytest.importorskip("fastapi")
    with serve(adapted) as printed:
        asked = json.loads(printed[-1])
        client = openai.OpenAI(base_url=printed[1].removesuffix("/chat/completions"), api_key="none")
        found = []
        for question in QUESTIONS:
            messages = [{"role": "user", "content": question}]
            more = {"model": asked["model"], "temperature": asked["temperature"], "max_tokens": 12}
            found.append(client.chat.completions.create(messages=messages, **more).choices[0].message.content)
        done = subprocess.run(printed, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["choices"][0]["message"]["content"], "the printed line itself"
    assert [escape(text.strip()) for text in found] == [ask_chat(adapted, monkeypatch, text) for text in QUESTIONS]
    assert found[0] != found[1]


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Put a program called vllm into the path, which prints its words; vLLM itself needs a GPU."""
    file = tmp_path / "bin" / "vllm"
    file.parent.mkdir()
    file.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/words\n')
    file.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(file.parent), os.environ["PATH"]]))
    return lambda: (tmp_path / "words").read_text().splitlines()


def test_vllm_serves_where_it_is_installed(
    alignzoo: Callable[..., subprocess.CompletedProcess[str]], trained: Path, vllm: Callable[[], list[str]]
) -> None:
    done = alignzoo("serve", str(trained), "--port", "8123", "--", "--max-model-len", "512")
    assert done.returncode == 0, done.stderr
    first = ["serve", str(trained / "model"), "--generation-config", "vllm"]
    assert vllm() == [*first, "--host", "127.0.0.1", "--port", "8123", "--max-model-len", "512"]
    assert done.stdout.startswith(f"vllm serves {trained / 'model'}.")
    assert f'"model": "{trained / "model"}"' in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "--engine", "vllm"), "--engine vllm needs vLLM: pip install vllm, or leave --engine out."),
        (("./nothing", "--engine", "transformers"), "./nothing: no such folder."),
        (("at@home", "--engine", "transformers"), "transformers takes what follows @ for a revision. Move the folder."),
        (("scorer", "--engine", "transformers"), "scorer is a reward model: it gives scores, and no answers."),
    ],
)
def test_a_mistake_is_one_line(
    trained: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(trained.parent)
    monkeypatch.setattr("alignzoo.cli.serve.NEEDED", ())
    monkeypatch.setenv("PATH", "/nowhere")
    shutil.copytree(trained / "model", trained.parent / "at@home")
    scorer = trained.parent / "scorer"
    scorer.mkdir()
    (scorer / "config.json").write_text('{"architectures": ["LlamaForSequenceClassification"]}')
    done = call("serve", *words)
    assert done.code == 1
    assert said in done.err
    assert len(done.err.splitlines()) == 1


def test_without_its_packages_it_says_what_to_install(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alignzoo.cli.serve.NEEDED", ("fastapi_that_is_not_there",))
    monkeypatch.setenv("PATH", "/nowhere")
    done = call("serve", str(trained))
    assert done.err == "alignzoo: serve needs fastapi_that_is_not_there: pip install 'alignzoo[serve]'.\n"
