"""``python -m alignzoo chat``: talks to a trained model, and to its start model."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from alignzoo.cli.chat.speaker import Sampling, Speaker, find, load, start_of
from alignzoo.models.pretrained import RemoteCode
from alignzoo.system.errors import UserError, print_error

TRUST = "--trust-remote-code"
HELP = "/reset clears the conversation, Ctrl-C stops an answer, /quit or Ctrl-D ends."


def _not_negative(context: click.Context, option: click.Parameter, value: float) -> float:
    if not 0 <= value < float("inf"):
        raise click.BadParameter("must be 0 or more")
    return value


@click.command(epilog=f"While talking: {HELP}")
@click.argument("model", metavar="RUN_OR_MODEL")
@click.option("--with", "other", metavar="START", help="A second model that answers too; start: the run's start model.")
@click.option(
    "--max-new-tokens", type=click.IntRange(1), default=256, show_default=True, help="Longest answer, in tokens."
)
@click.option(
    "--temperature", type=float, default=0.7, show_default=True, callback=_not_negative, help="0: the likeliest token."
)
@click.option("--system", metavar="TEXT", help="System message.")
@click.option(TRUST, "trusted", is_flag=True, help="Run the Python code that comes with a model: read it first.")
def command(
    model: str, other: str | None, max_new_tokens: int, temperature: float, system: str | None, trusted: bool
) -> int:
    """Talk to a model in the terminal: a run folder, the folder of a saved model or adapter, or a hub id.

    From a pipe it answers one question a line, and the first mistake ends it.
    """
    sampling = Sampling(max_new_tokens, temperature)
    speakers = _speakers(model, other, system, RemoteCode(trusted, TRUST))
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    for speaker in speakers:
        if not speaker.chats:
            print(f"{speaker.label} has no chat template: it continues each text by itself.", file=sys.stderr)
    if terminal:
        print(HELP)
    for question in _typed() if terminal else _piped():
        if question == "/quit":
            break
        if question == "/reset":
            _reset(speakers, terminal)
        elif question:
            _answer(speakers, question, sampling, terminal)
    return 0


def _speakers(word: str, other: str | None, system: str | None, code: RemoteCode) -> list[Speaker]:
    """Load one model, or two; both folders are found before either is loaded."""
    words = {word: find(word)}
    if other:
        words[other] = find(start_of(word) if other == "start" else other)
    if len(words) == 1 and other:
        raise UserError(f"--with {other} is the same model: name another one.")
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    names = [Path(name).name or name for name in words]
    labels = names if len(set(names)) == len(names) else list(words)
    return [load(label, folder, system, code) for label, folder in zip(labels, words.values(), strict=True)]


def _typed() -> Iterator[str]:
    """Yield what is typed; Ctrl-C gives up a line, not the program."""
    try:
        import readline  # noqa: F401  # input() then edits lines and remembers them
    except ImportError:
        pass
    while True:
        try:
            yield input("> ").strip()
        except KeyboardInterrupt:
            print()
        except EOFError:
            print()
            return


def _piped() -> Iterator[str]:
    for line in sys.stdin:
        yield line.strip()


def _reset(speakers: Sequence[Speaker], terminal: bool) -> None:
    for speaker in speakers:
        speaker.reset()
    if terminal:
        print("The conversation is cleared.")


def _answer(speakers: Sequence[Speaker], question: str, sampling: Sampling, terminal: bool) -> None:
    """Print the answers one after the other, each under its model's name where there are two."""
    for speaker in speakers:
        label = f"{speaker.label}: " if len(speakers) > 1 else ""
        try:
            whole = (
                _stream(speaker, label, question, sampling) if terminal else _plain(speaker, label, question, sampling)
            )
        except UserError as error:
            if not terminal:
                raise
            print_error(str(error))
            continue
        if not whole:
            return


def _stream(speaker: Speaker, label: str, question: str, sampling: Sampling) -> bool:
    try:
        print(label, end="", flush=True)
        whole = speaker.answer(question, sampling, lambda piece: print(piece, end="", flush=True))
    except KeyboardInterrupt:  # before its first word
        whole = False
    print("" if whole else " [stopped]", end="\n\n", flush=True)
    return whole


def _plain(speaker: Speaker, label: str, question: str, sampling: Sampling) -> bool:
    pieces: list[str] = []
    whole = speaker.answer(question, sampling, pieces.append)
    if not whole:
        raise KeyboardInterrupt
    print(f"{label}{''.join(pieces).strip()}", flush=True)
    return whole
