"""One sweep over all methods that train a policy, and what must hold of its run folders; then single runs."""

from __future__ import annotations

import http.server
import importlib.metadata
import json
import math
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import QUICK
from inprocess import run

METHODS = ("dpo", "ipo", "orpo", "kto", "grpo", "rloo", "sft")

#: Two steps of four pairs that can be seen in the weights. On random weights, answers differ in length.
LITTLE = (*(word for word in QUICK if "dataset.rows" not in word), "dataset.rows=8", "train.warmup_steps=0")

WORDS = (*LITTLE, "method.learning_rate=0.001", "reward=length", "reward.length.slack=200")

OF_REWARD_MODELS = ("reward_accuracy", "reward_margin")
OF_PLAY = ("success", "turns")

SECRET = "marker-5f1c-of-a-secret"


@dataclass(frozen=True)
class Sweep:
    """A finished sweep: its folder, what it printed, and what it asked the model hub."""

    folder: Path
    code: int
    out: str
    err: str
    requests: list[str]

    def member(self, method: str) -> Path:
        return next(self.folder.glob(f"[0-9]-{method}-tiny-concise"))


@pytest.fixture(scope="module")
def hub() -> Iterator[tuple[str, list[str]]]:
    """A hub on this machine that has nothing, and notes what it is asked."""
    asked: list[str] = []

    class Nothing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_POST = do_GET

        def log_message(self, *words: Any) -> None:
            """Print nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nothing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


def command(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m alignzoo`` in ``folder``, with nothing set that would keep TRL from reporting."""
    folder.mkdir(parents=True, exist_ok=True)
    silent = {"HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE", "CI", "DO_NOT_TRACK"}
    environment = {name: value for name, value in os.environ.items() if name not in silent} | variables
    line = [sys.executable, "-m", "alignzoo", *words]
    return subprocess.run(
        line, capture_output=True, text=True, cwd=folder, env=environment, stdin=subprocess.DEVNULL, timeout=300
    )


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, hub: tuple[str, list[str]], cache: Path) -> Sweep:
    """Train all methods in one process, as a user would."""
    folder, (address, asked) = tmp_path_factory.mktemp("sweep"), hub
    asked.clear()
    secrets = {"WANDB_API_KEY": SECRET, "HF_TOKEN": SECRET, "MY_PASSWORD": SECRET}
    words = ("-m", f"method={','.join(METHODS)}", "hydra.sweep.dir=sweep", *WORDS)
    done = command(folder, *words, HF_ENDPOINT=address, COLUMNS="120", **secrets)
    return Sweep(folder / "sweep", done.returncode, done.stdout, done.stderr, list(asked))


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def test_all_methods_train_in_one_sweep(sweep: Sweep) -> None:
    assert sweep.code == 0, sweep.err
    members = sorted(path.name for path in sweep.folder.glob("[0-9]*"))
    assert members == [f"{number}-{method}-tiny-concise" for number, method in enumerate(METHODS)]
    assert "Traceback" not in sweep.err


@pytest.mark.parametrize("method", METHODS)
def test_run_folder_is_complete(sweep: Sweep, method: str) -> None:
    folder = sweep.member(method)
    files = {path.name for path in folder.iterdir()}
    assert files >= {"run.yaml", "command.txt", "environment.json", "data.parquet", "metrics.jsonl", "answers.jsonl"}
    assert files >= {"result.json", "plots", "model", "alignzoo.log"}
    assert not list(folder.rglob("checkpoint*")), "checkpoints are off by default"
    assert not list(folder.glob(".*")), "files written aside are renamed"
    assert not (folder / "error.txt").exists()


@pytest.mark.parametrize("method", METHODS)
def test_run_yaml_holds_the_resolved_config(sweep: Sweep, method: str) -> None:
    text = (sweep.member(method) / "run.yaml").read_text()
    cfg = yaml.safe_load(text)
    own = yaml.safe_dump({key: value for key, value in cfg.items() if key != "hydra"})
    assert "${" not in own
    assert "???" not in own
    assert cfg["method"]["name"] == method
    assert cfg["method"]["learning_rate"] == 1e-3
    assert cfg["model"]["name"] == "tiny"
    assert cfg["dataset"]["rows"] == 8
    assert cfg["peft"]["rate"] == "small"
    assert cfg["reward"]["length"]["slack"] == 200


