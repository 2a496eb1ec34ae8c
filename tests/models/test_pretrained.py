"""Code that comes with a model runs only where the user says so, wherever it is named and whoever loads it."""

from __future__ import annotations

import ast
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from inprocess import Outcome, call, run
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from alignzoo import UserError
from alignzoo.models.pretrained import RemoteCode, read_config, read_model, read_tokenizer
from alignzoo.models.tiny import make_tiny
from alignzoo.system.libraries import silence_libraries

QUICK = ("dataset.rows=8", "evaluate.rows=2", "evaluate.max_new_tokens=4", "train.max_steps=1", "train.warmup_steps=0")

CODE = """
from pathlib import Path

from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, LlamaModel
from transformers import PreTrainedTokenizerFast

(Path({mark!r}) / __name__.rpartition(".")[2]).touch()


class Config(LlamaConfig):
    model_type = "foreign"


class Base(LlamaModel):
    config_class = Config


class Causal(LlamaForCausalLM):
    config_class = Config


class Scorer(LlamaForSequenceClassification):
    config_class = Config


class Tokenizer(PreTrainedTokenizerFast):
    pass
"""

#: The file that each of transformers' classes is told to run.
FILES = {
    "AutoConfig": "foreign_config.Config",
    "AutoModel": "foreign_model.Base",
    "AutoModelForCausalLM": "foreign_model.Causal",
    "AutoModelForSequenceClassification": "foreign_model.Scorer",
}


class Foreign:
    """A model's folder with code of its own, and what that code left behind when it ran."""

    def __init__(self, folder: Path, mark: Path) -> None:
        self.folder, self.mark = folder, mark

    @property
    def ran(self) -> list[str]:
        """The files of code that ran."""
        return sorted(path.name for path in self.mark.iterdir())


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Foreign:
    """Return a model that needs its own code; whoever asks on the terminal whether that may run gets a yes."""
    folder, mark = tmp_path / "foreign", tmp_path / "mark"
    mark.mkdir()
    make_tiny(folder)
    for name in ("foreign_config", "foreign_model", "foreign_tokenizer"):
        (folder / f"{name}.py").write_text(CODE.format(mark=str(mark)))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "foreign", "auto_map": FILES}))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 20))
    return Foreign(folder, mark)


def give_tokenizer_code(folder: Path) -> None:
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    own = {"tokenizer_class": "Tokenizer", "auto_map": {"AutoTokenizer": [None, "foreign_tokenizer.Tokenizer"]}}
    file.write_text(json.dumps(config | own))


READERS: dict[str, Callable[[Path, RemoteCode], object]] = {
    "config": read_config,
    "tokenizer": read_tokenizer,
    "policy": lambda folder, code: read_model(AutoModelForCausalLM, folder, code),
    "scorer": lambda folder, code: read_model(AutoModelForSequenceClassification, folder, code),
}


@pytest.mark.parametrize("kind", READERS)
def test_each_reader_refuses_code_and_names_the_word_that_allows_it(foreign: Foreign, kind: str) -> None:
    give_tokenizer_code(foreign.folder)
    with pytest.raises(UserError, match=r"comes with Python code of its own.*\n.*add some\.key=true") as refused:
        READERS[kind](foreign.folder, RemoteCode(False, "some.key=true"))
    assert str(foreign.folder) in str(refused.value)
    assert foreign.ran == []


@pytest.mark.parametrize("kind", READERS)
def test_each_reader_runs_code_that_is_trusted(foreign: Foreign, kind: str) -> None:
    give_tokenizer_code(foreign.folder)
    READERS[kind](foreign.folder, RemoteCode(True))
    assert foreign.ran, "or the test above shows nothing"


def test_a_kernel_of_the_hub_in_a_config_is_not_downloaded(tmp_path: Path) -> None:
    make_tiny(tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "attn_implementation": "someone/kernel"}))
    with pytest.raises(UserError, match="takes its attention from someone/kernel, a program"):
        read_model(AutoModelForCausalLM, tmp_path / "model", RemoteCode(False))


def refused(done: Outcome, switch: str) -> None:
    assert done.code == 1, done.out
    assert "comes with Python code of its own" in done.err
    assert f"add {switch}." in done.err
    assert len(done.err.strip().splitlines()) == 2


def test_chat_does_not_take_a_line_of_the_pipe_as_a_yes(foreign: Foreign) -> None:
    refused(call("chat", str(foreign.folder)), "--trust-remote-code")
    assert foreign.ran == []


