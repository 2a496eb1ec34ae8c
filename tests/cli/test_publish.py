"""``alignzoo publish``: what reaches a hub on loopback through its real client, and what does not."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUICK
from huggingface_hub import ModelCard, constants, snapshot_download
from huggingface_hub.utils import close_session
from inprocess import Outcome, call, run
from loopback_hub import LoopbackHub
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignzoo.config.metrics import NUMBERS
from alignzoo.system.hub import hub

WORDS = (*QUICK, "method=dpo", "train.max_steps=2", "method.learning_rate=0.001")
BASE, OURS = "somebody/tiny-base", "me/tiny-dpo"

Publish = Callable[..., Outcome]


@pytest.fixture(scope="module")
def server() -> Iterator[LoopbackHub]:
    own = LoopbackHub()
    yield own
    own.close()


@pytest.fixture
def online(server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """Let this process's client of the hub talk to an empty one on loopback, logged in as `me`."""
    server.repositories.clear()
    server.requests.clear()
    server.sent = b""
    for name, value in {
        "ENDPOINT": server.address,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,  # the other protocol for large files, whose servers are the hub's own
        "HF_TOKEN_PATH": str(tmp_path / "no-token"),
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", "hf_me")
    close_session()
    hub().ask_again()
    yield server
    close_session()
    hub().ask_again()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    done = run(tmp_path_factory.mktemp("trained") / "run", *WORDS)
    assert done.code == 0, done.err
    return done.folder


def log_probs(model: Any, folder: Path) -> torch.Tensor:
    """Return the log-probabilities of each next token of a text, (tokens, vocabulary)."""
    ids = AutoTokenizer.from_pretrained(folder)("Salt is a mineral.", return_tensors="pt").input_ids
    with torch.inference_mode():
        return torch.log_softmax(model.eval()(ids).logits[0], -1)


def whole_log_probs(folder: Path) -> torch.Tensor:
    return log_probs(AutoModelForCausalLM.from_pretrained(folder), folder)


def test_what_is_downloaded_again_is_the_trained_model(online: LoopbackHub, trained: Path) -> None:
    done = call("publish", str(trained), OURS, "--yes")
    assert done.code == 0, done.err
    assert "private: only its owner can see it" in done.out
    kept = online.repositories[OURS]
    assert kept.private
    assert len(kept.commits) == 2, "the files come in one commit"
    again = Path(snapshot_download(OURS))
    assert torch.equal(whole_log_probs(again), whole_log_probs(trained / "model"))
    assert not torch.equal(whole_log_probs(again), whole_log_probs(Path(json_of(trained)["start"]["folder"])))
    expected = {path.name for path in (trained / "model").iterdir()} | {".gitattributes", "run.yaml"}
    assert kept.head[1].keys() == expected
    assert "model.safetensors" in kept.head[1]


def json_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "result.json").read_text()))


def test_the_card_has_the_numbers_as_the_hub_reads_them(online: LoopbackHub, trained: Path) -> None:
    assert call("publish", str(trained), OURS, "--yes").code == 0
    card, result = ModelCard.load(OURS), json_of(trained)
    found = {one.metric_type: one for one in card.data.eval_results}
    assert {key: one.metric_value for key, one in found.items()} == result["after"]
    assert found["margin"].metric_name == NUMBERS["margin"].label
    assert found["margin"].metric_args == {"before": 0.0, "interval_95": result["intervals"]["margin"]}
    assert found["margin"].dataset_args == {"rows": 4, "of": 200, "hash": result["data"]["heldout"]}
    assert "| 4 held-out rows | before |" in card.content
    assert card.data.model_name == "tiny-dpo"
    assert "`heldout.jsonl`, rows: 200 held out" in card.content
    assert "`train.jsonl`, rows: 16 trained on" in card.content
    assert f"`{result['data']['train']}`" in card.content
    assert f"python -m alignzoo {' '.join(WORDS)}" in card.content


def test_the_configuration_runs_again(online: LoopbackHub, trained: Path, tmp_path: Path) -> None:
    assert call("publish", str(trained), OURS, "--yes").code == 0
    again = snapshot_download(OURS)
    done = run(tmp_path / "again", "--config-dir", again, "--config-name", "run")
    assert done.code == 0, done.err
    assert torch.equal(whole_log_probs(tmp_path / "again" / "model"), whole_log_probs(trained / "model"))


