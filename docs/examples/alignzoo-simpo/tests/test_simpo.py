"""Run with pytest where the package is installed."""

import json
import subprocess
import sys

import pytest

QUICK = ("model=tiny", "dataset.rows=16", "evaluate.rows=4", "evaluate.max_new_tokens=8")


def alignzoo(folder, *words):
    command = [sys.executable, "-m", "alignzoo", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


def test_its_loss_is_the_papers(tmp_path):
    done = alignzoo(tmp_path, "verify-losses", "simpo", "--json")
    assert done.returncode == 0, done.stderr
    (said,) = json.loads(done.stdout)["methods"]
    assert (said["verdict"], said["equation"]) == ("agrees", "Meng et al., 2024, equation 6")


def test_it_trains(tmp_path):
    done = alignzoo(tmp_path, "method=simpo", *QUICK, "method.learning_rate=1e-3", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    after = json.loads((tmp_path / "run" / "result.json").read_text())["after"]
    assert after["margin_token"] > 0


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("+method.cpo_alpha=1.0", "method.cpo_alpha=1.0: method=simpo sets it to 0.0."),
        ("method.beta=0", "method.beta=0 must be above 0"),
    ],
)
def test_what_would_not_be_simpo_is_refused(tmp_path, word, wanted):
    done = alignzoo(tmp_path, "method=simpo", word)
    assert done.returncode == 1
    assert wanted in done.stderr
