"""``-m method=@FAMILY``: written out before Hydra reads it; what does not fit the data or the keys is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import QUICK
from inprocess import run

from alignzoo import UserError
from alignzoo.cli.families import expand_families
from alignzoo.plugin.family import find_family
from alignzoo.plugin.registry import registry


def find_names(family: str) -> list[str]:
    return sorted(name for name, (method, _) in registry().methods.items() if find_family(method) == family)


@pytest.fixture
def answers(tmp_path: Path) -> list[str]:
    """Return the words that choose a file of good answers."""
    file = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"number {number}", "completion": "fine"} for number in range(24)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["dataset=local", f"dataset.path={file}", "model=tiny"]


def test_words_without_a_family_stay_as_they_are() -> None:
    words = ["-m", "method=dpo,ipo", "method.beta=0.1,0.2", "+note=a@b"]
    assert expand_families(words) == words


def test_a_family_and_a_method_are_written_out_once_each() -> None:
    words = ["-m", "seed=1,2", "method=@unpaired,sft,kto", "model=tiny"]
    names = ",".join([*find_names("unpaired"), "sft"])
    assert expand_families(words) == ["-m", "seed=1,2", f"method={names}", "model=tiny"]


def test_what_does_not_fit_the_data_is_left_out_and_named(
    answers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    written = expand_families(["-m", "method=@supervised,@unpaired,dpo", *answers])
    assert written[1] == f"method={','.join(find_names('supervised'))}"
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(find_names("unpaired")) + 1
    assert all(line.startswith("left out: method=") and "it has good answers only" in line for line in said)


def test_what_the_keys_do_not_fit_is_left_out_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    written = expand_families(["-m", "method=sft,@unpaired", "method.desirable_weight=1.0,1.5", "model=tiny"])
    assert "sft" not in written[1]
    assert "kto" in written[1]
    assert "left out: method=sft: method.desirable_weight: unknown key." in capsys.readouterr().err


MISTAKES = {
    "an unknown family": (["-m", "method=@preferences"], r"^method=@preferences: no such family\. Did you mean pref"),
    "no sweep": (["method=@preference"], r"^method=@preference names several: add -m to run each of them\.$"),
    "twice": (["-m", "method=@preference", "method=@unpaired"], "method is chosen twice"),
    "a key that none has": (
        ["-m", "method=@unpaired", "method.bta=1"],
        r"no method of it can run here: method\.bta: un",
    ),
}


@pytest.mark.parametrize(("words", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_answered(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        expand_families(words)


def test_data_that_no_method_fits_stop_the_sweep(answers: list[str]) -> None:
    with pytest.raises(
        UserError, match=r"^method=@unpaired: no method of it can run here: .* it has good answers only"
    ):
        expand_families(["-m", "method=@unpaired", *answers])


def test_a_sweep_over_a_family_runs_what_fits(tmp_path: Path, answers: list[str]) -> None:
    quick = [word for word in QUICK if not word.startswith("dataset=")]
    done = run(tmp_path / "sweep", "-m", "method=@supervised,dpo", *quick, *answers, "evaluate.enabled=false")
    assert done.code == 0, done.err
    results = [json.loads(file.read_text()) for file in done.folder.glob("*/result.json")]
    assert sorted(result["method"] for result in results) == find_names("supervised")
    assert "left out: method=dpo: " in done.err
