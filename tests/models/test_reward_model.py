"""Reward models as they are loaded to train: their output, their pad token, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from alignzoo import UserError
from alignzoo.models import load as models
from alignzoo.models import reward_model
from alignzoo.models.pretrained import RemoteCode, is_scorer
from alignzoo.models.tiny import make_tiny


@pytest.fixture
def start(tmp_path: Path) -> Path:
    make_tiny(tmp_path / "start")
    return tmp_path / "start"


def load(start: Path, cfg: DictConfig) -> tuple[Any, Any]:
    tokenizer = models.load_tokenizer(start, cfg.model)
    return reward_model.load_scorer(start, tokenizer, [tokenizer.eos_token_id], cfg, "fp32"), tokenizer


def test_the_output_is_random_by_the_seed(start: Path, compose_config: Callable[..., DictConfig]) -> None:
    import torch

    words = ("method=reward", "model=tiny")
    first, again, other = (load(start, compose_config(*words, f"seed={seed}"))[0] for seed in (0, 0, 1))
    assert first.score.weight.shape == (1, 64)
    assert torch.equal(first.score.weight, again.score.weight)
    assert not torch.equal(first.score.weight, other.score.weight)
    assert torch.equal(first.model.embed_tokens.weight, other.model.embed_tokens.weight)


def test_loading_leaves_the_random_numbers_of_others_alone(
    start: Path, compose_config: Callable[..., DictConfig]
) -> None:
    import torch

    torch.manual_seed(3)
    before = torch.get_rng_state()
    load(start, compose_config("method=reward", "model=tiny"))
    assert torch.equal(before, torch.get_rng_state())


def test_an_output_that_is_there_is_kept(
    start: Path, compose_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    import torch

    cfg = compose_config("method=reward", "model=tiny")
    model, tokenizer = load(start, cfg)
    with torch.no_grad():
        model.score.weight.fill_(0.5)
    model.save_pretrained(tmp_path / "scorer")
    tokenizer.save_pretrained(tmp_path / "scorer")
    assert load(tmp_path / "scorer", cfg)[0].score.weight.unique().tolist() == [0.5]
    assert is_scorer(tmp_path / "scorer")
    assert not is_scorer(start)
    with pytest.raises(UserError, match="is a reward model: it gives scores, and no answers"):
        models.load_policy(tmp_path / "scorer", cfg, "fp32")


def test_eos_is_read_where_it_stood_in_for_padding(start: Path, compose_config: Callable[..., DictConfig]) -> None:
    """With EOS as padding the head would read the token before it, of ended and of unended answers alike."""
    import torch
    from transformers import AutoTokenizer

    bare = AutoTokenizer.from_pretrained(start)
    bare.pad_token = None
    bare.save_pretrained(start)
    model, tokenizer = load(start, compose_config("method=reward", "model=tiny"))
    end = tokenizer.eos_token_id
    assert tokenizer.pad_token_id not in (None, end)
    assert model.config.pad_token_id == tokenizer.pad_token_id < model.get_input_embeddings().num_embeddings
    padded = torch.tensor([[5, 6, end, tokenizer.pad_token_id]])
    with torch.no_grad():
        whole, cut, filled = (float(model(ids).logits) for ids in (padded[:, :3], padded[:, :2], padded))
    assert whole == pytest.approx(filled, abs=1e-5)
    assert whole != pytest.approx(cut, abs=1e-3)


def test_its_stop_tokens_are_saved(start: Path, compose_config: Callable[..., DictConfig], tmp_path: Path) -> None:
    model, tokenizer = load(start, compose_config("method=reward", "model=tiny"))
    model.save_pretrained(tmp_path / "scorer")
    tokenizer.save_pretrained(tmp_path / "scorer")
    loaded, _ = reward_model.load_classifier(str(tmp_path / "scorer"), None, RemoteCode(allowed=False))
    assert getattr(loaded.config, reward_model.EOS_KEY) == ["<|im_end|>"]
