"""Text that somebody else wrote reaches the terminal escaped, by whatever command; ten strings that do harm."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICK
from inprocess import call
from repository import ROOT
from rich.progress import Progress, TextColumn
from rich.text import Text
from tqdm import tqdm

from alignzoo import UserError
from alignzoo.data.manifest import FILE
from alignzoo.evaluate.metrics import summarise
from alignzoo.models.tiny import make_tiny
from alignzoo.system import console
from alignzoo.system.output import GuardedOutput
from alignzoo.system.terminal import escape

HOSTILE = {
    "clear": "\x1b[2J",
    "clipboard": "\x1b]52;c;cm0gLXJm\x07",
    "link": "\x1b]8;;http:evil\x1b\\here\x1b]8;;\x1b\\",
    "C1 clear": "\x9b2J",
    "C1 title": "\x9d0;owned\x9c",
    "bell": "\x07",
    "backspace": "fail\b\b\b\bgood",
    "return": "errors\rfine  ",
    "markup": "[bold]loud[/bold] [link=http:evil]here[/link] :bomb:",
    "direction": "\u202e2.0\u202c \u2067",
}
ALL = " ".join(HOSTILE.values())
FIRST_LINE = list(HOSTILE)[: list(HOSTILE).index("return")]  #: Python reads a carriage return as the end of a line

#: Texts of real languages and of families of emoji, with the marks that they need.
READABLE = (
    "日本語 ÅÄÖ e\u0301",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "\u05e9\u05dc\u05d5\u05dd\u200f!",
    "👩\u200d👩\u200d👧 ❤\ufe0f",
    "a\tb\nc",
)

#: What no output may hold: all control characters but those of lines and columns, and what changes the direction.
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def assert_escaped(text: str, *names: str) -> None:
    """Assert that ``text`` shows the hostile strings, by default all, and that none of them is raw."""
    assert not RAW.search(text)
    flat = "".join(text.split())
    for name in names or HOSTILE:
        assert "".join(escape(HOSTILE[name]).split()) in flat, name


@pytest.fixture(autouse=True)
def wide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "2000")
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def printed(*words: str) -> str:
    done = call(*words)
    return done.out + done.err


def make_run(folder: Path) -> Path:
    """Write a finished run, whose every text is hostile."""
    side = {"text": ALL, "tokens": 9, "ended": True, "chosen": -10.0, "rejected": -20.0, "kl": 0.1, "kl_tokens": 9}
    side |= {"reward": None, "win": None}
    line = {"prompt": f"{ALL}?", "chosen_tokens": 9, "rejected_tokens": 9, "before": side, "after": {**side}}
    lines = [{**line, "id": f"{number} {ALL}"} for number in range(4)]
    folder.mkdir(parents=True)
    (folder / "answers.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (folder / "metrics.jsonl").write_text("")
    result = {"method": ALL, "objective": "preference_accuracy", "data": {"train": "t", "heldout": "h"}}
    (folder / "result.json").write_text(json.dumps({**result, **summarise(lines), "cost": {"train_seconds": 1.0}}))
    (folder / "run.yaml").write_text(json.dumps({"seed": 0, "method": {"name": ALL, "beta": 0.1}}))
    (folder / "command.txt").write_text("python -m alignzoo\n")
    return folder


def test_escaping_leaves_what_scripts_need_and_json_its_meaning() -> None:
    assert [escape(text) for text in READABLE] == [*READABLE]
    assert escape("\x1b\x9b\x7f\r") == r"\u001b\u009b\u007f\u000d"
    assert json.loads(escape(json.dumps(ALL, ensure_ascii=False))) == ALL
    assert escape(escape(ALL)) == escape(ALL)


def test_check_shows_rows_escaped(tmp_path: Path) -> None:
    rows = [{"id": ALL, "prompt": f"{n} {ALL}?", "chosen": f"{n} {ALL}", "rejected": f"bad {ALL}"} for n in range(6)]
    file = tmp_path / f"{HOSTILE['clear']}.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    words = ("check", "model=tiny", "dataset=local", f"dataset.path='{file}'", "dataset.heldout.fraction=0")
    out = printed(*words)
    assert "verdict" in out
    assert_escaped(out)
    found = call(*words, "--json").out
    assert json.loads(found)["dataset"] == "local"
    assert not RAW.search(found)


def test_compare_and_report_show_runs_escaped(tmp_path: Path) -> None:
    runs = [str(make_run(tmp_path / f"{name} {ALL}")) for name in "ab"]
    assert_escaped(printed("compare", *runs))
    (Path(runs[1]) / "result.json").write_text("[")
    board = printed("report", *runs)
    assert "preference" in board
    assert_escaped(board)


def test_a_sweep_shows_its_jobs_escaped(tmp_path: Path) -> None:
    account: dict[str, Any] = {"overrides": {"task": ["seed=1,2"], "hydra": []}}
    account |= {"sweeper": {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"}}
    (tmp_path / "1-a").mkdir()
    (tmp_path / "1-a" / "error.txt").write_text(ALL, newline="")
    (tmp_path / "multirun.yaml").write_text(json.dumps({"hydra": account}))
    assert_escaped(printed("sweep", "status", str(tmp_path)), *FIRST_LINE)


def test_list_shows_plugins_escaped(fake_package: Callable[..., None]) -> None:
    fake_package("fake_hostile", f"raise RuntimeError({ALL!r})")
    assert_escaped(printed("list"), *FIRST_LINE)


def test_plan_shows_names_escaped() -> None:
    assert_escaped(printed("plan", "model=tiny", f"model.name='{ALL}'", "train.max_length=64"))


def test_chat_shows_answers_and_names_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", f"b {HOSTILE['clear']}"):
        make_tiny(tmp_path / name, seed=0)
        file = tmp_path / name / "tokenizer.json"
        tokenizer = json.loads(file.read_text())
        say = {"type": "Replace", "pattern": {"Regex": "[^\x00]"}, "content": f"{ALL} "}
        tokenizer["decoder"] = {"type": "Sequence", "decoders": [tokenizer["decoder"], say]}
        file.write_text(json.dumps(tokenizer))
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is salt?\n"))
    out = printed("chat", "a", "--with", f"b {HOSTILE['clear']}", "--temperature", "0", "--max-new-tokens", "4")
    assert r"b \u001b[2J: " in out
    assert_escaped(out)


def test_an_errors_text_is_escaped(tmp_path: Path) -> None:
    missing = f"{tmp_path}/{ALL}.jsonl"
    out = printed("check", "model=tiny", "dataset=local", f"dataset.path='{missing}'")
    assert out.startswith("alignzoo: ")
    assert_escaped(out)
    assert_escaped(printed("compare", missing))


def test_a_trainings_output_and_log_are_escaped(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n} {ALL}?", "chosen": f"{n} {ALL}", "rejected": f"bad {ALL}"} for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    words = ["dataset=local", "dataset.path=rows.jsonl", "dataset.heldout.fraction=0.5", "train.max_steps=1"]
    quick = [word for word in QUICK if not word.startswith("dataset")]
    out = printed(*quick, *words, f"hydra.run.dir='{tmp_path / HOSTILE['clear']}'")
    assert "run folder: " in out
    assert_escaped(out)
    assert (tmp_path / HOSTILE["clear"] / FILE).exists()


def test_a_log_line_and_its_traceback_are_escaped(tmp_path: Path) -> None:
    log, file = logging.getLogger("hostile"), tmp_path / "log"
    with GuardedOutput():
        handler = logging.FileHandler(file, encoding="utf-8")
        log.addHandler(handler)
        try:
            raise UserError(ALL)
        except UserError:
            log.exception("said %s", ALL)
        finally:
            log.removeHandler(handler)
            handler.close()
    said, traced = file.read_bytes().decode().split("Traceback")
    assert_escaped(said)
    assert_escaped(traced)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_sequence_split_over_two_pieces_is_escaped(name: str) -> None:
    text = HOSTILE[name]
    for place in range(len(text)):
        with contextlib.redirect_stdout(io.StringIO()) as out, GuardedOutput():
            print(text[:place], end="", flush=True)
            print(text[place:], end="", flush=True)
        assert out.getvalue() == escape(text)


class Terminal(io.StringIO):
    """What was written to a terminal that shows colours."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def test_rich_keeps_its_own_styles_and_widths(shown: Terminal) -> None:
    with contextlib.redirect_stdout(shown), GuardedOutput():
        console.make_console().print(Text(ALL, "green"))
        console.make_console().print(Text("\x1b", "green"), "|")
    assert shown.getvalue().startswith("\x1b[32m")
    assert shown.getvalue().endswith("\x1b[32m\\u001b\x1b[0m |\n")
    assert_escaped(re.sub("\x1b\\[(32|0)m", "", shown.getvalue()))
    assert Text("\x1b").cell_len == 6


