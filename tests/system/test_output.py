"""Output that cannot be written or shown: a command ends in a line, a training goes on, and what is odd is escaped."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import QUICK
from inprocess import restored

from alignzoo.cli import main
from alignzoo.system.output import GuardedOutput, OutputLost, outlive_output

WORDS = (*QUICK, "method=dpo", "train.max_steps=2")

Open = Callable[[], io.TextIOWrapper]


def closed_pipe() -> io.TextIOWrapper:
    """Return the writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w", encoding="utf-8")


def full_device() -> io.TextIOWrapper:
    return Path("/dev/full").open("w", encoding="utf-8")


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Put real files in the place of both outputs; return the file behind stderr."""
    opened = []

    def use(stdout: io.TextIOWrapper, stderr: io.TextIOWrapper | None = None) -> Path:
        err = tmp_path / "stderr"
        opened.extend([stdout, stderr or err.open("w", encoding="utf-8")])
        monkeypatch.setattr(sys, "stdout", opened[0])
        monkeypatch.setattr(sys, "stderr", opened[1])
        return err

    yield use
    for stream in opened:
        with contextlib.suppress(OSError):
            stream.close()


def code_of(*words: str) -> int:
    """Return the exit code of ``alignzoo WORDS``, with the outputs that are in place now."""
    with restored():
        try:
            main(words)
        except SystemExit as end:
            return int(end.code or 0)
    return 0


@pytest.mark.parametrize(
    ("open_output", "code", "said"),
    [
        (closed_pipe, 141, ""),
        (full_device, 1, "alignzoo: what this command prints cannot be written: No space left on device.\n"),
    ],
)
@pytest.mark.parametrize("words", [("describe", "method=dpo"), ("list", "--help"), ("--cfg", "job"), ("cache", "list")])
def test_a_command_ends_in_a_line_at_most(
    streams: Callable[..., Path], open_output: Open, code: int, said: str, words: tuple[str, ...]
) -> None:
    err = streams(open_output())
    before = sys.stdout, sys.stderr
    assert code_of(*words) == code
    assert (sys.stdout, sys.stderr) == before
    assert err.read_text() == said


def test_a_mistake_is_still_one(streams: Callable[..., Path]) -> None:
    err = streams(full_device())
    assert code_of("method=dqo") == 1
    assert err.read_text().startswith("alignzoo: method=dqo: no such option.")


def test_where_stderr_is_lost_too_the_exit_code_says_it(streams: Callable[..., Path]) -> None:
    streams(full_device(), full_device())
    assert (code_of("describe", "method=dpo"), code_of("method=dqo")) == (1, 1)


@pytest.mark.parametrize("open_output", [closed_pipe, full_device])
def test_a_training_goes_on(streams: Callable[..., Path], open_output: Open, tmp_path: Path) -> None:
    err = streams(open_output())
    assert code_of(*WORDS, f"hydra.run.dir={tmp_path / 'run'}") == 0
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"result.json", "model", "plots", "answers.jsonl"} <= names
    assert "error.txt" not in names
    last = err.read_text().splitlines()[-1]
    assert last.startswith("alignzoo: not all that was printed could be written (")
    assert "Traceback" not in err.read_text()


def test_a_sweep_goes_on_where_no_output_can_be_written(streams: Callable[..., Path], tmp_path: Path) -> None:
    streams(full_device(), full_device())
    assert code_of("-m", *WORDS, "seed=1,2", f"hydra.sweep.dir={tmp_path / 'sweep'}") == 0
    assert len(list((tmp_path / "sweep").glob("*/result.json"))) == 2
    assert (tmp_path / "sweep" / "leaderboard.html").exists()


def test_a_training_prints_on_an_ascii_terminal(streams: Callable[..., Path], tmp_path: Path) -> None:
    rows = [f'{{"prompt": "Qu\'est-ce que β{n} ?", "chosen": "une lettre.", "rejected": "日本"}}\n' for n in range(6)]
    (tmp_path / "pairs.jsonl").write_text("".join(rows), encoding="utf-8")
    words = ["dataset=local", f"dataset.path={tmp_path / 'pairs.jsonl'}", "dataset.heldout.fraction=0.5"]
    streams((tmp_path / "out").open("w", encoding="ascii"), (tmp_path / "err").open("w", encoding="ascii"))
    quick = [word for word in WORDS if not word.startswith("dataset")]
    assert code_of(*quick, *words, f"hydra.run.dir={tmp_path / 'run'}") == 0
    assert r"\u03b2" in (tmp_path / "out").read_text(encoding="ascii")
    assert (tmp_path / "run" / "result.json").exists()


def test_what_the_terminal_cannot_show_is_escaped(streams: Callable[..., Path], tmp_path: Path) -> None:
    streams((tmp_path / "out").open("w", encoding="ascii"), (tmp_path / "err").open("w", encoding="utf-8"))
    with GuardedOutput():
        print("β", "2-kto-\udcff")
        print("β", "2-kto-\udcff", file=sys.stderr)
    assert (tmp_path / "out").read_text() == "\\u03b2 2-kto-\\udcff\n"
    assert (tmp_path / "err").read_text() == "β 2-kto-\\udcff\n"


def in_guard(action: Callable[[], object]) -> None:
    with GuardedOutput():
        action()


def print_twice() -> None:
    print("x" * 100_000, file=sys.stderr, flush=True)
    with pytest.raises(OutputLost, match="No space left"):
        print("x", flush=True)
    print("y", flush=True)


def print_and_raise(error: BaseException) -> None:
    print("x")
    raise error


def test_one_failed_write_ends_a_command_once(streams: Callable[..., Path]) -> None:
    streams(full_device(), full_device())
    with pytest.raises(SystemExit, match="1"):
        in_guard(print_twice)


@pytest.mark.parametrize("error", [SystemExit(3), KeyError("after")])
def test_another_end_stays_what_it_is(streams: Callable[..., Path], error: BaseException) -> None:
    streams(full_device(), full_device())
    with pytest.raises(type(error)) as end:
        in_guard(lambda: print_and_raise(error))
    assert end.value is error


def test_a_training_ends_by_no_write(streams: Callable[..., Path]) -> None:
    streams(full_device(), full_device())
    with GuardedOutput():
        outlive_output()
        print("x", flush=True)


def test_a_process_that_only_trains_is_guarded_by_itself(streams: Callable[..., Path]) -> None:
    """Such as joblib's, which the command line does not start."""
    streams(closed_pipe(), closed_pipe())
    outlive_output()
    print("x" * 100_000, flush=True)
    print("x" * 100_000, file=sys.stderr, flush=True)
    outlive_output()
    print("y", flush=True)


def test_output_in_memory_is_escaped_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (io.StringIO(), io.TextIOWrapper(io.BytesIO(), encoding="utf-8")):
        monkeypatch.setattr(sys, "stdout", stream)
        with GuardedOutput():
            print("β\x1b")
        assert sys.stdout is stream
        stream.seek(0)
        assert stream.read() == "β\\u001b\n"


def test_a_pipe_that_does_not_block_is_waited_for(streams: Callable[..., Path]) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    streams(os.fdopen(writer, "w"))
    read: list[int] = []

    def drain() -> None:
        while part := os.read(reader, 4096):
            read.append(len(part))

    thread = threading.Thread(target=drain)
    with GuardedOutput():
        thread.start()
        print("x" * 1_000_000, flush=True)
    sys.stdout.close()
    thread.join()
    os.close(reader)
    assert sum(read) == 1_000_001


def test_a_closed_stream_takes_no_other_files_place() -> None:
    """``>&-``: without a file there, the next one that is opened would be printed into."""
    command = [sys.executable, "-m", "alignzoo", "describe", "method=dpo"]
    shell = f"exec {' '.join(command)} >&- 2>&- <&-"
    assert subprocess.run(["bash", "-c", shell], check=False).returncode == 0
