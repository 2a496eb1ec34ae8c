"""Kills in the middle of the writing of a merged adapter: into the cache, and at the end of a reward model's run."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest
from cells import ADAPTERS, Report, divide
from disturbing import NEEDS_SHIM, Place, check_entries, choose
from processes import Started

#: What a merged adapter is written to.
PARTS = re.compile(r"-merged-|run/\.?model")

pytestmark = [pytest.mark.faults, NEEDS_SHIM]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    divide(metafunc, [*ADAPTERS])


@pytest.fixture
def adapter(cell: str, tmp_path: Path, start: Path) -> Path:
    """Train an adapter, whose base model stays where it is."""
    words = ("method=sft", "model=local", f"model.path={start}", *ADAPTERS[cell])
    trained = Started(tmp_path / "adapter", *(word for word in words if word != "model=tiny"))
    assert trained.ends() == 0, trained.said
    return tmp_path / "adapter" / "model"


def test_a_merged_adapter_is_whole_or_not_there(
    cell: str, wanted: int, tmp_path: Path, adapter: Path, chance: random.Random, report_faults: Report
) -> None:
    own = tuple(word for word in ADAPTERS[cell] if word not in ("model=tiny", "peft=lora"))
    wholes = {
        "from the cache": Place(tmp_path / "merged", ("model=local", f"model.path={adapter}", *own)),
        "at the end": Place(tmp_path / "reward", ("method=reward", *ADAPTERS[cell])),
    }
    found = {
        name: [write for write in whole.count() if PARTS.search(str(write.path))] for name, whole in wholes.items()
    }
    assert all(found.values())
    seen, runs = Counter[str](), 0
    while seen.total() < wanted:
        name = chance.choice([*wholes])
        place, runs = Place(tmp_path / f"place-{runs}", wholes[name].words), runs + 1
        done, met = place.disturb(choose(chance, found[name]), "kill")
        assert done.ends() == (-9 if met else 0), done.said
        check_entries(place.cache)
        check_model(place.run / "model", wholes[name].run / "model")
        place.finish(wholes[name])
        seen[name] += met is not None
    report_faults("merged adapter", seen, f"in {runs} runs, all the same bit for bit")


def check_model(folder: Path, whole: Path) -> None:
    """Check that a trained model which others would find is the whole one, but for its card, which is written last."""
    for file in (path for path in whole.iterdir() if path.name != "README.md" and folder.exists()):
        if file.name != "training_args.bin":  # it names its own folder
            assert (folder / file.name).read_bytes() == file.read_bytes()
