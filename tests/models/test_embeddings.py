"""A tokenizer with more tokens than its model has embeddings: named, or given rows, in every model that is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inprocess import SEED, call, run
from omegaconf import DictConfig

from alignzoo import UserError
from alignzoo.models import load, reward_model, start_model
from alignzoo.models.embeddings import count_embeddings, count_ids, guard_embeddings
from alignzoo.models.pretrained import RemoteCode, read_config
from alignzoo.models.tiny import make_tiny

ADDED = ["<plan>", "<act>"]
CODE = RemoteCode(allowed=False)
SAYS = "is beyond its embeddings, which are those of"


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A model to whose tokenizer two tokens were added, and whose embeddings were left as they were."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("grown")
    make_tiny(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(ADDED)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def words(grown: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words of a run on pairs that hold the added tokens."""
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = [{"prompt": f"Ask {n}?", "chosen": f"<plan> {n}", "rejected": f"<act> no {n}"} for n in range(24)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = [f"dataset.path={file}", "dataset.chat=true", "dataset.heldout.fraction=0.3"]
    short = ["evaluate.rows=3", "evaluate.max_new_tokens=4", "train.global_batch_size=4", "train.num_train_epochs=2"]
    return ["model=local", f"model.path={grown}", "dataset=local", *data, *short, SEED]


def test_ids_without_embeddings_are_named_before_anything_is_loaded(words: list[str], tmp_path: Path) -> None:
    ids = 2 + count_embeddings(Path(words[1].partition("=")[2]), CODE)  # type: ignore[operator]
    for done in (
        call("check", *words, f"--html={tmp_path / 'page.html'}"),
        run(tmp_path / "run", *words),
        run(tmp_path / "reward", *words, "method=reward"),
    ):
        assert done.code == 1
        assert "Traceback" not in done.err
        assert done.err.strip().splitlines()[-2:] == [
            f"alignzoo: model=local: token {ids - 1} (<act>) {SAYS} {ids - 2} tokens.",
            "Add model.resize_embeddings=true, or take the tokenizer with which the weights were trained.",
        ]


def test_tokens_that_no_row_holds_are_no_obstacle(
    words: list[str], tmp_path: Path, compose_config: Callable[..., DictConfig]
) -> None:
    """As of models that are published so: Gemma 3 1B has one token more than embeddings."""
    from alignzoo.config.check import check
    from alignzoo.train.inputs import prepare_run

    others = [word for word in words if not word.startswith("dataset")]
    assert len(prepare_run(check(compose_config("method=dpo", *others, "dataset=concise", "dataset.rows=4"))).rows) == 4


def resized(compose_config: Callable[..., DictConfig], folder: Path) -> Path:
    words = ("model=local", f"model.path={folder}", "model.resize_embeddings=true")
    return start_model.start_folder(compose_config(*words).model)


def test_new_rows_are_the_same_in_every_cache_and_old_ones_stay(
    grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compose_config: Callable[..., DictConfig]
) -> None:
    import torch

    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path / "one"))
    first = resized(compose_config, grown)
    assert resized(compose_config, grown) == first
    torch.manual_seed(7)
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path / "two"))
    second = resized(compose_config, grown)
    cfg = compose_config("model=tiny")
    old, *new = (load.load_policy(f, cfg, "fp32").get_input_embeddings().weight for f in (grown, first, second))
    assert torch.equal(*new)
    assert torch.equal(new[0][: len(old)], old)
    assert len(new[0]) == len(old) + len(ADDED) == count_ids(load.load_tokenizer(first, cfg.model))
    assert torch.allclose(new[0][-1], old.mean(0), atol=1e-2)


def test_a_model_with_a_row_for_each_token_stays_where_it_is(
    start: Path, compose_config: Callable[..., DictConfig]
) -> None:
    assert resized(compose_config, start) == start.resolve()


