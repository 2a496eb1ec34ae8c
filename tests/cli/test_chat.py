"""``alignzoo chat``: real tiny models answer lines from a pipe, and a person at a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from inprocess import Outcome, call
from inprocess import run as run_in_process
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignzoo.evaluate.completions import generate_greedy
from alignzoo.models.tiny import make_tiny
from alignzoo.system.terminal import escape

if sys.platform == "win32":
    pytest.skip("no pseudo-terminals", allow_module_level=True)

GREEDY = ("--temperature", "0", "--max-new-tokens", "12")
SALT, SEA = "What is salt?", "Why is the sea blue?"

Chat = Callable[..., Outcome]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A start model, a run's folder with another one, and the start model without a chat template."""
    folder = tmp_path_factory.mktemp("models")
    make_tiny(folder / "start", seed=0)
    make_tiny(folder / "run" / "model", seed=1)
    (folder / "run" / "result.json").write_text(
        json.dumps({"before": {}, "after": {}, "start": {"folder": str(folder / "start")}})
    )
    shutil.copytree(folder / "start", folder / "bare")
    (folder / "bare" / "chat_template.jinja").unlink()
    return folder


@pytest.fixture
def chat(models: Path, monkeypatch: pytest.MonkeyPatch) -> Chat:
    """Run ``alignzoo chat WORDS`` beside the models, with these lines in the pipe."""
    monkeypatch.chdir(models)

    def run(*words: str, lines: tuple[str, ...] = (SALT,)) -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        return call("chat", *words)

    return run


