"""Hydra's and OmegaConf's errors as the user reads them: each from a real composition that fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from inprocess import call
from omegaconf import DictConfig, OmegaConf

from alignzoo.config.errors import LAUNCHERS, explain
from alignzoo.config.plain import to_plain

Composed = Callable[..., DictConfig]


def explanation(compose_config: Composed, *overrides: str) -> str:
    """Return what is said of the error that composing and resolving raises."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 (any error at all: what is said of it is tested)
        to_plain(compose_config(*overrides))
    text = explain(raised.value)
    assert text is not None, repr(raised.value)
    assert len(text.splitlines()) <= 2
    return text


OPTIONS = [
    (
        "method=dqo",
        "method=dqo: no such option. Did you mean dpo?\nThere are: alphapo, aot, apo_down, ",
    ),
    ("strategy=zzz", "strategy=zzz: no such option.\nThere are: auto, ddp, fsdp, multinode, single, zero2, zero3."),
    ("hydra/launcher=jobib", "hydra/launcher=jobib: no such option. Did you mean joblib?"),
    ("experiment=zephir-dpo", "experiment=zephir-dpo: no such option. Did you mean zephyr-dpo"),
    ("model=qwen-0.5b", "model=qwen-0.5b: no such option. Did you mean qwen0.5b"),
    ("reward=lenght", "reward=lenght: no such option. Did you mean length?"),
    ("reward=[verifiable,lenght]", "reward=lenght: no such option. Did you mean length?"),
]

KEYS = [
    ("methd=dpo", "methd: unknown key. Did you mean method?"),
    ("seeed=1", "seeed: unknown key. Did you mean seed or speed?"),
    ("datset.rows=3", "datset: unknown key. Did you mean dataset?"),
    ("dataset.rowz=3", "dataset.rowz: unknown key. Did you mean dataset.rows?"),
    ("dataset.heldout.row=3", "dataset.heldout.row: unknown key. Did you mean dataset.heldout.rows?"),
    ("method.bta=1", "method.bta: unknown key. Did you mean method.beta?"),
    ("peft.r=3", "peft.r: unknown key. peft has: name, rate."),
    ("method.sync_ref_model=true", "in the method's TRL config only: write +method.sync_ref_model=... to set it."),
    ("train.bf16=true", "in the method's TRL config only: write +train.bf16=... to set it."),
    ("train.adam_bta2=0.9", "train.adam_bta2: unknown key. Did you mean +train.adam_beta"),
]

GRAMMAR = [
    ("method", "cannot read 'method': write key=value"),
    ("method.beta=[1", "cannot read 'method.beta=[1': write key=value, and quote brackets"),
    (
        "dataset.path=a\udcff",
        "cannot read 'dataset.path=a\\udcff': it holds bytes that are not utf-8. Set LC_ALL=C.UTF-8.",
    ),
    ("+method=dpo", "method is chosen already: write method=... without the plus sign."),
    ("++method=dpo", "method=... without the plus sign"),
    ("+experiment=zephyr-dpo", "experiment is chosen already: write experiment=... without the plus sign."),
    ("+seed=3", "seed has a value already: write seed=... without the plus sign."),
    ("~nothing", "nothing cannot be deleted: unknown key."),
    ("~method.nothing", "method.nothing cannot be deleted: unknown key."),
    ("+method=ipo", "method is chosen already: write method=... without the plus sign."),
    ("hydra.run.dr=x", "hydra.run.dr: "),
    ("method.loss_type.x=1", "a list's item is chosen by its number"),
]

VALUES = [
    ("method.beta=???", "method.beta is needed: add method.beta=VALUE."),
    ("reward=model", "reward.model.path is needed: add reward.model.path=VALUE."),
    ("method.beta=${nothing}", "method.beta: Interpolation key 'nothing' not found."),
    ("method.beta=${nothing:1}", "method.beta: Unsupported interpolation type nothing"),
]


