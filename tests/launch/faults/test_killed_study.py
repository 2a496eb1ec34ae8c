"""Studies that are killed at random moments, in any phase, and resumed: they end with an undisturbed one's table."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import QUICK
from processes import Started

pytestmark = pytest.mark.faults

KILLS = 20
LONGEST = 12  #: seconds after its start until which one is killed
WORDS = ("study", "method=dpo,simpo", *QUICK, "evaluate.shown=0", "train.max_steps=2", "study.trials=3")
WORDS = (*WORDS, "study.seeds=3", "study.underpowered=run", "study.number=preference_accuracy")

FILES = ("study.csv", "winners.yaml", "losses.json")


def read_study(folder: Path) -> dict[str, str]:
    """Return what a study has found, and what each of its runs has."""
    found = {name: (folder / name).read_text() for name in FILES if (folder / name).exists()}
    return found | {
        str(file.relative_to(folder)): file.read_text() for file in sorted(folder.glob("*/*/answers.jsonl"))
    }


def finish(folder: Path) -> None:
    started = Started(folder, *WORDS, f"hydra.sweep.dir={folder}", output=folder.with_suffix(".out"))
    assert started.ends() == 0, started.said


def test_studies_killed_at_random_moments_end_with_the_same_table(
    tmp_path: Path, cache: Path, request: pytest.FixtureRequest
) -> None:
    chance = random.Random(request.config.getoption("--seed"))
    whole = tmp_path / "whole"
    finish(whole)
    expected = read_study(whole)
    assert len(expected) > len(FILES)
    kills = studies = 0
    moments: list[str] = []
    while kills < KILLS:
        folder, studies = tmp_path / f"killed-{studies}", studies + 1
        while kills < KILLS and _kill(folder, chance):
            kills += 1
            moments.append(_name_phase(folder))
        finish(folder)
        assert read_study(folder) == expected
        pd.testing.assert_frame_equal(pd.read_csv(folder / "study.csv"), pd.read_csv(whole / "study.csv"))
    print(f"{kills} kills in {studies} studies: {', '.join(moments)}")
    assert len({*moments}) > 1  # not all of them before the first run


def _kill(folder: Path, chance: random.Random) -> bool:
    """Start the study, or go on with it, and kill it after a random time; whether it was alive then."""
    started = Started(folder, *WORDS, f"hydra.sweep.dir={folder}", output=folder.with_suffix(".out"))
    end = time.monotonic() + chance.uniform(0, LONGEST)
    while time.monotonic() < end and started.process.is_alive():
        time.sleep(0.01)
    started.kill(signal.SIGKILL)
    code = started.ends()
    assert code in (0, -signal.SIGKILL), started.said
    return code != 0


def _name_phase(folder: Path) -> str:
    """Return how far a study is: the number of its finished runs."""
    return f"{sum(1 for _ in folder.glob('*/*/result.json'))} runs"
