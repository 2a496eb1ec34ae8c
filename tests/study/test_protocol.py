"""The protocol: fixed beforehand, read back as it was, and no other one in the same folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml
from made_up import make_settings

from alignzoo.study.protocol import FILE, Protocol, is_place, read_protocol
from alignzoo.study.space import Knob
from alignzoo.system.errors import UserError


@pytest.fixture
def protocol() -> Protocol:
    knobs = {name: [Knob("learning_rate", 1e-6, 1e-4, False)] for name in ("dpo", "simpo")}
    trials = {name: [{"learning_rate": 3.1e-6}] for name in knobs}
    return Protocol(make_settings(trials=1), knobs, trials, 7, ["model=tiny"], ["hydra/launcher=joblib"])


def test_it_is_read_back_as_it_was_fixed(tmp_path: Path, protocol: Protocol) -> None:
    protocol.fix(tmp_path)
    found = read_protocol(tmp_path)
    assert found.describe() == protocol.describe()
    assert found.hash == protocol.hash
    assert found.places == protocol.places
    assert found.fresh_seeds == [8, 9, 10]


def test_every_part_of_it_is_in_the_hash(protocol: Protocol) -> None:
    others = [
        dataclasses.replace(protocol, settings=make_settings(trials=1, difference=3.0)),
        dataclasses.replace(protocol, seed=8),
        dataclasses.replace(protocol, words=["model=bundled"]),
        dataclasses.replace(protocol, trials={**protocol.trials, "dpo": [{"learning_rate": 3.2e-6}]}),
        dataclasses.replace(protocol, spaces={**protocol.spaces, "dpo": []}),
    ]
    assert len({protocol.hash, *(other.hash for other in others)}) == 6


def test_where_it_runs_is_no_part_of_it(tmp_path: Path, protocol: Protocol) -> None:
    protocol.fix(tmp_path)
    elsewhere = dataclasses.replace(protocol, places=["hydra/launcher=basic", "strategy=single"])
    elsewhere.fix(tmp_path)
    assert read_protocol(tmp_path).places == elsewhere.places


def test_the_same_folder_refuses_another_one(tmp_path: Path, protocol: Protocol) -> None:
    protocol.fix(tmp_path)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(UserError, match=r"another protocol \(difference was 5.0, is 3.0\)") as refused:
        dataclasses.replace(protocol, settings=make_settings(trials=1, difference=3.0)).fix(tmp_path)
    assert "\n" not in str(refused.value)
    assert (tmp_path / FILE).read_bytes() == before


def test_one_that_somebody_changed_is_refused(tmp_path: Path, protocol: Protocol) -> None:
    protocol.fix(tmp_path)
    content = yaml.safe_load((tmp_path / FILE).read_text())
    content["protocol"]["difference"] = 1.0
    (tmp_path / FILE).write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match="somebody changed it"):
        read_protocol(tmp_path)


def test_a_folder_without_one_is_not_a_study(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a study's folder"):
        read_protocol(tmp_path)


@pytest.mark.parametrize("word", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "strategy=ddp", "tracker=wandb"])
def test_words_that_say_where_it_runs(word: str) -> None:
    assert is_place(word)


@pytest.mark.parametrize("word", ["model=tiny", "train.max_steps=2", "+peft.r=8", "dataset.rows=16"])
def test_words_that_say_what_it_compares(word: str) -> None:
    assert not is_place(word)