def test_a_launcher_that_is_not_installed_names_its_extra(
    compose_config: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever are installed here, this one is not."""
    monkeypatch.setitem(LAUNCHERS, "moon", "rocket")
    told = explanation(compose_config, "hydra/launcher=moon")
    assert told == "hydra/launcher=moon is not installed: pip install 'alignzoo[rocket]'."


@pytest.mark.parametrize(("override", "expected"), OPTIONS + KEYS + GRAMMAR + VALUES)
def test_the_key_and_the_mend_are_named(compose_config: Composed, override: str, expected: str) -> None:
    assert expected in explanation(compose_config, override)


def test_trl_fields_are_those_of_the_chosen_method(compose_config: Composed) -> None:
    assert "write +method.top_p=..." in explanation(compose_config, "method=grpo", "method.top_p=1")
    assert "unknown key" in explanation(compose_config, "method=dpo", "method.top_p=1")


def test_the_mapping_that_the_error_message_recommends_composes(compose_config: Composed) -> None:
    """``recognise`` tells a user whose columns have other names to type exactly this."""
    cfg = compose_config("dataset.columns={question: prompt, good: chosen, bad: rejected}")
    assert to_plain(cfg.dataset.columns) == {"question": "prompt", "good": "chosen", "bad": "rejected"}


def test_a_plugin_that_does_not_load_is_named_where_its_option_is_missing(
    compose_config: Composed, fake_package: Callable[..., None]
) -> None:
    fake_package("fake_broken", "import nothing_of_that_name")
    text = explanation(compose_config, "method=fake")
    assert "method=fake: no such option." in text
    assert "Plugin fake_broken (fake_broken 1.0) is left out: ModuleNotFoundError: No module named 'nothing_of" in text
    assert "fake_broken" not in explanation(compose_config, "model=fake")


def test_a_plugins_option_is_among_those_listed(compose_config: Composed, fake_package: Callable[..., None]) -> None:
    code = """
from alignzoo import hookimpl

@hookimpl
def alignzoo_config_packages():
    return ["fake_configs.conf"]
"""
    fake_package("fake_configs", code, {"model/fakebert.yaml": "name: fakebert\n"})
    assert "Did you mean fakebert?" in explanation(compose_config, "model=fakbert")


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), ValueError("shapes differ"), KeyError("x")])
def test_an_error_of_ours_is_not_explained_away(error: Exception) -> None:
    assert explain(error) is None


def test_a_number_that_a_library_cannot_read_is_not_explained_away() -> None:
    """OmegaConf's complaint of a list's index has the same words as any other library's."""
    with pytest.raises(ValueError, match="invalid literal") as raised:
        int("x")
    assert explain(raised.value) is None


def test_a_missing_value_read_later_is_explained_too() -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011
        OmegaConf.create({"a": {"b": "???"}}).a.b  # noqa: B018
    assert explain(raised.value) == "a.b is needed: add a.b=VALUE."


def test_a_deleted_key_read_later_is_explained_too() -> None:
    cfg = OmegaConf.create({"method": {"name": "dpo"}})
    OmegaConf.set_struct(cfg, True)
    with pytest.raises(Exception) as raised:  # noqa: PT011
        cfg.method.beta  # noqa: B018
    text = explain(raised.value)
    assert text is not None
    assert text.startswith("method.beta")
    assert "struct" not in text


def test_a_folder_or_file_of_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("seed: 3\n")
    done = call("--config-dir", str(tmp_path / "none"), "--config-name", "run")
    assert (done.code, done.err) == (
        1,
        f"alignzoo: --config-dir {tmp_path / 'none'}: no such folder. Looked in {tmp_path}.\n",
    )
    done = call("--config-dir", str(tmp_path), "--config-name", "rnu")
    told = "alignzoo: --config-name rnu: no such configuration. Did you mean run?\nThere are: config, run.\n"
    assert (done.code, done.err) == (1, told)