def test_chat_runs_code_that_is_trusted(foreign: Foreign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is salt?\n"))
    assert call("chat", str(foreign.folder), "--trust-remote-code", "--max-new-tokens", "2").code == 0
    assert foreign.ran


@pytest.mark.parametrize(
    ("words", "switch"),
    [
        (("model=local", "model.path={}"), "model.trust_remote_code=true"),
        (("model=tiny", "judge=pairwise_lm", "judge.path={}"), "judge.trust_remote_code=true"),
        (("model=tiny", "judge=reward_model", "judge.path={}"), "judge.trust_remote_code=true"),
        (("model=tiny", "reward=model", "reward.model.path={}"), "reward.model.trust_remote_code=true"),
    ],
    ids=["model", "judge", "reward judge", "reward"],
)
def test_a_run_does_not_run_a_models_code(
    foreign: Foreign, tmp_path: Path, words: tuple[str, ...], switch: str
) -> None:
    refused(run(tmp_path / "run", *(word.format(foreign.folder) for word in words), *QUICK), switch)
    assert foreign.ran == []


@pytest.mark.parametrize("command", [("plan",), ("check",), ("evaluate", "{}")], ids=lambda words: words[0])
def test_nor_does_a_command(foreign: Foreign, command: tuple[str, ...]) -> None:
    give_tokenizer_code(foreign.folder)
    words = (word.format(foreign.folder) for word in command)
    refused(call(*words, "model=local", f"model.path={foreign.folder}"), "model.trust_remote_code=true")
    assert foreign.ran == []


@pytest.mark.parametrize("command", ["merge", "average"])
def test_nor_does_what_merges_an_adapter(foreign: Foreign, tmp_path: Path, command: str) -> None:
    give_tokenizer_code(foreign.folder)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    settings = {"base_model_name_or_path": str(foreign.folder), "peft_type": "LORA"}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    other = [str(foreign.folder)] if command == "average" else []
    refused(call(command, str(adapter), *other, "--to", str(tmp_path / "new")), "--trust-remote-code")
    assert foreign.ran == []


def test_a_plugin_that_forgets_to_say_so_runs_no_code_either(foreign: Foreign) -> None:
    give_tokenizer_code(foreign.folder)
    silence_libraries(telemetry=False)
    for auto in (AutoTokenizer, AutoModelForCausalLM):
        with pytest.raises(ValueError, match=r"execute custom code|custom code"):
            auto.from_pretrained(foreign.folder)
    assert foreign.ran == []


@pytest.mark.parametrize(
    "text", ["{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ cycler.__init__.__globals__.os.popen('id') }}"]
)
def test_a_chat_template_reaches_nothing_of_python(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is salt?\n"))
    make_tiny(tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text(text)
    done = call("chat", str(tmp_path / "model"), "--system", "x")
    assert "unsafe" in done.err or "undefined" in done.err, done


def test_code_beside_a_dataset_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where the page is written
    folder, mark = tmp_path / "data", tmp_path / "mark"
    folder.mkdir()
    (folder / "data.py").write_text(f"open({str(mark)!r}, 'w')")
    (folder / "train.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n' * 3)
    call("check", "model=tiny", "dataset=local", f"dataset.path={folder}")
    call("check", "model=tiny", "dataset=local", f"dataset.path={folder / 'data.py'}")
    assert not mark.exists()


SOURCES = Path(__file__).parents[2]
LOADERS = ("from_pretrained", "from_config", "load_adapter", "get_class_from_dynamic_module")
#: Places that load by themselves: what samples the embedded data, by hand, and a program as users of TRL write it.
OTHERS = ("alignzoo/data/candidates.py", "alignzoo/benchmark/sides/plain_trl.py", "alignzoo/models/pretrained.py")


def find_loaders(text: str) -> list[str]:
    """Return what the code calls to read a model, but for transformers' GenerationConfig, which holds no code."""
    calls = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    found = [func for func in calls if isinstance(func, ast.Attribute) and func.attr in LOADERS]
    return [ast.unparse(func) for func in found if ast.unparse(func.value) != "GenerationConfig"]


@pytest.mark.parametrize("folder", ["alignzoo", "plugins", "docs/examples"])
def test_models_are_read_in_one_place(folder: str) -> None:
    files = [file for file in sorted((SOURCES / folder).rglob("*.py")) if "tests" not in file.parts]
    found = {str(file.relative_to(SOURCES)): find_loaders(file.read_text(encoding="utf-8")) for file in files}
    assert {file: calls for file, calls in found.items() if calls and file not in OTHERS} == {}


def test_the_walk_sees_a_loader() -> None:
    assert find_loaders("AutoModel.from_pretrained(path)") == ["AutoModel.from_pretrained"]
