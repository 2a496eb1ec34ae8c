"""``alignzoo compare``: what changed between answers, on the terminal, as JSON, and as a page in a real browser."""

from __future__ import annotations

import html
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM

from alignzoo.cli import run_command
from alignzoo.system.errors import UserError

LONG = "Sure! **Rain** may fall from a cloud:\n\n- one\n- two\n\nIt generally depends on the wind and on the season."
SHORT = "Rain falls when drops in a cloud grow heavy."
OTHER = "Rain falls when small drops in a cloud grow heavy."

browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to open the page with")


def seen(text: str, ended: bool = True) -> dict[str, Any]:
    measured = {"chosen": -20.0, "rejected": -30.0, "kl": 0.1, "kl_tokens": 9, "reward": None}
    return {"text": text, "tokens": len(text.split()), "ended": ended, **measured}


def make_run(folder: Path, texts: Sequence[str], method: str = "dpo", start: str = LONG, **data: str) -> Path:
    """Write a run folder whose answers to prompts p0, p1, ... are ``texts``."""
    folder.mkdir()
    for number, text in enumerate(texts):
        row = {"id": f"p{number}", "prompt": f"Why rain {number}?", "chosen_tokens": 9, "rejected_tokens": 20}
        row |= {"before": seen(start, ended=number % 2 == 0), "after": seen(text)}
        with (folder / "answers.jsonl").open("a") as stream:
            stream.write(json.dumps(row) + "\n")
    result = {"method": method, "objective": "preference_accuracy", "data": {"train": "t", "heldout": "h", **data}}
    (folder / "result.json").write_text(json.dumps({**result, "before": {}, "after": {}, "cost": {}}))
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def compared(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    def run(*words: str | Path) -> dict[str, Any]:
        run_command(["compare", *map(str, words), "--json"])
        report: dict[str, Any] = json.loads(capsys.readouterr().out)
        return report

    return run


Compared = Callable[..., dict[str, Any]]


def test_axes_have_values_changes_and_intervals(tmp_path: Path, compared: Compared) -> None:
    report = compared(make_run(tmp_path / "a", [SHORT] * 8))
    axes = {axis["key"]: axis for axis in report["axes"]}
    assert [value["value"] for value in axes["words"]["values"]] == [len(LONG.split()), 9]
    assert axes["words"]["changes"][0] is None
    assert axes["words"]["changes"][1]["value"] == 9 - len(LONG.split())
    assert axes["words"]["changes"][1]["sure"]
    ended = axes["ended"]["values"]
    assert [value["value"] for value in ended] == [0.5, 1.0]
    assert ended[0]["low"] == pytest.approx(0.215, abs=1e-3), "Wilson's interval for 4 of 8"
    for key in ("lists", "bold"):
        assert [value["value"] for value in axes[key]["values"]] == [1.0, 0.0]
    assert not axes["refusals"]["changes"][1]["sure"]


@pytest.mark.parametrize(("prompts", "sure"), [(1, False), (5, False), (6, True)])
def test_few_prompts_that_all_changed_alike_are_no_more_than_chance(
    tmp_path: Path, compared: Compared, prompts: int, sure: bool
) -> None:
    """Five equal signs come by chance in one of sixteen cases; neither a change nor a win rate of them is sure."""
    report = compared(make_run(tmp_path / "a", [SHORT] * prompts), "--judge", "rule")
    assert next(axis for axis in report["axes"] if axis["key"] == "words")["changes"][1]["sure"] is sure
    assert report["wins"][0]["won"] == prompts
    assert report["wins"][0]["sure"] is sure


def test_prompts_are_joined_by_id_and_the_biggest_change_comes_first(tmp_path: Path, compared: Compared) -> None:
    a = make_run(tmp_path / "a", [SHORT, SHORT, SHORT, SHORT])
    b = make_run(tmp_path / "b", [SHORT, OTHER, "Nothing alike"], "ipo")
    report = compared(a, b)
    assert [row["id"] for row in report["prompts"]] == ["p2", "p1", "p0"]
    assert [[answer["text"] for answer in row["answers"]] for row in report["prompts"]][1] == [LONG, SHORT, OTHER]
    assert report["prompts"][1]["answers"][2]["pieces"][1] == [" ", False]
    assert [text for text, changed in report["prompts"][1]["answers"][2]["pieces"] if changed] == ["small"]
    assert [column["name"] for column in report["columns"]] == ["start", "A", "B"]
    assert report["notes"] == ["Only the 3 prompts that all runs answered are compared, of up to 4."]


def test_runs_on_other_rows_are_named(tmp_path: Path, compared: Compared) -> None:
    runs = make_run(tmp_path / "a", [SHORT]), make_run(tmp_path / "b", [SHORT], "ipo", start=OTHER, train="u")
    assert compared(*runs)["notes"] == [
        "B trained on other rows or tokens than A: python -m alignzoo manifest names them.",
        "B began from other completions than A on 1 prompts: the start shown is A's.",
    ]


def test_wins_against_the_start_and_between_two(tmp_path: Path, compared: Compared) -> None:
    a, b = make_run(tmp_path / "a", [SHORT, SHORT, ""]), make_run(tmp_path / "b", [OTHER, SHORT, SHORT])
    wins = compared(a, b, "--judge", "rule")["wins"]
    assert [(w["of"], w["against"], w["won"], w["tied"], w["lost"]) for w in wins] == [
        ("A", "start", 2, 0, 1),
        ("B", "start", 3, 0, 0),
        ("A", "B", 1, 1, 1),
    ]
    assert wins[2]["value"] == 0.5
    other = compared(a, b, "--judge", "rule", "--set", "judge.least=10")["wins"]
    assert [w["won"] for w in other] == [0, 1, 0]


def test_two_judges_and_how_far_they_agree(
    tmp_path: Path, compared: Compared, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second rule takes answers of fewer than ten words, as all of A's are, for incomplete."""
    run = make_run(tmp_path / "a", [SHORT] * 7 + [LONG])
    words = (run, "--judge", "rule", "--judge", "rule", "--set", "judge.second.least=10")
    report = compared(*words)
    assert [judge["name"] for judge in report["judges"]] == ["rule 1", "rule 2"]
    assert [judge["least"] for judge in report["judges"]] == [8, 10]
    assert [(w["judge"], w["of"], w["won"], w["tied"], w["lost"]) for w in report["wins"]] == [
        ("rule 1", "A", 7, 1, 0),
        ("rule 2", "A", 0, 1, 7),
    ]
    assert report["wins"][0]["controlled"]["low"] <= report["wins"][0]["controlled"]["value"]
    (agreement,) = report["agreement"]
    assert (agreement["of"], agreement["against"], agreement["equal"], agreement["verdicts"]) == ("A", "start", 1, 8)
    assert agreement["kappa"] == pytest.approx((1 / 8 - 1 / 64) / (1 - 1 / 64)), "by chance both tie on 1 of 64"
    page = tmp_path / "page.html"
    assert run_command(["compare", *map(str, words), "--html", str(page)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "judge rule 2: A beats start on 6%" in out
    assert "A against start: The two judges agree on 1 of 8 verdicts: Cohen's kappa 0.11" in out
    assert (
        "A against start: The first judge prefers the run more than the second does on 7 prompts and less on 0" in out
    )
    assert "A beats start (rule 1)" in out
    assert "The two judges agree on 1 of 8 verdicts" in page.read_text()


def test_a_person_who_stops_keeps_what_was_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "a", [SHORT] * 3)
    monkeypatch.setattr(sys, "stdin", io.StringIO("t\nq\n"))
    assert run_command(["compare", str(run), "--judge", "person", "--html", str(tmp_path / "page.html")]) == 1
    out = capsys.readouterr().out
    assert "A beats start on 50%" in out
    assert "1 of 3 verdicts are cached" in out
    assert "1 of 3 verdicts are cached" in (tmp_path / "page.html").read_text()


def test_the_terminal_prints_texts_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "a", ["[bold]not markup[/bold] [/red]", "x" * 300, ""])
    assert run_command(["compare", str(run), "--rows", "3"]) == 0
    out = capsys.readouterr().out
    assert "[bold]not markup[/bold]" in out
    assert out.count("x") >= 300, "folded, and not cut"
    assert "(empty)" in out
    assert run_command(["compare", str(run), "--rows", "1"]) == 0
    assert "1 of 3 prompts" in capsys.readouterr().out


@pytest.mark.parametrize(
    "kind", ["no result", "half a result", "no answers", "half an answer", "no completion", "scores"]
)
def test_a_run_that_cannot_be_read_is_listed_and_the_others_are_compared(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, c = (make_run(tmp_path / name, [SHORT]) for name in "abc")
    answers = (b / "answers.jsonl").read_text()
    file, content, told = {
        "no result": ("result.json", None, "is not a finished run: it has no result.json"),
        "half a result": ("result.json", "{", "result.json cannot be read: Expecting property name"),
        "no answers": ("answers.jsonl", None, "has no answers.jsonl"),
        "half an answer": ("answers.jsonl", answers[:50], "answers.jsonl cannot be read: line 1"),
        "no completion": ("answers.jsonl", answers.replace('"text"', '"txt"'), "a line lacks a completion"),
        "scores": ("answers.jsonl", answers.replace('"text"', '"chosen_score": 1, "rejected_score": 0, "t"'), "scores"),
    }[kind]
    (b / file).unlink() if content is None else (b / file).write_text(content)
    page = tmp_path / "page.html"
    assert run_command(["compare", *map(str, (a, b, c)), "--json", "--html", str(page)]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [column["folder"] for column in report["columns"]] == [None, str(a), str(c)]
    (failed,) = report["failed"]
    assert (failed["folder"], told in failed["reason"]) == (str(b), True)
    assert f"failed: {b}" in page.read_text()
    assert run_command(["compare", str(a), str(b)]) == 1
    assert f"failed: {b}: " in capsys.readouterr().out
    with pytest.raises(UserError, match=re.escape(told)) as error:
        run_command(["compare", str(b)])
    assert len(str(error.value).splitlines()) == 1


def test_ten_prompts_are_shown_whole_and_the_axes_by_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "a", [f"{SHORT} {number}" for number in range(10)])
    assert run_command(["compare", str(run)]) == 0
    out = capsys.readouterr().out
    assert all(f"Why rain {number}?" in out for number in range(10))
    assert "of 10 prompts" not in out
    assert re.search(r"^conciseness +words per completion", out, re.MULTILINE)


def test_the_help_says_what_the_rule_judges(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["compare", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "rule (the shorter of two complete answers)" in text
    assert "The judge rule is conciseness again" in text


@pytest.mark.parametrize("kind", ["nothing", "no shared prompt"])
def test_folders_that_cannot_be_compared(tmp_path: Path, kind: str) -> None:
    a, b = make_run(tmp_path / "a", [SHORT]), make_run(tmp_path / "b", [SHORT])
    if kind == "nothing":
        shutil.rmtree(b)
    else:
        (b / "answers.jsonl").write_text((b / "answers.jsonl").read_text().replace('"p0"', '"q0"'))
    told = {"nothing": "not a finished run: the folder does not exist", "no shared prompt": "share no held-out prompt"}
    with pytest.raises(UserError, match=told[kind]) as error:
        run_command(["compare", str(a), str(b)])
    assert len(str(error.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--rows=-1"], "Invalid value for '--rows': -1 is not in the range x>=0"),
        (["--set", "judge.least=1"], "--set needs --judge"),
        (["--judge", "rule", "--set", "least=1"], "--set takes judge.KEY=VALUE"),
        (["--judge", "rule"] * 3, "--judge can be given twice at most"),
    ],
)
def test_words_that_cannot_work(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = run_command(["compare", "a", *words])
    assert (code, told in capsys.readouterr().err) == (2, True)


EVIL = "<script>document.title='broken'</script> & <b>bold</b>"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    runs = make_run(tmp_path / "a", [SHORT, SHORT, EVIL]), make_run(tmp_path / "b", [SHORT, OTHER, SHORT], "<i>ipo</i>")
    assert (
        run_command(
            ["compare", *map(str, runs), "--judge", "rule", "--rows", "0", "--html", str(tmp_path / "page.html")]
        )
        == 0
    )
    return tmp_path / "page.html"


def test_the_page_needs_no_network(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"(?:src|href)=|https?://|@import|url\(|fetch\(", text)
    assert "prefers-color-scheme: dark" in text
    assert EVIL not in text
    assert html.escape(EVIL).replace("&#x27;", "&#39;") in text


def dom(page: Path, script: str = "") -> str:
    """Open the page in the browser, run ``script`` in it, and return its document."""
    if script:
        page.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=1000", "--dump-dom"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def prompts(document: str) -> list[str]:
    return re.findall(r"<h3>Why rain (\d)\?</h3>", document)


@browser
def test_the_page_in_a_browser(page: Path) -> None:
    document = dom(page)
    assert "broken" not in str(re.search(r"<title>.*</title>", document))
    assert prompts(document) == ["2", "1", "0"]
    assert re.findall(r"<mark>(.*?)</mark>", document)[-1] == "small"
    assert "A against B" in document


@browser
@pytest.mark.parametrize(
    ("order", "wanted"), [("change", "210"), ("-change", "012"), ("longer", "210"), ("-w0", "201"), ("w0", "102")]
)
def test_the_page_is_sorted(page: Path, order: str, wanted: str) -> None:
    found = "".join(prompts(dom(page, f"order.value = '{order}'; order.onchange();")))
    if order in ("w0", "-w0"):  # one prompt is lost, two are won
        assert found.index("2") == wanted.index("2")
    else:
        assert found == wanted


@browser
def test_the_page_is_searched(page: Path) -> None:
    document = dom(page, "find.value = 'SMALL drops'; find.oninput();")
    assert "1 prompts" in document
    assert len(re.findall(r"<article[^>]* hidden", document)) == 2
