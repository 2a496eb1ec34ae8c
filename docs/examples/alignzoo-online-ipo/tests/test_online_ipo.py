"""Run with pytest where the package is installed."""

import json
import subprocess
import sys

import pytest

QUICK = ("model=tiny", "dataset.rows=16", "evaluate.rows=4", "evaluate.max_new_tokens=8")
ONLINE = ("method=online_ipo", "method.max_new_tokens=12", *QUICK)


def alignzoo(folder, *words):
    command = [sys.executable, "-m", "alignzoo", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][:-1]


def test_it_learns_from_a_reward_model_of_its_own(tmp_path):
    done = alignzoo(tmp_path, "method=reward", *QUICK, "hydra.run.dir=scorer")
    assert done.returncode == 0, done.stderr
    done = alignzoo(tmp_path, *ONLINE, "reward=model", "reward.model.path=scorer", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["plan"]["updates"] == result["cost"]["steps"] == 8  # 16 prompts, two in a batch of four answers
    first = metrics(tmp_path / "run")[0]
    assert first["loss"] == pytest.approx(25, abs=1e-2)
    assert first["objective/scores_margin"] > 0
    assert "reward" in result["after"]


#: 60 updates from 32 answers each. The reward is 1 for eight words: the tiny model's 12 random tokens make about five.
LONG = ("train.max_steps=60", "train.global_batch_size=32", "train.per_device_batch_size=32", "evaluate.enabled=false")
RATES = ("method.learning_rate=1e-7,5e-3", "train.lr_scheduler_type=constant", "train.warmup_steps=0")
WORDS = ("reward=length", "reward.length.words=8", "reward.length.slack=8", "dataset.rows=null")


@pytest.mark.learning
def test_the_mean_reward_of_its_samples_rises(tmp_path):
    """At a rate that moves the weights, beyond that of one that does not: by 0.13 to 0.15 with other seeds, +- 0.02."""
    done = alignzoo(tmp_path, "-m", *ONLINE, *LONG, *RATES, *WORDS, "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stderr
    still, learned = (
        sum(line["objective/scores"] for line in metrics(run)[-20:]) / 20
        for run in sorted((tmp_path / "sweep").glob("[0-9]*"))
    )
    assert learned > still + 0.08


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("method.num_generations=4", "method.num_generations=4 must be 2"),
        ("train.per_device_batch_size=1", "train.per_device_batch_size=1 must be even"),
        ("method.beta=[0]", "method.beta=[0] must be above 0"),
        ("reward=none", "method=online_ipo learns from rewards: add reward=NAME"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path, word, wanted):
    done = alignzoo(tmp_path, *ONLINE, word)
    assert done.returncode == 1
    assert wanted in done.stderr
