"""Generations on random weights: what they leave behind, what is cached, kills, and mistakes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import QUICK
from inprocess import Outcome, run
from omegaconf import OmegaConf

from alignzoo.system.checked_lines import CheckedLines
from alignzoo.system.files import hash_files

#: One prompt a batch, so that there are sixteen.
WORDS = (*QUICK, "+generate=pairs", "reward=length", "generate.allow_cut_off=true", "evaluate.batch_size=1")
FILES = ("train.jsonl", "samples.jsonl")


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def summary(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "generated.json").read_text()))


def contents(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "generated"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Outcome:
    done = run(tmp_path_factory.mktemp("pairs") / "run", *WORDS)
    assert done.code == 0, done.err
    return done


def test_each_prompts_best_answer_stands_against_its_worst(pairs: Outcome) -> None:
    samples = read(pairs.folder / "samples.jsonl")
    assert len(samples) == 16 * 4
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for sample in samples:
        by_prompt.setdefault(json.dumps(sample["prompt"]), []).append(sample)
    rows = read(pairs.folder / "train.jsonl")
    assert len(rows) > 8
    for row in rows:
        scores = {one["score"] for one in by_prompt[json.dumps(row["prompt"])]}
        assert (row["score_chosen"], row["score_rejected"]) == (max(scores), min(scores))
    tied = [some for some in by_prompt.values() if len({one["score"] for one in some}) == 1]
    assert len(rows) + len(tied) == 16


def test_the_manifest_says_how_the_rows_were_made(pairs: Outcome) -> None:
    found, rows, samples = summary(pairs.folder), *(read(pairs.folder / name) for name in FILES)
    counts, scores = found["counts"], found["scores"]
    assert (counts["prompts"], counts["answers"], counts["rows"]) == (16, 64, len(rows))
    assert counts["rows"] + counts["ties"] + counts["unfit"] == 16
    assert scores["mean"] == pytest.approx(sum(one["score"] for one in samples) / 64)
    assert scores["rejected"] < scores["mean"] < scores["chosen"]
    assert (found["scored_by"], found["reward"]["length"]["words"]) == ("reward", 50)
    wanted = {"samples": 4, "temperature": 1.0, "max_new_tokens": 8, "seed": 0, "dtype": "float32"}
    assert wanted.items() <= found["sampling"].items()
    assert Path(found["start"]["folder"]).name == "tiny-0"
    assert found["sha256"] == {name: hash_files([pairs.folder / name]) for name in FILES}
    assert f"generated: 16 prompts x 4 answers: {len(rows)} pairs" in pairs.out


def test_no_prompt_is_answered_that_is_held_out(pairs: Outcome) -> None:
    manifest = pd.read_parquet(pairs.folder / "data.parquet")
    held = set(manifest.loc[manifest["decision"] == "heldout", "id"])
    assert len(held) == 200
    assert {sample["id"].rpartition(".")[0] for sample in read(pairs.folder / "samples.jsonl")} == set(
        manifest.loc[manifest["decision"] == "train", "id"]
    )


def test_the_same_answers_come_from_the_cache_for_another_reward_and_a_copy_of_the_model(
    pairs: Outcome, tmp_path: Path
) -> None:
    model = tmp_path / "copy"
    shutil.copytree(summary(pairs.folder)["start"]["folder"], model)
    words = ("model.path=" + str(model), "reward.length.words=3", "reward.length.slack=3")
    done = run(tmp_path / "run", *WORDS, *words)
    assert done.code == 0, done.err
    found = summary(done.folder)
    assert (found["cost"]["batches"], found["cost"]["cached_batches"]) == (16, 16)
    before, after = (read(folder / "samples.jsonl") for folder in (pairs.folder, done.folder))
    assert [one["completion"] for one in before] == [one["completion"] for one in after]
    assert [one["score"] for one in before] != [one["score"] for one in after]


@pytest.mark.parametrize(
    "word", ["seed=1", "generate.temperature=0.5", "generate.max_new_tokens=7", "+model.weights_seed=1"]
)
def test_what_changes_the_answers_is_not_found_in_the_cache(pairs: Outcome, tmp_path: Path, word: str) -> None:
    word = word.removeprefix("+")
    done = run(tmp_path / "run", *WORDS, word, "dataset.rows=2")
    assert done.code == 0, done.err
    assert summary(done.folder)["cost"]["cached_batches"] == 0


class Stopped(BaseException):
    """Ends the process in the middle, as a signal would."""


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """End the sampling while its sixth batch is written, half of whose line is on the disk."""
    append, count = CheckedLines.append, iter(range(100))

    def torn(lines: CheckedLines, found: dict[str, Any]) -> None:
        append(lines, found)
        if next(count) == 5:
            text = lines.file.read_bytes()
            lines.file.write_bytes(text[:-40])
            raise Stopped

    monkeypatch.setattr(CheckedLines, "append", torn)
    return monkeypatch


def test_a_generation_that_was_stopped_goes_on_bit_for_bit(
    pairs: Outcome, own_cache: Path, stops: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        run(tmp_path / "run", *WORDS)
    (file,) = own_cache.iterdir()
    assert not (tmp_path / "run" / "generated.json").exists()
    stops.undo()
    stops.setenv("ALIGNZOO_CACHE", str(own_cache.parent))
    done = run(tmp_path / "run", *WORDS, "resume=auto")
    assert done.code == 0, done.err
    assert "resume: 5 of 16 batches of answers are in the cache" in done.out
    assert "is not what was written: that batch is sampled again" in done.out
    assert contents(done.folder) == contents(pairs.folder)
    assert len(file.read_text().splitlines()) == 5 + 1 + 11


def test_a_finished_generation_is_not_made_again(pairs: Outcome) -> None:
    done = run(pairs.folder, *WORDS, "resume=auto")
    assert (done.code, done.err) == (0, "")
    assert "holds the finished generation: nothing to do." in done.out
    done = run(pairs.folder, *WORDS)
    assert done.err.startswith(f"alignzoo: hydra.run.dir={pairs.folder} holds a finished run")


def test_good_answers_are_kept_alone(tmp_path: Path) -> None:
    words = [word for word in WORDS if word != "+generate=pairs"]
    done = run(tmp_path / "run", *words, "+generate=good")
    assert done.code == 0, done.err
    best: dict[str, float] = {}
    for one in read(done.folder / "samples.jsonl"):
        best[one["id"].rpartition(".")[0]] = max(one["score"], best.get(one["id"].rpartition(".")[0], 0.0))
    rows = read(done.folder / "train.jsonl")
    assert {row["id"] for row in rows} == best.keys()
    assert rows[0].keys() == {"id", "prompt", "completion"}
    assert summary(done.folder)["scores"]["chosen"] == pytest.approx(sum(best.values()) / 16)


LONGEST = """
from alignzoo import Judge, hookimpl


