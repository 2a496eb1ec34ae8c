"""From the words of the command to a protocol: what they may say, and what is refused in one line."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hydra.errors import HydraException

from alignzoo.study.setup import make_protocol
from alignzoo.system.errors import UserError

WORDS = ("method=dpo,simpo", "model=tiny", "study.trials=2")
VALIDATION = "dataset.validation.path=package://alignzoo.data/{}/validation.jsonl"
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


def test_the_words_become_a_protocol() -> None:
    found = make_protocol([*WORDS, "seed=3", "study.number=margin_token", *JOBLIB])
    assert list(found.settings.methods) == ["dpo", "simpo"]
    assert found.settings.baseline == "dpo"
    assert found.seed == 3
    assert found.words == ["model=tiny", VALIDATION.format("concise"), "evaluate.objective=margin_token"]
    assert found.places == JOBLIB
    assert [knob.key for knob in found.spaces["simpo"]] == ["learning_rate", "beta", "gamma"]
    assert {name: len(trials) for name, trials in found.trials.items()} == {"dpo": 2, "simpo": 2}


@pytest.mark.parametrize(
    ("words", "added"),
    [
        (["dataset=local", "dataset.path=pairs.jsonl"], "dataset.validation.fraction=0.1"),
        (["dataset=counted"], VALIDATION.format("counted")),
    ],
)
def test_a_study_has_rows_to_select_by(words: list[str], added: str) -> None:
    assert added in make_protocol([*WORDS, *words]).words


def test_rows_to_select_by_that_were_named_are_kept() -> None:
    words = ["dataset=local", "dataset.path=pairs.jsonl", "dataset.validation.fraction=0.3"]
    assert make_protocol([*WORDS, *words]).words[1:4] == words


@pytest.mark.parametrize(("number", "difference"), [("preference_accuracy", 5.0), ("reward", 0.05)])
def test_the_smallest_difference_that_matters_fits_the_number(number: str, difference: float) -> None:
    assert make_protocol([*WORDS, f"study.number={number}"]).settings.difference == difference


def test_the_number_that_decides_is_the_datasets_reward() -> None:
    assert make_protocol([*WORDS]).settings.number == "reward"
    assert make_protocol([*WORDS, "dataset=local", "dataset.path=pairs.jsonl"]).settings.number == "margin_token"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=tiny"], "name them, as method=dpo,simpo,kto"),
        (["method=dpo,dpo"], "names a method twice"),
        (["method=dpo,nonsense"], "nonsense"),
        (["method=dpo,reward"], "trains a reward model"),
        ([*WORDS, "method.beta=0.1"], "tuned in its own space"),
        ([*WORDS, "train.max_steps=1,2"], "varies methods alone"),
        ([*WORDS, "hydra/sweeper=optuna"], "lists its runs itself"),
        ([*WORDS, "prune.rule=median"], "the same budget"),
        ([*WORDS, "dpo"], "is not key=value"),
        ([*WORDS, "study.trial=2"], r"study\.trial"),
        ([*WORDS, "study.trials=0"], "at least 1"),
        ([*WORDS, "study.seeds=1"], "at least 2"),
        ([*WORDS, "study.baseline=kto"], "dpo, simpo, start"),
        ([*WORDS, "study.number=answer_tokens"], "cannot decide"),
        ([*WORDS, "study.number=nonsense"], "no such number"),
        ([*WORDS, "study.guardrails={kl: 1.0}"], "takes {least: NUMBER}"),
        ([*WORDS, "study.rates=[5,1]"], "the lower one first"),
        ([*WORDS, "study.difference=0"], "above 0"),
        ([*WORDS, "study.underpowered=maybe"], "refuse or run"),
        ([*WORDS, "train.max_length=1"], "study of method=dpo: train.max_length"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(words: list[str], said: str) -> None:
    from alignzoo.config.errors import explain

    with pytest.raises((UserError, HydraException)) as refused:
        make_protocol(words)
    text = str(refused.value) if isinstance(refused.value, UserError) else str(explain(refused.value))
    assert re.search(said, text), text
    assert "\n" not in text.strip()


def test_a_plugin_can_add_a_study(fake_package: Callable[..., None]) -> None:
    code = "from alignzoo import hookimpl\n\n\n@hookimpl\ndef alignzoo_config_packages():\n    return ['mine.conf']\n"
    option = "# Three trials.\ndefaults: [default]\n\n# Fewer.\ntrials: 3\n"
    fake_package("mine", code, {"study/__init__.py": "", "study/mine.yaml": option})
    found = make_protocol(["method=dpo,simpo", "model=tiny", "study=mine", "study.seeds=4"]).settings
    assert (found.trials, found.seeds, found.widen) == (3, 4, 1.0)