@pytest.mark.parametrize(("typed", "sent"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_a_person_is_asked(
    online: LoopbackHub, trained: Path, monkeypatch: pytest.MonkeyPatch, typed: str, sent: bool
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    done = call("publish", str(trained), OURS)
    assert done.code == (0 if sent else 1)
    assert "Publish? [y/N]" in done.out
    assert (OURS in online.repositories) == sent
    assert any(request.startswith(("POST", "PUT")) for request in online.requests) == sent


def test_nobody_to_ask(online: LoopbackHub, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    done = call("publish", str(trained), OURS, "--public")
    assert (done.code, done.err) == (1, "alignzoo: nothing was sent, as nobody is there to be asked: add --yes.\n")
    assert "PUBLIC: everybody can see it" in done.out
    assert "model.safetensors" in done.out
    assert not online.sent


def test_public_only_where_that_was_said(online: LoopbackHub, trained: Path) -> None:
    assert call("publish", str(trained), OURS, "--yes", "--public").code == 0
    assert not online.repositories[OURS].private
    done = call("publish", str(trained), OURS, "--yes")
    assert done.code == 1
    assert "is there, and public: add --public" in done.err
    assert call("publish", str(trained), OURS, "--yes", "--public").code == 0


def test_shards_hold_the_same_tensors_and_old_ones_go(online: LoopbackHub, trained: Path) -> None:
    assert call("publish", str(trained), OURS, "--yes", "--shard-gb", "0.0001").code == 0
    files = online.repositories[OURS].head[1]
    shards = [name for name in files if name.endswith(".safetensors")]
    assert len(shards) > 1
    assert "model.safetensors.index.json" in files
    assert "seal.json" not in files
    assert torch.equal(whole_log_probs(Path(snapshot_download(OURS))), whole_log_probs(trained / "model"))
    done = call("publish", str(trained), OURS, "--yes")
    assert f"{shards[0]} (removed there" in done.out
    left = online.repositories[OURS].head[1]
    assert [name for name in left if "safetensors" in name] == ["model.safetensors"]
    assert torch.equal(whole_log_probs(Path(snapshot_download(OURS))), whole_log_probs(trained / "model"))


def test_what_somebody_else_committed_meanwhile_stays(
    online: LoopbackHub, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = online.make(OURS, True, {"LICENSE": b"mine"})

    class Slow(io.StringIO):
        def isatty(self) -> bool:
            return True

        def readline(self, size: int | None = -1, /) -> str:
            kept.commit({"LICENSE": b"theirs"}, "second")
            return "y\n"

    monkeypatch.setattr(sys, "stdin", Slow())
    done = call("publish", str(trained), OURS)
    assert done.code == 1
    assert "somebody has changed it meanwhile" in done.err
    assert kept.head[1] == {"LICENSE": b"theirs"}
    assert call("publish", str(trained), OURS, "--yes").code == 0
    assert kept.head[1]["LICENSE"] == b"theirs"


# Adapters


@pytest.fixture
def adapted(online: LoopbackHub, start: Path, tmp_path: Path) -> Path:
    """Return the folder of a run that trained an adapter on a model of the hub."""
    online.make(BASE, False, {file.name: file.read_bytes() for file in start.iterdir()})
    words = (*WORDS[1:], "model=local", f"model.path={BASE}", "peft=lora", "method.learning_rate=0.05")
    done = run(tmp_path / "adapted", *words)
    assert done.code == 0, done.err
    return done.folder


def adapted_log_probs(adapter: Path) -> torch.Tensor:
    from peft import AutoPeftModelForCausalLM

    return log_probs(AutoPeftModelForCausalLM.from_pretrained(adapter), adapter)


def test_an_adapter_names_its_base_model_on_the_hub(online: LoopbackHub, adapted: Path) -> None:
    done = call("publish", str(adapted), "me/adapter", "--yes")
    assert done.code == 0, done.err
    again = Path(snapshot_download("me/adapter"))
    settings = json.loads((again / "adapter_config.json").read_text())
    base = online.repositories[BASE].head[0]
    assert (settings["base_model_name_or_path"], settings["revision"]) == (BASE, base)
    assert torch.equal(adapted_log_probs(again), adapted_log_probs(adapted / "model"))
    card = ModelCard.load("me/adapter")
    assert (card.data.base_model, card.data.library_name) == (BASE, "peft")
    assert f"start model: {BASE}, commit `{base}`" in card.content


def test_a_merged_adapter_is_a_whole_model(online: LoopbackHub, adapted: Path) -> None:
    done = call("publish", str(adapted), "me/merged", "--yes", "--merge")
    assert done.code == 0, done.err
    again = Path(snapshot_download("me/merged"))
    assert not (again / "adapter_config.json").exists()
    found, expected = whole_log_probs(again), adapted_log_probs(adapted / "model")
    assert (found - expected).abs().max() < 1e-4
    base = Path(snapshot_download(BASE))
    assert (found - whole_log_probs(base)).abs().max() > 0.01
    assert ModelCard.load("me/merged").data.library_name == "transformers"


def test_an_adapter_of_a_model_on_this_machine_is_merged_or_stays(
    online: LoopbackHub, adapted: Path, start: Path
) -> None:
    file = adapted / "model" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": str(start)}))
    done = call("publish", str(adapted), "me/adapter", "--yes")
    assert done.code == 1
    assert f"holds an adapter whose base model is not on the hub ({start})" in done.err
    assert "Add --merge" in done.err
    assert "me/adapter" not in online.repositories
    assert call("publish", str(adapted), "me/adapter", "--yes", "--merge").code == 0


# Secrets


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of the run, to be changed."""
    return Path(shutil.copytree(trained, tmp_path / "copied"))


def test_secrets_and_what_only_this_machine_has_stay_here(
    online: LoopbackHub, copied: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also those that somebody wrote into the run folder by hand."""
    monkeypatch.setenv("HOME", str(tmp_path / "somebody"))
    config = (copied / "run.yaml").read_text()
    planted = "planted:\n  password: planted-1\n  note: see hf_Planted2KnownByItsForm\n"
    (copied / "run.yaml").write_text(f"{config}{planted}  path: {tmp_path}/somebody/pairs.jsonl\n")
    command = (copied / "command.txt").read_text().strip()
    (copied / "command.txt").write_text(f"{command} +a.api_key=planted-3 +b={tmp_path}/somebody/x\n")
    (copied / "model" / "training_args.bin").write_bytes(b"planted-4")
    (copied / "model" / ".env").write_text("planted-5")
    (copied / "model" / "notes.json").mkdir()
    (copied / "model" / "notes.json" / "x.json").write_text('"planted-6"')
    (copied / "environment.json").write_text(
        json.dumps({**json.loads((copied / "environment.json").read_text()), "planted": "planted-7"})
    )
    done = call("publish", str(copied), OURS, "--yes")
    assert done.code == 0, done.err
    assert "Not sent of the folder model: .env, notes.json, training_args.bin." in done.out
    files = online.repositories[OURS].head[1]
    everything = b"".join([online.sent, *files.values(), *online.large.values()])
    assert b"planted-" not in everything.lower()
    assert b"Planted2" not in everything
    assert b"/somebody" not in everything
    assert b"hf_me" not in everything
    assert b"password: '***'" in files["run.yaml"]
    assert b"~/pairs.jsonl" in files["run.yaml"]
    assert b"+a.api_key=*** +b=~/x" in files["README.md"].replace(b"'", b"")
    first = json.loads((copied / "answers.jsonl").read_text().split("\n")[0])
    assert first["after"]["text"].encode() not in everything or len(first["after"]["text"]) < 8
    assert first["prompt"].encode() not in everything


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("tokenizer_config.json", '{"eos_token": "x", "auth": {"api_key": "k"}}', "under auth.api_key"),
        ("chat_template.jinja", "{# hf_Abcdefghij0123456789 #}", "in its text"),
        ("modeling.py", "URL = 'https://me:secret@localhost/x'", "in its text"),
    ],
)
def test_a_file_with_a_secret_is_refused(online: LoopbackHub, copied: Path, name: str, text: str, where: str) -> None:
    (copied / "model" / name).write_text(text)
    done = call("publish", str(copied), OURS, "--yes")
    assert done.code == 1
    assert f"{name} holds what looks like a secret, {where}." in done.err
    assert not online.sent


# Mistakes


def test_a_run_whose_method_is_not_installed(online: LoopbackHub, copied: Path) -> None:
    text = (copied / "run.yaml").read_text()
    (copied / "run.yaml").write_text(text.replace("  name: dpo\n", "  name: somebodys\n"))
    assert call("publish", str(copied), OURS, "--yes").code == 0
    assert "tiny, aligned with somebodys on concise" in ModelCard.load(OURS).content


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing", OURS), "nothing: no such folder."),
        ((".", OURS), ". is not a finished run: it has no result.json."),
        (("RUN", "tiny"), "tiny has no owner: write OWNER/tiny."),
        (("RUN", "me/a--b"), "me/a--b is not a name of the hub: Cannot have -- or .. in repo_id"),
        (("RUN", OURS, "--merge"), "holds no adapter but a whole model. Leave --merge out."),
        (("RUN", "reader/tiny"), "reader/tiny cannot be published: your token may not write there: "),
    ],
)
def test_a_mistake_is_one_line(
    online: LoopbackHub,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call("publish", *(word.replace("RUN", str(trained)) for word in words), "--yes")
    assert done.code == 1
    assert said in done.err
    assert len(done.err.splitlines()) == 1
    assert online.repositories == {}


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("hf_wrong", "the hub does not know your token: `hf auth login`."),
        ("", "nobody is logged in: `hf auth login`, or set HF_TOKEN."),
    ],
)
def test_who_is_not_logged_in(
    online: LoopbackHub, trained: Path, monkeypatch: pytest.MonkeyPatch, token: str, said: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    done = call("publish", str(trained), OURS, "--yes")
    assert (done.code, done.err) == (1, f"alignzoo: {OURS} cannot be published: {said}\n")


def test_a_hub_that_cannot_be_reached(online: LoopbackHub, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    done = call("publish", str(trained), OURS, "--yes")
    assert done.err == f"alignzoo: {OURS} cannot be published: the hub (http://127.0.0.1:9) cannot be reached.\n"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    done = call("publish", str(trained), OURS, "--yes")
    assert "HF_HUB_OFFLINE is set: unset it." in done.err