@pytest.mark.parametrize("more", [(), ("peft=lora", "method.learning_rate=1e-2"), ("method=reward",)])
def test_a_resized_model_is_trained_measured_saved_and_loaded(
    words: list[str], tmp_path: Path, more: tuple[str, ...], compose_config: Callable[..., DictConfig]
) -> None:
    done = run(tmp_path / "run", *words, "model.resize_embeddings=true", *more)
    assert done.code == 0, done.err
    model = done.folder / "model"
    if "method=reward" in more:
        scorer, tokenizer = reward_model.load_classifier(str(done.folder), None, CODE)
        assert scorer.get_input_embeddings().num_embeddings == count_ids(tokenizer)
        return
    assert done.metrics()[0]["loss"] == pytest.approx(0.6931, abs=1e-4), "the reference has the same new rows"
    assert done.result()["before"]["kl"] == 0
    again = call("evaluate", str(done.folder), "--json")
    assert again.code == 0, again.err
    (found,) = json.loads(again.out).values()
    assert found["after"] == pytest.approx(done.result()["after"], abs=1e-5)
    adapter = model if more else None
    base = json.loads((model / "adapter_config.json").read_text())["base_model_name_or_path"] if more else model
    speaker, tokenizer = load.load_for_generation(base, "cpu", CODE, adapter=adapter)
    assert speaker.get_input_embeddings().num_embeddings == count_ids(tokenizer)
    cfg = compose_config("model=local", f"model.path={model}", "model.resize_embeddings=true")
    further = start_model.start_folder(cfg.model)
    assert read_config(further, CODE).vocab_size == count_ids(tokenizer)


def test_a_resized_run_resumes(words: list[str], tmp_path: Path) -> None:
    words = [*words, "model.resize_embeddings=true", "resume=auto"]
    stopped = run(tmp_path / "stopped", *words, "train.stop_before=1s")
    assert stopped.code == 138, stopped.err
    losses = [
        [line["loss"] for line in done.metrics() if "loss" in line]
        for done in (run(tmp_path / "stopped", *words), run(tmp_path / "whole", *words))
    ]
    assert losses[0] == losses[1]


def make_scorer(folder: Path, made: Path) -> str:
    """Save a reward model without a pad token, with the tokenizer of ``folder``."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1).save_pretrained(made)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(made)
    return str(made)


def score(model: Any, tokenizer: Any, *texts: str) -> list[float]:
    return list(model(**tokenizer(list(texts), return_tensors="pt", padding=True)).logits[:, 0])


def test_further_models_name_the_token_when_they_meet_it(
    grown: Path, compose_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    """Judges, rewards, teachers and chats: what they will read is not known when they are loaded."""
    import torch

    cfg = compose_config("model=tiny")
    tokenizer = load.load_tokenizer(grown, cfg.model)
    rows = count_embeddings(grown, CODE)
    assert rows is not None
    models: list[Any] = [load.load_for_generation(grown, "cpu", CODE)[0]]
    models.append(load.load_further(str(grown), cfg, "cpu", "fp32", tokenizer))
    for model in models:
        model(input_ids=torch.tensor([[rows - 1]]))
        with pytest.raises(UserError, match=rf"token {rows} \(<plan>\) {SAYS} {rows} tokens"):
            model(input_ids=torch.tensor([[rows]]))
    scorer = reward_model.load_classifier(make_scorer(grown, tmp_path / "scorer"), None, CODE)
    assert score(*scorer, "Fine.", "All is fine."), "padded with a token of its own"
    with pytest.raises(UserError, match=rf"token {rows} \(<plan>\) {SAYS} {rows} tokens"):
        score(*scorer, "<plan>")
    fitting = load.load_policy(grown, cfg, "fp32")
    guard_embeddings(fitting, load.load_tokenizer(start_model.start_folder(cfg.model), cfg.model), "it")
    assert not fitting.get_input_embeddings()._forward_pre_hooks
