"""One damaged run folder costs its own place on the leaderboard: it is named with its reason, the others compared."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inprocess import call
from leaderboard_runs import lines, make_run, pairs

from alignzoo.report.leaderboard.board import read_leaderboard
from alignzoo.report.leaderboard.files import write_leaderboard
from alignzoo.report.leaderboard.table import make_frame, print_leaderboard
from alignzoo.runs.folder import Run

HISTORY = [{"step": number, "loss": 1.0 / number} for number in range(1, 4)]

Damage = Callable[[Path], object]


def change(name: str, **changes: Any) -> Damage:
    """Change values of a JSON file's mapping; None removes one."""

    def damage(folder: Path) -> None:
        found = {**json.loads((folder / name).read_text(encoding="utf-8")), **changes}
        kept = {key: value for key, value in found.items() if value is not None}
        (folder / name).write_text(json.dumps(kept), encoding="utf-8")

    return damage


def write(name: str, content: str | bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def change_answer(**changes: Any) -> Damage:
    """Change values of the second line of answers.jsonl."""

    def damage(folder: Path) -> None:
        found = (folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()
        found[1] = json.dumps({**json.loads(found[1]), **changes})
        (folder / "answers.jsonl").write_text("\n".join(found), encoding="utf-8")

    return damage


#: What was done to a run's folder -> how, and what is said of it.
DAMAGES: dict[str, tuple[Damage, str]] = {
    "a result without its numbers": (change("result.json", after=None), "it has no numbers of the model after"),
    "a result without the start's": (change("result.json", before={}), "its before lacks"),
    "a result that is a list": (write("result.json", "[1]"), "it holds a list and not the result of a run"),
    "half a result": (write("result.json", '{"after": {'), "result.json cannot be read: Expecting"),
    "a result in another encoding": (write("result.json", b"\xff\xfe{}"), "it is not written in UTF-8"),
    "a result nested too deeply": (write("result.json", "[" * 100_000), "it is nested too deeply"),
    "half a character in a result": (write("result.json", '{"method": "\\ud800"}'), "surrogates not allowed"),
    "a number that is text": (change("result.json", after={"margin": "1"}), "margin after is a text"),
    "a number that is none": (change("result.json", after={"margin": float("nan")}), "margin after is nan"),
    "a number of 400 digits": (change("result.json", after={"margin": 10**400}), "margin after is 1000"),
    "one end of an interval": (change("result.json", intervals={"margin": [1]}), "the interval of margin is not two"),
    "intervals that are a list": (change("result.json", intervals=[1]), "its intervals are a list"),
    "a cost that is a number": (change("result.json", cost=3), "its cost is 3"),
    "data that is a list": (change("result.json", data={"train": [1]}), "data.train is a list and not a text"),
    "an objective that is a mapping": (change("result.json", objective={}), "its objective is a mapping"),
    "a quote that does not close": (write("command.txt", "python -m alignzoo 'x"), "command.txt cannot be read: No"),
    "a command in another encoding": (write("command.txt", b"\xff"), "command.txt cannot be read: it is not written"),
    "a configuration that is a list": (write("run.yaml", "- 1\n"), "run.yaml cannot be read: it is not a mapping"),
    "a configuration that is not YAML": (write("run.yaml", "a: [1\nb: 2"), "run.yaml cannot be read: line 2: expected"),
    "a bool that PyYAML does not know": (write("run.yaml", "seed: !!bool x"), "run.yaml cannot be read: KeyError"),
    "an empty whole number": (write("run.yaml", "seed: !!int ''"), "run.yaml cannot be read: IndexError"),
    "a configuration within itself": (write("run.yaml", "a: &a {b: *a}"), "it is nested too deeply"),
    "half a character in a setting": (write("run.yaml", 'a: "\\ud800"'), "run.yaml cannot be read"),
    "keys that cannot be sorted": (write("run.yaml", "a: [{1: 2, b: 3}]"), "run.yaml cannot be read: TypeError"),
    "half an answer": (write("answers.jsonl", '{"id": "p0", "prom'), "answers.jsonl cannot be read: line 1: Untermin"),
    "answers in another encoding": (write("answers.jsonl", b"\xff\n"), "answers.jsonl cannot be read: it is not writ"),
    "an answer that is a number": (write("answers.jsonl", "3\n"), "line 1: it holds 3 and not a prompt"),
    "an answer without an id": (change_answer(id=None), "line 2: it has no id or no prompt"),
    "an answer without its sides": (change_answer(after=[1]), "line 2: it has no answer before or after"),
    "an answer that is no text": (change_answer(after={"text": 3, "tokens": 1, "ended": True}), "line 2: "),
    "an answer without likelihoods": (change_answer(before={}), "line 2: chosen is missing"),
    "no token in an answer": (change_answer(rejected_tokens=0), "line 2: rejected_tokens is 0"),
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two runs, before one of them is damaged."""
    folder = tmp_path_factory.mktemp("whole")
    make_run(folder / "0-dpo-m-d", "method=dpo method.beta=0.1 seed=0", lines(pairs(5, 8)), HISTORY)
    make_run(folder / "1-ipo-m-d", "method=ipo method.beta=0.3 seed=0", lines(pairs(3, 8)), HISTORY)
    return folder


@pytest.fixture
def sweep(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "sweep"))


@pytest.mark.parametrize("kind", DAMAGES)
def test_it_is_listed_as_failed_with_its_reason(sweep: Path, kind: str) -> None:
    damage, said = DAMAGES[kind]
    damage(sweep / "1-ipo-m-d")
    found = read_leaderboard([sweep])
    assert [row.method for row in found.rows] == ["dpo"]
    (failed,) = found.failed
    assert said in failed.reason
    assert failed.method == "ipo", "named by what can be read"
    assert len(failed.reason.splitlines()) == 1


def test_the_command_prints_and_writes_the_board_and_ends_with_1(sweep: Path) -> None:
    damage, said = DAMAGES["a result without its numbers"]
    damage(sweep / "1-ipo-m-d")
    done = call("report", str(sweep))
    assert (done.code, done.err) == (1, "")
    assert f"failed: ipo beta=0.3: result.json cannot be read: {said}.\n" in done.out
    assert "dpo beta=0.1" in done.out
    assert "<b>ipo" in (sweep / "leaderboard.html").read_text(encoding="utf-8")


def test_a_folder_that_nobody_may_look_into_is_named(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        pytest.skip("the superuser may look into every folder")
    (sweep / "1-ipo-m-d").chmod(0)
    try:
        (failed,) = read_leaderboard([sweep]).failed
    finally:
        (sweep / "1-ipo-m-d").chmod(0o700)
    assert failed.reason == "cannot be read: Permission denied"


def test_a_folder_whose_name_is_not_unicode_is_written(sweep: Path, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(sweep) + b"/2-kto-\xff"))
    make_run(odd, "method=kto seed=0", lines(pairs(4, 8)), HISTORY)
    (odd / "error.txt").write_text("lost", encoding="utf-8")
    write_leaderboard([sweep], tmp_path / "out")
    assert r"2-kto-\udcff" in (tmp_path / "out" / "leaderboard.csv").read_text(encoding="utf-8")


def test_a_result_brings_no_formula_into_a_spreadsheet_and_no_column_of_ours(sweep: Path, tmp_path: Path) -> None:
    change("result.json", method="=cmd|' /C calc'!A1", cost={"-1+1": 2.0, "rank": 0.5})(sweep / "1-ipo-m-d")
    assert write_leaderboard([sweep], tmp_path / "out").failed == []
    csv = pd.read_csv(tmp_path / "out" / "leaderboard.csv")
    assert csv["method"].tolist() == ["dpo", "'=cmd|' /C calc'!A1"]
    assert "'-1+1" in csv.columns
    assert csv["rank"].tolist() == [1, 2]
    assert csv["difference"].iloc[1] < 0, "a number"


def test_an_interval_that_its_value_is_outside_of_is_drawn(sweep: Path, tmp_path: Path) -> None:
    result = json.loads((sweep / "1-ipo-m-d" / "result.json").read_text())
    moved = {key: [high + 1, high + 2] for key, (_, high) in result["intervals"].items()}
    change("result.json", intervals=moved)(sweep / "1-ipo-m-d")
    assert write_leaderboard([sweep], tmp_path / "out").failed == []


def test_a_metric_that_is_no_number_draws_nothing(sweep: Path, tmp_path: Path) -> None:
    write("metrics.jsonl", '[1]\n{"step": "x", "loss": 1}\n{"loss": 2}\n{"step": 1, "loss": []}\n')(sweep / "1-ipo-m-d")
    assert write_leaderboard([sweep], tmp_path / "out").failed == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FILES = ("result.json", "command.txt", "run.yaml", "answers.jsonl", "metrics.jsonl", "error.txt", "multirun.yaml")


def paths(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the place of every value in ``tree``."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    below = [place for key, value in items for place in paths(value, (*path, key))]
    return [path, *below] if path else below


@st.composite
def damaged(draw: st.DrawFn, whole: dict[str, bytes]) -> tuple[str, bytes]:
    """Return a file of a run and what it holds now: any bytes, cut, or with a byte or value changed."""
    name = draw(st.sampled_from(FILES))
    content = whole.get(name, b"")
    kind = draw(st.sampled_from(("value", "value", "cut", "byte", "any")))
    if kind == "value" and name in ("result.json", "answers.jsonl", "metrics.jsonl"):
        rows = [json.loads(line) for line in content.decode().splitlines()]
        row = draw(st.integers(0, len(rows) - 1))
        *parents, last = draw(st.sampled_from(paths(rows[row])))
        place = rows[row]
        for parent in parents:
            place = place[parent]
        place[last] = draw(JSON)
        return name, "\n".join(map(json.dumps, rows)).encode()
    if kind == "any" or not content:
        return name, draw(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode(errors="replace")))
    at = draw(st.integers(0, len(content) - 1))
    return name, content[:at] + (bytes([draw(st.integers(0, 255))]) + content[at + 1 :] if kind == "byte" else b"")


@settings(
    max_examples=int(os.environ.get("ALIGNZOO_FUZZ", "200")),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_no_damage_takes_the_board(whole: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    before = {name: (whole / "1-ipo-m-d" / name).read_bytes() for name in FILES[:5]}
    name, content = data.draw(damaged(before))
    sweep = Path(shutil.copytree(whole, tmp_path_factory.mktemp("fuzz") / "sweep"))
    (sweep / "1-ipo-m-d" / name).write_bytes(content)
    found = read_leaderboard([sweep])
    assert "dpo" in [row.method for row in found.rows] or "dpo" in [run.method for run in found.runs]
    assert len(found.rows) + len(found.failed) == 2
    print_leaderboard(found)
    make_frame(found)
    assert Run(sweep / "1-ipo-m-d").history is not None
    shutil.rmtree(sweep.parent)