def test_what_is_printed_while_a_bar_moves_is_escaped(shown: Terminal) -> None:
    with contextlib.redirect_stdout(shown), GuardedOutput():
        with Progress(TextColumn("{task.description}", markup=False), console=console.make_console()) as bar:
            bar.add_task(ALL)
            print(ALL)
        print(ALL)
    moves = "\x1b\\[(?:[?]25[lh]|1A|2K|0m|32m)|\r"
    assert "\x1b[?25l" in shown.getvalue()
    assert_escaped(re.sub(moves, "", shown.getvalue()))


def test_bars_of_the_hubs_client_move_and_are_escaped(shown: Terminal) -> None:
    console.escape_bars()
    with contextlib.redirect_stderr(shown), GuardedOutput():
        for _ in tqdm(range(2), desc=ALL, position=1, ncols=400):
            pass
    assert "\r" in shown.getvalue()
    assert "\x1b[A" in shown.getvalue()
    assert_escaped(re.sub("\r|\x1b\\[A", "", shown.getvalue()))


def test_a_crash_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    with contextlib.redirect_stderr(io.StringIO()) as err:
        with pytest.raises(KeyError) as end, GuardedOutput():
            raise KeyError(ALL) from ValueError(ALL)
        sys.excepthook(end.type, end.value, end.tb)
    assert "ValueError: " in err.getvalue()
    assert_escaped(err.getvalue())


def test_every_console_is_made_in_one_place() -> None:
    sources = [*(ROOT / "alignzoo").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    makers = [path.name for path in sources if re.search(r"\bConsole\(", path.read_text(encoding="utf-8"))]
    assert makers == ["console.py"]