class Longest(Judge):
    '''The answer of more letters.'''

    name = "longest"

    def __call__(self, prompts, a, b):
        return [0.5 if len(x) == len(y) else float(len(x) > len(y)) for x, y in zip(a, b)]


@hookimpl
def alignzoo_judges():
    return [Longest]


@hookimpl
def alignzoo_config_packages():
    return ["fake_longest.conf"]
"""


def test_a_judge_can_score(tmp_path: Path, fake_package: Callable[..., None]) -> None:
    fake_package("fake_longest", LONGEST, {"judge/longest.yaml": "name: longest\n"})
    done = run(tmp_path / "run", *WORDS, "judge=longest", "generate.scored_by=judge")
    assert done.code == 0, done.err
    found = summary(done.folder)
    assert (found["scored_by"], found["judge"]["name"]) == ("judge", "longest")
    assert found["scores"]["mean"] == pytest.approx(0.5)
    rows = read(done.folder / "train.jsonl")
    assert len(rows) > 8
    for row in rows:
        texts = [row[side][0]["content"] for side in ("chosen", "rejected")]
        assert len(texts[0]) > len(texts[1])


UNREACHABLE = (
    *("generate.scored_by=judge", "judge=pairwise_lm", "judge.base_url=http://127.0.0.1:9/v1", "judge.model=m"),
    "judge.attempts=1",
)

MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "one answer": (
        ("generate.samples=1",),
        "generate.samples=1: keep=best_worst makes pairs, which need 2 answers or more.",
    ),
    "no spread": (
        ("reward=format",),
        "reward=format gives all 4 answers to a prompt the same score, for each of 2 prompts: ",
    ),
    "no scorer": (
        ("reward=none",),
        "generate.scored_by=auto: nothing scores the answers: add reward=NAME or judge=NAME.",
    ),
    "no judge": (
        ("generate.scored_by=judge",),
        "generate.scored_by=judge: nothing scores the answers: add judge=NAME.",
    ),
    "a judge that cannot be reached": (
        UNREACHABLE,
        "judge.base_url=http://127.0.0.1:9/v1: [Errno 111] Connection refused, 1 times in a row.",
    ),
    "a column that is not there": (
        ("reward=verifiable",),
        "reward=verifiable reads the column answer, which the dataset lacks",
    ),
    "no good score": (("generate.keep=all_good",), "generate.keep=all_good needs generate.least=SCORE"),
    "an unknown way": (
        ("generate.keep=best_wurst",),
        "generate.keep=best_wurst must be one of best_worst, all_pairs, best, all_good. Did you mean best_worst?",
    ),
    "an unknown key": (("+generate.sample=2",), "generate.sample: unknown key. Did you mean samples"),
    "a wrong type": (("generate.samples=many",), "generate.samples=many takes int."),
    "too few": (("generate.samples=0",), "generate.samples=0 must be at least 1."),
    "no temperature": (("generate.temperature=0",), "generate.temperature=0 must be above 0"),
    "all cut off": (
        ("generate.allow_cut_off=false",),
        "none of 8 answers ended within 8 tokens, so that none is chosen: raise",
    ),
    "nothing good": (("generate.least=7",), "no pair is left of 8 answers (0 ended, best score "),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_a_line_or_two(mistake: str, tmp_path: Path) -> None:
    words, told = MISTAKES[mistake]
    done = run(tmp_path / "run", *WORDS, "dataset.rows=2", *words)
    assert done.code == 1
    assert done.err.startswith(f"alignzoo: {told}")
    assert done.err.count("\n") <= 2
    assert not (tmp_path / "run" / "generated.json").exists()


def test_only_the_first_batch_is_sampled_for_a_judge_that_cannot_be_reached(own_cache: Path, tmp_path: Path) -> None:
    done = run(tmp_path / "run", *WORDS, *UNREACHABLE)
    assert done.code == 1
    (file,) = own_cache.iterdir()
    assert len(file.read_text().splitlines()) == 1


def test_a_key_without_its_group_names_the_group(tmp_path: Path) -> None:
    done = run(tmp_path / "run", *QUICK, "+generate.samples=2")
    assert (
        done.err
        == "alignzoo: generate is a group: add +generate=pairs or +generate=good; generate.samples=8 sets a key.\n"
    )


def test_a_text_without_a_prompt_cannot_be_answered(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": f"Story {number}."}) + "\n" for number in range(40)))
    done = run(tmp_path / "run", *WORDS, "dataset=local", f"dataset.path={file}")
    assert done.err.startswith("alignzoo: answers need prompts, and row row-")


def test_plain_texts_and_tools_come_through(tmp_path: Path) -> None:
    """A plain prompt is continued as text; a prompt with tools keeps them."""
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
    asked = {
        "text": [{"prompt": f"Count to {number}:"} for number in range(20)],
        "tools": [{"prompt": [{"role": "user", "content": f"Add {number}."}], "tools": tools} for number in range(20)],
    }
    for name, rows in asked.items():
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = [f"dataset.path={file}", "dataset=local", "dataset.rows=4", "reward.length.slack=500"]
        done = run(tmp_path / name, *WORDS, *words)
        assert done.code == 0, done.err
        made = read(done.folder / "train.jsonl")
        assert all(
            (row["prompt"], row.get("tools")) in [(one["prompt"], one.get("tools")) for one in rows] for row in made
        )
        assert {type(row["chosen"]) for row in made} == {str if name == "text" else list}


def test_the_run_folder_can_be_run_again(pairs: Outcome, tmp_path: Path) -> None:
    done = run(tmp_path / "again", "--config-dir", str(pairs.folder), "--config-name", "run")
    assert done.code == 0, done.err
    assert contents(done.folder) == contents(pairs.folder)
    assert OmegaConf.load(done.folder / "run.yaml").generate.samples == 4
