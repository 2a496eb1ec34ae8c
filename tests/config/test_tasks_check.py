"""What `evaluate.tasks` may be, and which of it a handed-over configuration may not name."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf, open_dict

from alignzoo.config.check import check
from alignzoo.config.later_keys import add_later_keys
from alignzoo.config.tasks import is_task_file
from alignzoo.system.errors import UserError

needs_harness = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None,
    reason="lm-evaluation-harness is missing: pip install 'alignzoo[tasks]'",
)
Compose = Callable[..., DictConfig]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["evaluate.tasks=ifeval"], "evaluate.tasks=ifeval is text; it takes list."),
        (["evaluate.tasks=[ifeval,3]"], "evaluate.tasks: 3 must be the name of a task, a YAML file or a folder"),
        (["evaluate.tasks=[ifeval,ifeval]"], "evaluate.tasks names ifeval twice."),
        (["evaluate.tasks=[ifeval]", "method=reward"], "method=reward trains a reward model, which generates no text"),
        (["evaluate.task_items=0"], "evaluate.task_items=0 must be at least 1."),
    ],
)
def test_mistakes(compose_config: Compose, words: Sequence[str], told: str) -> None:
    with pytest.raises(UserError) as raised:
        check(compose_config("model=tiny", *words))
    assert told in str(raised.value)


@needs_harness
def test_tasks_are_taken(compose_config: Compose) -> None:
    check(compose_config("model=tiny", "evaluate.tasks=[ifeval,gsm8k]", "evaluate.task_items=20"))


def test_without_the_harness_the_extra_is_named(compose_config: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "lm_eval" else find(name, *more)
    )
    check(compose_config("model=tiny"))
    with pytest.raises(UserError, match=r"needs lm-evaluation-harness: pip install 'alignzoo\[tasks\]'"):
        check(compose_config("model=tiny", "evaluate.tasks=[ifeval]"))


def test_a_file_or_folder_is_told_from_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert [word for word in ("ifeval", "mine", "./other", "a.yaml", "b.yml", "mmlu_law") if is_task_file(word)] == [
        "mine",
        "./other",
        "a.yaml",
        "b.yml",
    ]


def test_the_configuration_of_an_older_run_gets_the_later_keys(compose_config: Compose) -> None:
    cfg: Any = compose_config("model=tiny")
    with open_dict(cfg):
        del cfg.evaluate.tasks, cfg.evaluate.task_items, cfg.prune, cfg.dataset.validation
    add_later_keys(cfg)
    assert (cfg.evaluate.tasks, cfg.evaluate.task_items, cfg.prune.rule) == ([], None, "none")
    assert cfg.dataset.validation.rows == 200
    OmegaConf.update(cfg, "evaluate.task_items", 3)
    add_later_keys(cfg)
    assert cfg.evaluate.task_items == 3, "what is there stays"
