"""The teacher: loaded as a model is, refused where its tokens are others, and given the student's number of logits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from repository import ROOT
from transformers import AutoModelForCausalLM

from alignzoo import UserError
from alignzoo.config.check import check
from alignzoo.models.load import load_tokenizer
from alignzoo.models.teacher import NEVER, find_teacher, load_teacher, match_logits
from alignzoo.models.tiny import tiny_tokenizer

Compose = Callable[..., DictConfig]

OTHER = ("teacher=tiny", "teacher.weights_seed=1")


@pytest.fixture
def tokenizer(start: Path, compose_config: Compose) -> Any:
    return load_tokenizer(start, compose_config("model=tiny").model)


def saved(folder: Path, start: Path, change: Callable[[Any], object]) -> str:
    """Save the model `tiny` with a changed tokenizer."""
    changed = tiny_tokenizer()
    change(changed)
    AutoModelForCausalLM.from_pretrained(start).save_pretrained(folder)
    changed.save_pretrained(folder)
    return str(folder)


def test_without_a_teacher_there_is_none(compose_config: Compose, tokenizer: Any) -> None:
    assert find_teacher(compose_config("model=tiny"), tokenizer) is None


def test_every_model_can_be_the_teacher() -> None:
    names = {group: {file.stem for file in (ROOT / "conf" / group).glob("*.yaml")} for group in ("model", "teacher")}
    assert names["teacher"] == names["model"] | {"none"}


@pytest.mark.parametrize("name", sorted(file.stem for file in (ROOT / "conf" / "model").glob("*.yaml")))
def test_it_is_the_model_of_that_name(name: str, compose_config: Compose) -> None:
    cfg = compose_config(f"model={name}", f"teacher={name}")
    shared = cfg.teacher.keys() & cfg.model.keys()
    assert {key: cfg.teacher[key] for key in shared} == {key: cfg.model[key] for key in shared}


def test_it_is_loaded_frozen_beside_the_model(start: Path, compose_config: Compose, tokenizer: Any) -> None:
    checked = check(compose_config("method=opd", "model=tiny", "strategy.device=cpu", *OTHER))
    folder = find_teacher(checked.cfg, tokenizer)
    assert folder is not None
    assert folder != start
    model: Any = load_teacher(folder, checked, start)
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())
    assert model.dtype == torch.float32


def test_a_run_folder_is_a_teacher(start: Path, tmp_path: Path, compose_config: Compose, tokenizer: Any) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model").symlink_to(start)
    cfg = compose_config("model=tiny", "teacher=local", f"teacher.path={tmp_path / 'run'}")
    assert find_teacher(cfg, tokenizer) == start.resolve()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("teacher=local",), "teacher=local needs a folder or hub id: add teacher.path=FOLDER."),
        (("teacher=local", "teacher.path=./nowhere"), "teacher.path=./nowhere: no such folder."),
        (("teacher=local", "teacher.path=nowhere.gguf"), "teacher.gguf_file: nowhere.gguf does not exist."),
    ],
)
def test_errors_name_the_teacher(words: tuple[str, ...], said: str, compose_config: Compose, tokenizer: Any) -> None:
    with pytest.raises(UserError) as error:
        find_teacher(compose_config("model=tiny", *words), tokenizer)
    assert said in str(error.value)
    assert "model" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "token"),
    [
        (lambda other: other.add_tokens(["<new>"]), "'<new>'"),
        (lambda other: other.add_special_tokens({"pad_token": "<pad>"}), "'<pad>'"),
    ],
    ids=["a token more", "a special token more"],
)
def test_other_tokens_are_refused(
    change: Callable[[Any], object],
    token: str,
    start: Path,
    tmp_path: Path,
    compose_config: Compose,
    tokenizer: Any,
) -> None:
    cfg = compose_config("model=tiny", "teacher=local", f"teacher.path={saved(tmp_path, start, change)}")
    with pytest.raises(UserError) as error:
        find_teacher(cfg, tokenizer)
    assert f"teacher=local has other tokens than model=tiny (1, as {token})" in str(error.value)
    assert "\n" not in str(error.value)
    assert "of the model's own family" in str(error.value)


def test_two_tokens_that_changed_places_are_refused(compose_config: Compose, tokenizer: Any) -> None:
    swapped = copy.copy(tokenizer.get_vocab())
    one, two = list(swapped)[300:302]
    swapped[one], swapped[two] = swapped[two], swapped[one]

    class Student:
        def get_vocab(self) -> dict[str, int]:
            return swapped

    with pytest.raises(UserError, match=r"has other tokens than model=tiny \(2, as"):
        find_teacher(compose_config("model=tiny", *OTHER), Student())  # type: ignore[arg-type]


@pytest.mark.parametrize("logits", [1000, 1024, 1100])
def test_it_gets_the_students_number_of_logits(logits: int, start: Path) -> None:
    """Models are published with more embeddings than tokens: 151,936 and 152,064 in one family."""
    plain, matched = (AutoModelForCausalLM.from_pretrained(start).eval() for _ in range(2))
    match_logits(matched, logits)
    ids = torch.arange(40)[None]
    with torch.no_grad():
        before, after = plain(input_ids=ids).logits, matched(input_ids=ids).logits
    known = min(logits, before.shape[-1])
    assert after.shape[-1] == logits == matched.config.vocab_size
    torch.testing.assert_close(after[..., :known], before[..., :known])
    assert (after[..., known:] == NEVER).all()
    assert torch.softmax(after, -1)[..., known:].sum() == 0