@pytest.mark.parametrize("method", METHODS)
def test_command_txt_names_this_member_alone(sweep: Sweep, method: str) -> None:
    words = shlex.split((sweep.member(method) / "command.txt").read_text())
    assert words[:3] == ["python", "-m", "alignzoo"]
    assert sorted(words[3:]) == sorted([f"method={method}", *WORDS])


def test_environment_names_versions_git_hardware_and_seed(sweep: Sweep) -> None:
    environment = read(sweep.member("dpo") / "environment.json")
    for package in ("torch", "trl", "transformers", "alignzoo"):
        assert environment["packages"][package] == importlib.metadata.version(package)
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert environment["seed"] == 0
    assert environment["git"] is None, "it ran in a folder that is no checkout"
    assert environment["hardware"]["cpu_cores"] == os.cpu_count()
    assert {"gpus", "cuda", "platform", "threads"} <= environment["hardware"].keys()


def test_environment_has_the_commit_and_diff_of_a_checkout(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alignzoo.runs.surroundings import environment

    monkeypatch.chdir(tmp_path)

    def git(*words: str) -> str:
        own = ["-c", "user.name=me", "-c", "user.email=me@localhost", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *own, *words], capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    Path("notes.txt").write_text("first\n")
    git("add", "notes.txt")
    git("commit", "-q", "-m", "first")
    Path("notes.txt").write_text("second\n")
    assert environment()["git"]["commit"] == git("rev-parse", "HEAD")
    assert "+second" in environment()["git"]["diff"]


def test_no_secret_in_any_file_nor_on_the_terminal(sweep: Sweep) -> None:
    files = [path for path in sweep.folder.rglob("*") if path.is_file()]
    assert len(files) > 6 * 15
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in sweep.out + sweep.err


@pytest.mark.parametrize("method", METHODS)
def test_manifest_counts_are_the_results(sweep: Sweep, method: str) -> None:
    import pandas as pd

    manifest = pd.read_parquet(sweep.member(method) / "data.parquet")
    assert manifest["decision"].value_counts().to_dict() == read(sweep.member(method) / "result.json")["rows"]
    assert (manifest["decision"] == "train").sum() == 8
    assert (manifest.loc[manifest["decision"] == "dropped", "reason"] != "").all()


def test_every_method_trains_and_holds_out_the_same_rows(sweep: Sweep) -> None:
    import pandas as pd

    first, *others = (pd.read_parquet(sweep.member(method) / "data.parquet") for method in METHODS)
    for other in others:
        pd.testing.assert_frame_equal(first, other)


#: 8 pairs in batches of 4: pairs, single answers, or the groups of 4 answers to each prompt.
STEPS = {"dpo": 2, "ipo": 2, "orpo": 2, "kto": 4, "grpo": 8, "rloo": 8, "sft": 2}


@pytest.mark.parametrize("method", METHODS)
def test_metrics_has_one_line_of_numbers_a_step(sweep: Sweep, method: str) -> None:
    *steps, last = lines(sweep.member(method) / "metrics.jsonl")
    assert [line["step"] for line in steps] == list(range(1, STEPS[method] + 1))
    assert last["step"] == STEPS[method]
    assert last["train_runtime"] > 0
    for line in steps:
        assert {"loss", "grad_norm", "learning_rate"} <= line.keys()
        assert all(isinstance(value, int | float) and math.isfinite(value) for value in line.values())


@pytest.mark.parametrize(("method", "loss"), [("dpo", math.log(2)), ("ipo", 25.0), ("kto", 0.5)])
def test_first_loss_is_the_formulas(sweep: Sweep, method: str, loss: float) -> None:
    first = lines(sweep.member(method) / "metrics.jsonl")[0]
    assert first["loss"] == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_result_has_start_numbers_before_and_after_and_cost(sweep: Sweep, method: str) -> None:
    from alignzoo.config.metrics import NUMBERS

    result = read(sweep.member(method) / "result.json")
    assert result["method"] == method
    assert result["unread"] == []
    assert (
        result["before"].keys()
        == result["after"].keys()
        == NUMBERS.keys() - {"win_rate", "win_rate_lc", "win_rate_second", "teacher_kl", *OF_REWARD_MODELS, *OF_PLAY}
    )
    assert all(low <= result["after"][key] <= high for key, (low, high) in result["intervals"].items())
    assert result["before"]["preference_accuracy"] == 0.5
    assert result["before"]["margin"] == result["before"]["chosen_change"] == 0
    assert result["after"]["chosen_change"] != 0
    assert result["cost"]["steps"] == STEPS[method]
    cost = result["cost"]
    assert 0 < cost["train_seconds"] + cost["measure_seconds"] < cost["total_seconds"]
    assert cost["trained_tokens"] == result["plan"]["tokens"]
    assert cost["flops"] > 6 * cost["trained_tokens"] * 100_000
    assert 1e8 < result["cost"]["peak_memory_bytes"] < 1e11
    assert Path(result["start"]["folder"]).name == "tiny-0"


@pytest.mark.parametrize("method", METHODS)
def test_plots_are_pictures(sweep: Sweep, method: str) -> None:
    import matplotlib.image

    own = {"dpo": "margin", "ipo": "margin", "orpo": "accuracy", "kto": "kl", "grpo": "reward", "rloo": "reward"}
    wanted = {"loss", own.get(method, "token_accuracy")}
    found = {path.stem: path for path in (sweep.member(method) / "plots").iterdir()}
    assert wanted <= found.keys()
    for path in found.values():
        assert path.suffix == ".png"
        picture = matplotlib.image.imread(path)
        assert picture.shape[:2] == (432, 768)
        assert picture.min() < picture.max(), "something is drawn"


@pytest.mark.parametrize("method", METHODS)
def test_saved_model_answers_as_the_run_says(sweep: Sweep, method: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = sweep.member(method) / "model"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rows = lines(sweep.member(method) / "answers.jsonl")
    assert len(rows) == 4
    for row in rows:
        messages = [{"role": "user", "content": row["prompt"]}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.inference_mode():
            new = model.generate(ids, do_sample=False, max_new_tokens=8)[0, ids.shape[1] :]
        assert tokenizer.decode(new, skip_special_tokens=True).strip() == row["after"]["text"]
    assert any(row["before"]["text"] != row["after"]["text"] for row in rows), "it learned"


@pytest.mark.parametrize("method", METHODS)
def test_model_card_says_what_was_done(sweep: Sweep, method: str) -> None:
    text = (sweep.member(method) / "model" / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    data = yaml.safe_load(head)
    assert (data["library_name"], data["tags"]) == ("transformers", ["alignzoo", "trl", method])
    assert f"# tiny, aligned with {method} on concise" in body
    assert "`train.jsonl`, rows: 8 trained on" in body
    assert "learning rate 0.001" in body
    assert f"{STEPS[method]} steps of 4 rows" in body
    assert f"trl {importlib.metadata.version('trl')}" in body
    after = read(sweep.member(method) / "result.json")["after"]
    assert f"| margin (nats) | +0.00 | {after['margin']:+.2f} |" in body
    (numbers,) = data["model-index"][0]["results"]
    assert {number["type"]: number["value"] for number in numbers["metrics"]} == after


def test_weights_differ_between_methods(sweep: Sweep) -> None:
    assert len({weights(sweep.member(method)) for method in METHODS}) == len(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_terminal_shows_progress_answers_and_numbers(sweep: Sweep, method: str) -> None:
    part = sweep.out.split(f"method={method} ")[1].split("[HYDRA]")[0]
    steps = STEPS[method]
    assert f"{method} 1/{steps}  loss " in part
    assert f"{method} {steps}/{steps}  loss " in part
    assert "4 held-out prompts" in part
    result = read(sweep.member(method) / "result.json")
    before, after = result["before"], result["after"]
    assert re.search(rf"preference accuracy +50% +{after['preference_accuracy']:.0%}", part)
    assert re.search(rf"margin \(nats\) +\+0\.00 +{re.escape(format(after['margin'], '+.2f'))}", part)
    assert re.search(
        rf"completion length \(tokens\) +{before['answer_tokens']:.1f} +{after['answer_tokens']:.1f}", part
    )
    assert f"{steps} steps in " in part
    assert "run folder: " in part
    assert f"-{method}-tiny-concise" in part


def test_sweep_ends_in_a_table_of_its_members(sweep: Sweep) -> None:
    table = sweep.out.rsplit("\nsweep sweep\n", 1)[1].splitlines()
    shown = {line.split()[0]: line for line in table[1 : 1 + len(METHODS)]}
    assert shown.keys() == set(METHODS)
    for method in METHODS:
        after = read(sweep.member(method) / "result.json")["after"]
        assert f" {after['reward']:.3f} (" in shown[method]
    assert "failed" not in sweep.out
    assert {path.suffix for path in sweep.folder.glob("leaderboard.*")} == {".html", ".csv", ".parquet"}


def test_a_run_asks_the_hub_nothing(sweep: Sweep) -> None:
    assert sweep.requests == []


def test_command_txt_gives_the_same_model_in_a_fresh_process_elsewhere(
    sweep: Sweep, tmp_path: Path, hub: tuple[str, list[str]]
) -> None:
    address, asked = hub
    asked.clear()
    words = shlex.split((sweep.member("dpo") / "command.txt").read_text())[3:]
    done = command(tmp_path / "elsewhere", *words, "telemetry=true", HF_ENDPOINT=address)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "elsewhere" / "outputs").glob("*/*-dpo-tiny-concise")
    assert weights(folder) == weights(sweep.member("dpo"))
    assert loss_curve(folder) == loss_curve(sweep.member("dpo"))
    assert "/api/telemetry/trl/DPOTrainer" in asked, "TRL reports where telemetry=true; else silence would show nothing"


def loss_curve(folder: Path) -> list[float]:
    return [line["loss"] for line in lines(folder / "metrics.jsonl") if "loss" in line]


@pytest.mark.parametrize("method", METHODS)
def test_member_equals_the_same_run_alone(sweep: Sweep, tmp_path: Path, method: str) -> None:
    words = shlex.split((sweep.member(method) / "command.txt").read_text())[3:]
    alone = run(tmp_path / "alone", *words)
    assert alone.code == 0, alone.err
    assert weights(alone.folder) == weights(sweep.member(method))
    assert loss_curve(alone.folder) == loss_curve(sweep.member(method))
    assert alone.result()["after"] == read(sweep.member(method) / "result.json")["after"]
    assert (alone.folder / "answers.jsonl").read_bytes() == (sweep.member(method) / "answers.jsonl").read_bytes()


def test_run_yaml_runs_again(sweep: Sweep, tmp_path: Path) -> None:
    again = run(tmp_path / "again", "--config-dir", str(sweep.member("ipo")), "--config-name", "run")
    assert again.code == 0, again.err
    assert weights(again.folder) == weights(sweep.member("ipo"))


def test_another_seed_gives_another_model(sweep: Sweep, tmp_path: Path) -> None:
    other = run(tmp_path / "other", "method=dpo", "seed=1", *WORDS)
    assert weights(other.folder) != weights(sweep.member("dpo"))


def test_a_run_leaves_its_process_as_it_was(tmp_path: Path) -> None:
    """The first run imports what sets variables of its own; the second leaves them as it found them."""
    import torch

    ours = {"HYDRA_FULL_ERROR", "HF_HUB_DISABLE_TELEMETRY", "TRL_EXPERIMENTAL_SILENCE"}
    ours |= {"TOKENIZERS_PARALLELISM", "TQDM_DISABLE"}
    words = ("method=dpo", "tracker=tensorboard", *WORDS)
    first = run(tmp_path / "first", *words)
    assert first.code == 0, first.err
    folder, threads = Path.cwd(), torch.get_num_threads()
    done = run(tmp_path / "run", *words)
    assert done.code == 0, done.err
    assert done.changed <= ours
    assert Path.cwd() == folder
    assert torch.get_num_threads() == threads
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


def test_betas_of_a_sweep_differ(tmp_path: Path) -> None:
    done = run(tmp_path / "sweep", "-m", "method=dpo", "method.beta=0.05,0.1,0.5", *WORDS)
    assert done.code == 0, done.err
    members = sorted(done.folder.glob("[0-9]*"))
    betas = [yaml.safe_load((member / "run.yaml").read_text())["method"]["beta"] for member in members]
    assert betas == [0.05, 0.1, 0.5]
    assert len({weights(member) for member in members}) == 3
    table = done.out.rsplit("\nsetting", 1)[1]
    assert set(re.findall(r"^dpo (beta=[\d.]+)", table, re.MULTILINE)) == {"beta=0.05", "beta=0.1", "beta=0.5"}


def test_a_sweep_goes_on_after_a_member_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is refused before it trains, one is stopped while it trains, and the last one is well."""
    monkeypatch.setenv("COLUMNS", "160")
    values = "method.beta=-1,0.1", "method.learning_rate=1e30,0.001"
    done = run(tmp_path / "sweep", "-m", "method=dpo", *values, *LITTLE)
    assert done.code == 1
    assert "Traceback" not in done.err
    members = sorted((tmp_path / "sweep").glob("[0-9]*"))
    assert [(member / "result.json").exists() for member in members] == [False, False, False, True]
    table = done.out.rsplit("\nsetting", 1)[1].splitlines()
    assert table[1].startswith("dpo beta=0.1 learning_rate=0.001")
    failed = [line for line in table if line.startswith("failed: ")]
    assert failed[0].startswith("failed: dpo beta=-1 learning_rate=1e+30: method.beta=-1 must be above 0")
    assert len(failed) == 3
    assert "at step 2: the weights are lost" in failed[2]
    for member in members[:3]:
        reason = (member / "error.txt").read_text().strip()
        assert reason.splitlines()[0] in done.out
        assert (member / "command.txt").exists()
    assert (members[2] / "metrics.jsonl").exists(), "what was logged before the end is kept"


def test_a_sweep_is_not_mixed_with_the_finished_runs_of_another(tmp_path: Path) -> None:
    first = tmp_path / "sweep" / "0-dpo-tiny-concise"
    first.mkdir(parents=True)
    (first / "result.json").write_text("{}")
    done = run(tmp_path / "sweep", "-m", "method=dpo", "seed=7,8", *LITTLE)
    assert done.code == 1
    assert done.err == (
        f"alignzoo: hydra.sweep.dir={tmp_path}/sweep holds finished runs of a sweep: add resume=auto to run what is "
        "missing of it, or choose another folder.\n"
    )
    assert [path.name for path in (tmp_path / "sweep").rglob("*")] == [first.name, "result.json"]


CRASHING = """
from transformers import TrainerCallback
from alignzoo import hookimpl


class Crash(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        raise RuntimeError("out of memory, say")


@hookimpl
def alignzoo_callbacks(cfg):
    return [Crash()] if cfg.seed == 1 else []
"""


def test_a_sweep_goes_on_after_a_member_that_crashes(tmp_path: Path, fake_package: Callable[..., None]) -> None:
    fake_package("fake_crash", CRASHING)
    done = run(tmp_path / "sweep", "-m", "method=dpo", "seed=1,2", *WORDS)
    assert done.code == 1
    assert "Traceback" in done.err, "a mistake of ours, or of a plugin's, shows where it is"
    assert (tmp_path / "sweep" / "0-dpo-tiny-concise" / "error.txt").read_text() == "RuntimeError: out of memory, say\n"
    assert (tmp_path / "sweep" / "1-dpo-tiny-concise" / "result.json").exists()
    assert ": RuntimeError: out of memory, say" in done.out


def test_a_single_run_that_crashes_shows_where(tmp_path: Path, fake_package: Callable[..., None]) -> None:
    fake_package("fake_crash", CRASHING)
    with pytest.raises(RuntimeError, match="out of memory, say"):
        run(tmp_path / "run", "method=dpo", "seed=1", *WORDS)
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_refused_run_leaves_no_folder(tmp_path: Path) -> None:
    done = run(tmp_path / "a" / "run", "method=dpo", "method.beta=-1", *WORDS)
    assert done.code == 1
    assert "method.beta=-1" in done.err
    assert not (tmp_path / "a").exists()


def test_a_finished_run_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "result.json").write_text("{}")
    done = run(tmp_path / "run", "method=dpo", *WORDS)
    assert done.code == 1
    assert "holds a finished run" in done.err
    assert (tmp_path / "run" / "result.json").read_text() == "{}"


def test_without_evaluation_a_run_only_trains(tmp_path: Path, sweep: Sweep) -> None:
    done = run(tmp_path / "run", "method=dpo", "evaluate.enabled=false", *WORDS)
    assert done.code == 0, done.err
    assert done.result()["before"] == done.result()["after"] == {}
    assert (done.folder / "answers.jsonl").read_text() == ""
    assert weights(done.folder) == weights(sweep.member("dpo")), "measuring changes nothing of the training"
    assert "| before |" not in (done.folder / "model" / "README.md").read_text()


def test_checkpoints_are_saved_where_asked_for(tmp_path: Path) -> None:
    done = run(tmp_path / "run", "method=sft", "train.save_strategy=steps", "train.save_steps=1", *WORDS)
    assert done.code == 0, done.err
    assert [path.name for path in (done.folder / "checkpoints").glob("checkpoint-*")] == ["checkpoint-2"]


WATCHED = """
from alignzoo import hookimpl
from alignzoo_plugins.preference import DPO

SEEN = []


class Watched(DPO):
    \"\"\"DPO whose trainer can be looked at.\"\"\"

    name = "watched"

    def build_trainer(self, parts):
        SEEN.append(super().build_trainer(parts))
        return SEEN[-1]


@hookimpl
def alignzoo_methods():
    return [Watched]


@hookimpl
def alignzoo_config_packages():
    return ["fake_watched.conf"]
"""


@pytest.mark.parametrize("precompute", ["true", "false"])
def test_lora_saves_an_adapter_and_keeps_no_second_model(
    tmp_path: Path, fake_package: Callable[..., None], precompute: str
) -> None:
    import peft
    from transformers import AutoModelForCausalLM

    configs = {"method/watched.yaml": "defaults: [dpo, _self_]\nname: watched\n"}
    fake_package("fake_watched", WATCHED, configs)
    words = ("method=watched", "peft=lora", f"method.precompute_ref_log_probs={precompute}")
    done = run(tmp_path / "run", *words, *WORDS)
    assert done.code == 0, done.err
    (trainer,) = sys.modules["fake_watched"].SEEN
    assert trainer.ref_model is None
    assert isinstance(trainer.model, peft.PeftModel)
    training = [name for name, weight in trainer.model.named_parameters() if weight.requires_grad]
    assert training
    assert all("lora_" in name for name in training)
    assert done.metrics()[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)

    saved = {path.name for path in (done.folder / "model").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= saved
    assert "model.safetensors" not in saved
    start = AutoModelForCausalLM.from_pretrained(done.result()["start"]["folder"])
    adapted = peft.PeftModel.from_pretrained(start, done.folder / "model")
    moved = [float(weight.abs().sum()) for name, weight in adapted.named_parameters() if "lora_B" in name]
    assert len(moved) == 14, "seven linear layers in each of two blocks"
    assert all(moved)


def test_all_weights_train_without_an_adapter(tmp_path: Path, fake_package: Callable[..., None]) -> None:
    configs = {"method/watched.yaml": "defaults: [dpo, _self_]\nname: watched\n"}
    fake_package("fake_watched", WATCHED, configs)
    words = ("method=watched", "method.precompute_ref_log_probs=false")
    done = run(tmp_path / "run", *words, *WORDS)
    assert done.code == 0, done.err
    (trainer,) = sys.modules["fake_watched"].SEEN
    assert trainer.ref_model is not None, "it is compared with a copy of the start model"
    assert all(weight.requires_grad for weight in trainer.model.parameters())
    assert done.metrics()[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
