"""Run with pytest where the package is installed."""

import json
import subprocess
import sys

import pytest

SOURCE = "Zhao et al., 2023, rank calibration loss, with the likelihood of the chosen completion as regulariser"

QUICK = ("model=tiny", "dataset.rows=16", "evaluate.rows=4", "evaluate.max_new_tokens=8")


def alignzoo(folder, *words):
    command = [sys.executable, "-m", "alignzoo", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


def test_its_loss_is_the_papers(tmp_path):
    done = alignzoo(tmp_path, "verify-losses", "slic", "--json")
    assert done.returncode == 0, done.stderr
    (said,) = json.loads(done.stdout)["methods"]
    assert (said["verdict"], said["equation"]) == ("agrees", SOURCE)


def test_it_trains(tmp_path):
    done = alignzoo(tmp_path, "method=slic", *QUICK, "method.learning_rate=1e-3", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    after = json.loads((tmp_path / "run" / "result.json").read_text())["after"]
    assert after["margin_token"] > 0


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("+method.ld_alpha=0.5", "method.ld_alpha=0.5: method=slic sets it to None."),
        ("method.delta=0", "method.delta=0 must be above 0"),
    ],
)
def test_what_would_not_be_slic_is_refused(tmp_path, word, wanted):
    done = alignzoo(tmp_path, "method=slic", word)
    assert done.returncode == 1
    assert wanted in done.stderr