def expected(folder: Path, *turns: str, system: str | None = None, template: bool = True) -> str:
    """Return the greedy answer that the evaluation would get: turns are questions and answers in turn."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    roles = ("user", "assistant")
    messages: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
    messages += [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)]
    text = (
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) if template else turns[-1]
    )
    ids = tokenizer(text, add_special_tokens=False).input_ids
    (found,) = generate_greedy(model, tokenizer, [ids], [tokenizer.eos_token_id], 12, 1)
    return found.text


def test_a_run_answers_one_line_each_and_remembers(chat: Chat, models: Path) -> None:
    done = chat("run", *GREEDY, lines=(SALT, "", SEA))
    folder = models / "run" / "model"
    first = expected(folder, SALT)
    second = expected(folder, SALT, first, SEA)
    assert (done.code, done.out) == (0, escape(f"{first}\n{second}\n")), done.err
    assert second != expected(folder, SEA)  # otherwise nothing would be remembered


def test_reset_clears_and_quit_ends(chat: Chat, models: Path) -> None:
    done = chat("start", *GREEDY, lines=(SALT, "/reset", SEA, "/quit", SALT))
    answers = [expected(models / "start", question) for question in (SALT, SEA)]
    assert done.out == escape("".join(f"{text}\n" for text in answers))


def test_with_the_start_model_one_after_the_other(chat: Chat, models: Path) -> None:
    done = chat("run", "--with", "start", *GREEDY)
    after, before = expected(models / "run" / "model", SALT), expected(models / "start", SALT)
    assert after != before
    assert done.out == escape(f"run: {after}\nstart: {before}\n")


def test_with_a_folder_and_a_system_message(chat: Chat, models: Path) -> None:
    done = chat("start", "--with", "run", "--system", "Be rude.", *GREEDY)
    answers = [expected(models / name, SALT, system="Be rude.") for name in ("start", "run/model")]
    assert done.out == escape(f"start: {answers[0]}\nrun: {answers[1]}\n")
    assert answers[0] != expected(models / "start", SALT)


def test_without_a_chat_template_the_text_is_continued(chat: Chat, models: Path) -> None:
    done = chat("bare", *GREEDY, lines=(SALT, SEA))
    answers = [expected(models / "bare", text, template=False) for text in (SALT, SEA)]
    assert done.out == escape("".join(f"{text}\n" for text in answers))
    assert "bare has no chat template: it continues each text by itself." in done.err


def test_the_token_that_ends_an_answer_is_not_printed(chat: Chat, models: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(models / "start")
    shutil.copytree(models / "start", models / "short")
    with torch.no_grad():  # the token becomes a likely one
        model.get_input_embeddings().weight[model.config.eos_token_id] *= 3
    model.save_pretrained(models / "short")
    done = chat("short", *GREEDY, lines=(SALT, "/reset", SEA))
    answers = [expected(models / "short", question) for question in (SALT, SEA)]
    assert done.out == escape("".join(f"{text}\n" for text in answers))
    assert len(answers[1].split()) < 12  # it ended before the limit


def test_a_temperature_draws_answers(chat: Chat) -> None:
    drawn = chat("start", "--max-new-tokens", "12", lines=(SALT, "/reset", SALT, "/reset", SALT)).out
    assert len(set(drawn.splitlines())) > 1


def test_an_adapter_answers_on_its_base_model(tmp_path: Path, models: Path, chat: Chat) -> None:
    """A real run with an adapter, trained so hard that its answers change."""
    words = ("method=sft", "model=tiny", "peft=lora", "dataset.rows=16", "evaluate.rows=4", "method.learning_rate=0.05")
    done = run_in_process(tmp_path / "run", *words, "evaluate.max_new_tokens=8")
    assert done.code == 0, done.err
    assert (done.folder / "model" / "adapter_config.json").is_file()
    after, before = chat(str(done.folder), "--with", "start", *GREEDY).out.split("\nstart: ")
    start = Path(done.result()["start"]["folder"])
    assert before == escape(expected(start, SALT)) + "\n"
    assert after.removeprefix("run: ") == escape(adapted(start, done.folder / "model"))
    assert after.removeprefix("run: ") != before.strip()


def adapted(base: Path, adapter: Path) -> str:
    from peft import PeftModel

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).merge_and_unload().eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": SALT}], tokenize=False, add_generation_prompt=True
    )
    (found,) = generate_greedy(model, tokenizer, [tokenizer(text).input_ids], [tokenizer.eos_token_id], 12, 1)
    return found.text


def mistakes(models: Path) -> dict[str, tuple[tuple[str, ...], str]]:
    (models / "empty").mkdir(exist_ok=True)
    (models / "failed").mkdir(exist_ok=True)
    (models / "failed" / "error.txt").write_text("NaN loss\n")
    (models / "broken").mkdir(exist_ok=True)
    (models / "broken" / "config.json").write_text("{")
    (models / "orphan").mkdir(exist_ok=True)
    (models / "orphan" / "adapter_config.json").write_text('{"base_model_name_or_path": "/no/base"}')
    return {
        "empty": (("empty",), "empty is neither a run folder (no model in it) nor the folder of a saved model."),
        "failed": (("failed",), "The run failed: NaN loss"),
        "no such folder": (("./nothing",), "./nothing: no such folder. Name a run folder, "),
        "broken": (("broken",), "broken cannot be loaded: "),
        "no base": (("orphan",), "orphan is an adapter, and its base model is not there: /no/base: no such folder."),
        "no run": (("start", "--with", "start"), "--with start: start is not a finished run"),
        "twice": (("run", "--with", "run"), "--with run is the same model: name another one."),
        "too long": (("start", "--max-new-tokens", "4096"), "do not fit into the model's 4096: /reset, ask less, or"),
    }


@pytest.mark.parametrize(
    "name", ["empty", "failed", "no such folder", "broken", "no base", "no run", "twice", "too long"]
)
def test_a_mistake_is_one_line(chat: Chat, models: Path, name: str) -> None:
    words, said = mistakes(models)[name]
    done = chat(*words)
    assert (done.code, done.out) == (1, "")
    lines = [line for line in done.err.splitlines() if line.startswith("alignzoo: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert "Traceback" not in done.err


@pytest.mark.parametrize("words", [("--max-new-tokens", "0"), ("--temperature", "-1"), ("--temperature", "nan")])
def test_options_out_of_range_are_refused(chat: Chat, words: tuple[str, ...]) -> None:
    done = chat("start", *words)
    assert done.code == 2
    assert f"Error: Invalid value for '{words[0]}': " in done.err


class Terminal:
    """A person at a terminal in which ``alignzoo chat`` runs."""

    def __init__(self, *words: str) -> None:
        self.process, self.screen = pty.fork()
        if self.process == 0:  # no escape codes from a dumb terminal
            environment = {**os.environ, "TERM": "dumb"}
            os.execve(sys.executable, [sys.executable, "-m", "alignzoo", "chat", *words], environment)
        self.unread = ""

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def until(self, mark: str, timeout: float = 120) -> tuple[str, int]:
        """Return what is on the screen up to ``mark``, and in how many pieces it came."""
        end, pieces = time.monotonic() + timeout, 0
        while mark not in self.unread:
            assert select.select([self.screen], [], [], max(0.0, end - time.monotonic()))[0], self.unread
            self.unread += os.read(self.screen, 65536).decode(errors="replace")
            pieces += 1
        seen, _, self.unread = self.unread.partition(mark)
        return seen.replace("\r\n", "\n"), pieces

    def exit_code(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])

    def close(self) -> None:
        os.close(self.screen)
        try:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*words: Any) -> Terminal:
        opened.append(Terminal(*map(str, words)))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_a_terminal_streams_resets_and_ends_with_ctrl_d(terminal: Callable[..., Terminal], models: Path) -> None:
    screen = terminal(models / "run", "--temperature", "0", "--max-new-tokens", "12")
    assert "/reset clears the conversation, Ctrl-C stops an answer, /quit or Ctrl-D ends." in screen.until("> ")[0]

    def ask(question: str) -> tuple[str, int]:
        screen.type(f"{question}\n")
        screen.until(f"{question}\r\n")  # the echo
        seen, pieces = screen.until("\r\n\r\n> ")
        return seen.strip(), pieces

    first, pieces = ask(SALT)
    answer = expected(models / "run" / "model", SALT)
    assert first == escape(answer)
    assert pieces > 1
    again, _ = ask(SALT)
    assert again == escape(expected(models / "run" / "model", SALT, answer, SALT)) != first
    screen.type("/reset\n")
    screen.until("The conversation is cleared.\r\n> ")
    assert ask(SALT)[0] == first
    screen.type("\x04")  # Ctrl-D
    assert screen.exit_code() == 0
