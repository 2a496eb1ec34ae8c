"""``python -m alignzoo serve``: hands a trained model over to vLLM or `transformers serve`."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from alignzoo.cli.options import WORD
from alignzoo.config import placement
from alignzoo.system.errors import UserError

TRUST = "--trust-remote-code"
NEEDED = ("fastapi", "uvicorn", "openai", "pydantic")  #: packages of `transformers serve`

#: What `transformers serve` runs, without its look at the package index for a newer version.
TRANSFORMERS = "from transformers.cli.transformers import app; app(prog_name='transformers')"


@click.command
@click.argument("model", metavar="RUN_OR_MODEL")
@click.option("--engine", type=click.Choice(["auto", "vllm", "transformers"]), default="auto", show_default=True)
@click.option("--host", type=WORD, default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option(TRUST, "trusted", is_flag=True, help="Run the Python code that comes with a model: read it first.")
@click.argument("further", nargs=-1, metavar="[-- OPTION]...", type=click.UNPROCESSED)
def command(model: str, engine: str, host: str, port: int, trusted: bool, further: Sequence[str]) -> int:
    """Serve a run's model, a model's folder or a hub id with OpenAI's protocol, until Ctrl-C.

    An adapter is merged into its base model first. auto: vLLM where it is installed, else transformers. Options behind
    -- are the engine's own.
    """
    from alignzoo.models.pretrained import RemoteCode, is_scorer
    from alignzoo.models.whole import find_whole

    engine = choose_engine(engine)
    folder = find_whole(model, RemoteCode(trusted, TRUST))
    if is_scorer(folder):
        raise UserError(f"{model} is a reward model: it gives scores, and no answers.")
    words = {"vllm": _use_vllm, "transformers": _use_transformers}[engine](folder, trusted)
    print(f"{engine} serves {folder}. When it says that it runs, ask it with\n")
    print(f"    {describe_question(folder, host, port)}\n", flush=True)
    os.execv(words[0], [*words, "--host", host, "--port", str(port), *further])


def choose_engine(asked: str) -> str:
    """Return the engine that serves.

    Raises:
        UserError: it is not installed.
    """
    if asked == "vllm" or (asked == "auto" and shutil.which("vllm")):
        if shutil.which("vllm"):
            return "vllm"
        raise UserError("--engine vllm needs vLLM: pip install vllm, or leave --engine out.")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"serve needs {', '.join(missing)}: pip install 'alignzoo[serve]'.")
    return "transformers"


def describe_question(folder: Path, host: str, port: int) -> str:
    """Return the line of a shell that asks the model a question."""
    question = {"model": str(folder), "messages": [{"role": "user", "content": "What is salt?"}], "temperature": 0}
    address = f"http://{host}:{port}/v1/chat/completions"
    return f"curl {address} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(question))}"


def _use_vllm(folder: Path, trusted: bool) -> list[str]:
    """Return the words that start vLLM, without the sampling settings that lie beside the weights, as in `chat`."""
    program = shutil.which("vllm")
    assert program
    return [program, "serve", str(folder), "--generation-config", "vllm", *([TRUST] if trusted else [])]


def _use_transformers(folder: Path, trusted: bool) -> list[str]:
    """Return the words that start `transformers serve`; on a CPU, where bf16 is many times slower, in float32."""
    if "@" in str(folder):
        raise UserError(f"{folder}: transformers takes what follows @ for a revision. Move the folder.")
    device = [] if placement.count_gpus() or sys.platform == "darwin" else ["--device", "cpu", "--dtype", "float32"]
    return [sys.executable, "-c", TRANSFORMERS, "serve", str(folder), *device, *([TRUST] if trusted else [])]
