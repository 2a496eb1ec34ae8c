"""``alignzoo check``: its numbers on data made by hand, its page, its exit codes, and that a training says the same."""

from __future__ import annotations

import html.parser
import json
import re
import subprocess
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import CHROMIUM
from conftest import QUICK
from datasets import Dataset
from inprocess import call, run

from alignzoo import DataFormat, UserError, cli
from alignzoo.cli.check import check
from alignzoo.config.compose import compose
from alignzoo.data.findings import Finding, Level, inspect
from alignzoo.data.prepare import Prepared
from alignzoo.data.summary import EXAMPLES

Row = dict[str, Any]
Report = dict[str, Any]


NOTHING_HELD_OUT = "dataset.heldout.fraction=0"


def tokens(count: int, token: str = "<|endoftext|>") -> str:
    """Return a text of so many tokens of the model `tiny`; an answer gets one more, at which generation stops."""
    return token * count


OTHER = "<|im_start|>"  #: a token that `tokens` does not repeat unless told to


def topic(number: int) -> str:
    """Return one of a thousand words that differ in letters."""
    return "".join(chr(ord("a") + int(digit)) for digit in f"{number:03d}")


def pair(number: int, **more: Any) -> Row:
    """Return one of a thousand pairs that differ in all texts and are equally long."""
    name = topic(number)
    return {"prompt": f"Tell me about {name}.", "chosen": f"good {name}", "rejected": f"poor {name}", **more}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder: a page is written into it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(rows: Iterable[Row], name: str = "rows.jsonl") -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def report(rows: Iterable[Row], *overrides: str) -> Report:
    """Return the report on these rows; none is held out unless the overrides say so."""
    path = f"dataset.path={write(rows)}"
    return check(compose(["model=tiny", "dataset=local", path, NOTHING_HELD_OUT, *overrides]))


def found(report: Report, name: str) -> Report:
    """Return the one finding of this check."""
    (finding,) = [finding for finding in report["findings"] if finding["check"] == name]
    return dict(finding)


def checks(report: Report) -> set[str]:
    return {finding["check"] for finding in report["findings"]}


# --- Counts --------------------------------------------------------------------------------------------------------


def test_rows_and_reasons_are_counted() -> None:
    rows = [pair(n) for n in range(20)]
    rows[3] |= {"chosen": tokens(200)}
    rows[7] |= {"chosen": rows[7]["rejected"]}
    rows[8] |= {"chosen": None}
    made = report(rows, "dataset.rows=15", "train.max_length=100", "dataset.bad_rows=drop")
    assert made["rows"] == {"read": 20, "train": 15, "dropped": 5}
    assert made["reasons"] == {
        "chosen equals rejected": 1,
        "chosen is null": 1,
        "longer than train.max_length=100": 1,
        "beyond dataset.rows or dataset.heldout.rows": 2,
    }
    assert made["limit"] == {"max_length": 100, "costs": 1}
    assert made["layout"] == "pairs (preference): chosen, prompt, rejected"
    assert (made["dataset"], made["method"], made["model"]) == ("local", "dpo", "tiny")


def test_what_is_not_read_is_named_for_the_method() -> None:
    """Rewards read the columns beside a prompt; other methods read none."""
    rows = [pair(n, source="web", level=n) for n in range(8)]
    assert report(rows)["unread"] == ["not read: level, source"]
    assert report(rows, "method=grpo", "reward=length")["unread"] == ["for rewards: level, source"]


def test_quantiles_of_lengths() -> None:
    """101 pairs: the n-th has n + 1 tokens in the prompt, 2 in the chosen answer, 3 or 4 in the rejected."""
    answers = [{"chosen": tokens(1, OTHER), "rejected": tokens(2 + (n > 50), OTHER)} for n in range(101)]
    rows = [{"prompt": tokens(n + 1), **answer} for n, answer in enumerate(answers)]
    made = report(rows, "dataset.layout=pairs")
    shares = ["0%", "25%", "50%", "75%", "90%", "95%", "99%", "100%"]
    assert made["quantiles"] == {
        "prompt": dict(zip(shares, (1, 26, 51, 76, 91, 96, 100, 101), strict=True)),
        "chosen": dict.fromkeys(shares, 2),
        "rejected": dict(zip(shares, (3, 3, 3, 4, 4, 4, 4, 4), strict=True)),
        "prompt and answer": dict(zip(shares, (4, 29, 54, 80, 95, 100, 104, 105), strict=True)),
    }
    assert made["lengths"]["prompt"] == list(range(1, 102))


@pytest.mark.parametrize(("end", "told"), [("", True), ("<|im_end|>", False), ("<|im_end|>\n", False)])
def test_a_template_that_ends_no_answer_is_noted(end: str, told: bool) -> None:
    turn = "{% for m in messages %}{{ m.role }}: {{ m.content }}" + end + "{% endfor %}"
    Path("template.jinja").write_text(turn + "{% if add_generation_prompt %}assistant: {% endif %}")
    overrides = ("dataset.chat=true", f"model.chat_template={Path('template.jinja').absolute()}")
    made = report([pair(n) for n in range(8)], *overrides)
    assert [f["text"].partition(": ")[2] for f in made["findings"] if f["check"] == "missing EOS"] == [
        "<|im_end|> is appended to each"
    ] * told


def test_rows_that_cannot_be_read_have_no_length() -> None:
    """Those left out for their length do have one: it tells what train.max_length would keep them."""
    rows = [pair(n) for n in range(8)]
    rows[2] |= {"chosen": None}
    rows[5] |= {"chosen": tokens(200)}
    made = report(rows, "train.max_length=100")
    assert made["rows"]["dropped"] == 2
    assert len(made["lengths"]["prompt and answer"]) == 7
    assert made["quantiles"]["prompt and answer"]["0%"] > 0
    assert made["quantiles"]["prompt and answer"]["100%"] > 200
    assert len(made["lengths"]["chosen"]) == 6


def test_fine_data_is_fine() -> None:
    made = report([pair(n) for n in range(40)], "dataset.heldout.fraction=0.2")
    assert made["verdict"] == "fine", made["findings"]
    assert checks(made) == {"length bias"}
    assert found(made, "length bias")["level"] == "note"
    assert made["rows"]["train"] + made["rows"]["heldout"] == 40


def test_nothing_held_out_is_a_warning() -> None:
    made = report([pair(n) for n in range(4)])
    assert found(made, "held-out rows")["level"] == "warning"
    assert made["verdict"] == "warnings"


# --- Duplicates, overlap, leaks ------------------------------------------------------------------------------------


def test_duplicates_are_counted_without_their_first() -> None:
    rows = [pair(n) for n in range(6)]
    made = report([*rows, rows[0], rows[0], rows[4]])
    finding = found(made, "duplicates")
    assert (finding["level"], finding["text"]) == ("warning", "3 rows repeat an earlier one")
    assert (finding["count"], finding["rows"]) == (3, [7, 8, 9])


def test_another_answer_to_the_same_prompt_is_no_duplicate() -> None:
    made = report([pair(0), pair(0, chosen="another"), pair(0, rejected="another")])
    assert not checks(made) & {"duplicates", "near-duplicates"}


def test_near_duplicates_differ_in_case_digits_punctuation_or_blanks() -> None:
    prompts = ["What is 2 + 3?", "what is 4+5", "WHAT  IS: 7", "What was 2 + 3?", "What is 2 + 3?", "Größe?", "GRÖSSE"]
    rows = [pair(n, prompt=prompt) for n, prompt in enumerate(prompts)]
    finding = found(report(rows), "near-duplicates")
    assert finding["rows"] == [2, 3, 7]
    assert finding["text"] == "3 prompts equal an earlier one but for case, digits, punctuation or blanks"


def test_five_rows_are_named_and_all_are_counted() -> None:
    finding = found(report([pair(0)] * 9), "duplicates")
    assert finding["count"] == 8
    assert finding["rows"] == [2, 3, 4, 5, 6]
    assert str(Finding(**finding)) == "8 rows repeat an earlier one (rows 2, 3, 4, 5, 6 ...)"


def test_training_prompts_near_a_held_out_one() -> None:
    """Equal and near-equal prompts are left out of the training rows; those with other digits are reported."""
    held = write([pair(100, prompt="What is salt?"), pair(101, prompt="Why?")], "held.jsonl")
    rows = [pair(0), pair(1, prompt="what is SALT ?"), pair(2, prompt="Why?"), pair(3, prompt="Who?")]
    rows.append(pair(4, prompt="What is salt 2?"))
    made = report(rows, f"dataset.heldout.path={held}")
    finding = found(made, "train/held-out overlap")
    assert (finding["level"], finding["count"], finding["rows"]) == ("warning", 1, [5])
    assert made["rows"] == {"read": 7, "train": 3, "heldout": 2, "dropped": 2}
    assert made["reasons"] == {"its prompt is held out": 1, "a near-equal prompt is held out": 1}


def test_no_overlap_by_prompts_without_letters() -> None:
    held = write([pair(100, prompt="2 + 2?")], "held.jsonl")
    assert "train/held-out overlap" not in checks(report([pair(0, prompt="3 + 3?")], f"dataset.heldout.path={held}"))


def test_leaked_prompts() -> None:
    asked = "Why is the sky blue today?"
    leaks = pair(1, prompt=asked, chosen=f"  {asked} Because of scattering.")
    short = pair(2, prompt="Salt", chosen="Salt is sodium chloride.")
    finding = found(report([pair(0), leaks, short, pair(3)]), "prompt in answer")
    assert (finding["level"], finding["count"], finding["rows"]) == ("warning", 1, [2])
    assert finding["text"].startswith("1 chosen answers begin with their prompt")


# --- Lengths, refusals, scripts ------------------------------------------------------------------------------------


def of_lengths(lengths: Iterable[tuple[int, int]]) -> list[Row]:
    """Return pairs whose answers have these tokens, and are never equal."""
    return [pair(n, chosen=tokens(a), rejected=tokens(b, OTHER)) for n, (a, b) in enumerate(lengths)]


@pytest.mark.parametrize(
    ("longer", "shorter", "equal", "level", "text"),
    [
        (7, 2, 1, "warning", "longer answer is chosen in 70% of the pairs (chosen 5 tokens on average, rejected 4)"),
        (6, 2, 2, "note", "longer answer is chosen in 60% of the pairs (chosen 5 tokens on average, rejected 4)"),
        (1, 8, 1, "warning", "shorter answer is chosen in 80% of the pairs (chosen 4 tokens on average, rejected 6)"),
        (0, 0, 10, "note", "longer answer is chosen in 0% of the pairs (chosen 4 tokens on average, rejected 4)"),
    ],
)
def test_length_bias(longer: int, shorter: int, equal: int, level: str, text: str) -> None:
    made = report(of_lengths([(5, 3)] * longer + [(3, 5)] * shorter + [(3, 3)] * equal))
    assert made["rows"]["train"] == 10
    finding = found(made, "length bias")
    assert finding["level"] == level
    assert finding["text"].removesuffix(": a method may learn length and nothing else") == f"the {text}"


@pytest.mark.parametrize(
    ("column", "text", "name"),
    [
        ("chosen", "I'm sorry, but I cannot help with that.", "refusals"),
        ("rejected", "As an AI language model I have no opinion.", "refusals"),
        ("chosen", "盐是一种化合物。", "answers in another script than Latin"),
        ("rejected", "Соль: хлорид натрия, NaCl.", "answers in another script than Latin"),
    ],
)
def test_skew(column: str, text: str, name: str) -> None:
    """Two of twenty answers of one side: 10 % against none."""
    rows = [pair(n) for n in range(20)]
    rows[4] |= {column: f"{text} 1"}
    rows[9] |= {column: f"{text} 2"}
    finding = found(report(rows), name)
    assert finding["level"] == "warning"
    shares = ("10.0%", "0.0%") if column == "chosen" else ("0.0%", "10.0%")
    assert finding["text"] == f"{name}: {shares[0]} of the chosen, {shares[1]} of the rejected answers"


def test_what_both_sides_have_is_a_note() -> None:
    rows = [pair(n) for n in range(20)]
    rows[4] |= {"chosen": "Sorry, no: one.", "rejected": "Sorry, no: two."}
    assert found(report(rows), "refusals")["level"] == "note"


def test_a_refusal_that_is_only_quoted_is_none() -> None:
    rows = [pair(n) for n in range(4)]
    rows[0] |= {"chosen": 'He said: "I\'m sorry."'}
    assert "refusals" not in checks(report(rows))


def test_a_text_half_in_another_script_is_none() -> None:
    rows = [pair(n) for n in range(4)]
    rows[0] |= {"chosen": "Соль: NaCl."}
    assert "answers in another script than Latin" not in checks(report(rows))


# --- KTO's labels --------------------------------------------------------------------------------------------------


def marked(good: int, bad: int) -> list[Row]:
    labels = [True] * good + [False] * bad
    return [{"prompt": pair(n)["prompt"], "completion": f"answer {n}", "label": y} for n, y in enumerate(labels)]


def label_finding(good: int, bad: int, desirable: float = 1.0, undesirable: float = 1.0) -> Finding:
    """Return the finding about labels, without reading a file."""
    text, count = json.dumps([{"role": "text", "content": "?"}]), good + bad
    rows = Dataset.from_dict(
        {
            "row": range(count),
            "heldout_key": range(count),
            **{name: [text] * count for name in ("prompt", "completion")},
            **{f"{name}_ids": [[1]] * count for name in ("prompt", "completion")},
            "label": [True] * good + [False] * bad,
        }
    )
    manifest = pd.DataFrame({"row": range(count), "decision": "train", "reason": "", "tokens": range(count)})
    data = Prepared(DataFormat.UNPAIRED, rows, rows.select([]), manifest, None)  # type: ignore[arg-type]
    (finding,) = [one for one in inspect(data, (desirable, undesirable)) if one.check == "labels"]
    return finding


@pytest.mark.parametrize(
    ("good", "bad", "weights", "ratio", "level"),
    [
        (10, 10, (1.0, 1.0), "1.00", "note"),
        (12, 9, (1.0, 1.0), "1.33", "note"),
        (10, 11, (1.0, 1.0), "0.91", "warning"),
        (15, 11, (1.0, 1.0), "1.36", "warning"),
        (10, 20, (2.0, 1.0), "1.00", "note"),
        (10, 20, (1.0, 0.4), "1.25", "note"),
        (10, 10, (2.0, 1.0), "2.00", "warning"),
    ],
)
def test_ratio_of_labels(good: int, bad: int, weights: tuple[float, float], ratio: str, level: str) -> None:
    finding = label_finding(good, bad, *weights)
    assert finding.level == level
    assert finding.text.startswith(
        f"{good} good and {bad} bad answers; desirable x good over undesirable x bad is {ratio}"
    )


SUGGESTION = re.compile(r"set method\.(desirable|undesirable)_weight=(\d+\.\d+)$")


def suggested(finding: Finding, weights: dict[str, float]) -> dict[str, float]:
    """Return the weights after doing what the finding says."""
    which, value = SUGGESTION.search(finding.text).groups()  # type: ignore[union-attr]
    return weights | {which: float(value)}


@pytest.mark.parametrize(
    ("good", "bad", "desirable", "undesirable"),
    [
        (20, 10, 1.0, 1.0),
        (10, 20, 1.0, 1.0),
        (40, 10, 1.0, 1.0),
        (10, 10, 2.0, 1.0),
        (10, 10, 1.0, 2.0),
        (30, 10, 1.0, 1.0),
        (70, 10, 1.0, 1.0),
        (900, 1, 1.0, 1.0),
        (30, 20, 1.0, 1.0),
        (1, 600, 1.0, 1.0),
        (7, 12, 1.0, 1.0),
        (100, 7, 0.56, 0.3),
        (1, 90_000, 0.1, 7.0),
    ],
)
def test_the_suggested_weight_brings_the_ratio_into_range(
    good: int, bad: int, desirable: float, undesirable: float
) -> None:
    weights = {"desirable": desirable, "undesirable": undesirable}
    finding = label_finding(good, bad, **weights)
    assert finding.level == Level.WARNING
    weights = suggested(finding, weights)
    desired, undesired = (Fraction(str(weights[name])) for name in ("desirable", "undesirable"))
    assert 1 <= desired * good / (undesired * bad) <= Fraction(4, 3)
    assert label_finding(good, bad, **weights).level == Level.NOTE


@pytest.mark.parametrize("weights", [(0.0, 1.0), (1.0, 0.0), (1.0, -1.0)])
def test_weights_that_leave_a_label_out_are_a_warning(weights: tuple[float, float]) -> None:
    finding = label_finding(20, 10, *weights)
    assert finding.level == Level.WARNING
    assert "must be above 0" in finding.text


def test_the_suggested_weight_works_as_an_override() -> None:
    rows = marked(20, 10)
    warned = found(report(rows, "method=kto"), "labels")
    assert warned["text"].endswith("for KTO it should be 1 to 1.33: set method.desirable_weight=0.50")
    override = warned["text"].rsplit("set ", 1)[1]
    noted = found(report(rows, "method=kto", override), "labels")
    assert noted["level"] == "note"
    assert noted["text"] == "20 good and 10 bad answers; desirable x good over undesirable x bad is 1.00"


def test_one_label_only_is_a_warning_for_methods_that_can_use_it() -> None:
    finding = found(report(marked(4, 0), "method=sft"), "labels")
    assert finding["level"] == "warning"
    assert finding["text"] == "all 4 answers have one label: KTO needs good and bad ones"


# --- Bad rows and the exit code ------------------------------------------------------------------------------------


@pytest.fixture
def called(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run ``alignzoo check ...`` in this process: exit code, output, errors."""

    def run_check(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main(["check", "model=tiny", "dataset=local", *words])
        return int(end.value.code or 0), *capsys.readouterr()

    return run_check


Called = Callable[..., tuple[int, str, str]]


def broken() -> list[Row]:
    rows = [pair(n) for n in range(12)]
    rows[2] |= {"chosen": rows[2]["rejected"]}
    rows[5] |= {"rejected": ""}
    rows[9] |= {"chosen": rows[9]["rejected"]}
    return rows


def test_bad_rows_are_errors_with_their_numbers(called: Called) -> None:
    code, out, _ = called(f"dataset.path={write(broken())}")
    assert code == 1
    lines = out.splitlines()
    assert "error: 2 rows (16.7%) are left out: chosen equals rejected (rows 3, 10)" in lines
    assert "error: 1 rows (8.3%) are left out: rejected is empty (rows 6)" in lines
    assert "verdict: errors: a training would stop" in out


def test_bad_rows_are_warnings_where_they_are_dropped(called: Called) -> None:
    code, out, _ = called(f"dataset.path={write(broken())}", "dataset.bad_rows=drop")
    assert code == 0
    assert "warning: 2 rows (16.7%) are left out: chosen equals rejected (rows 3, 10)" in out.splitlines()
    assert "error" not in out
    assert "verdict: warnings: " in out


def test_long_rows_are_warnings_either_way(called: Called) -> None:
    rows = [pair(n) for n in range(10)]
    rows[4] |= {"chosen": tokens(80)}
    for rule in ("stop", "drop"):
        code, out, _ = called(f"dataset.path={write(rows)}", f"dataset.bad_rows={rule}", "train.max_length=60")
        assert code == 0
        assert "warning: 1 rows (10.0%) are left out: longer than train.max_length=60 (rows 5)" in out.splitlines()


def test_bad_held_out_rows_are_errors(called: Called) -> None:
    held = write([pair(100), pair(101, chosen=None)], "held.jsonl")
    code, out, _ = called(f"dataset.path={write(map(pair, range(8)))}", f"dataset.heldout.path={held}")
    assert code == 1
    assert "error: 1 rows (10.0%) are left out: chosen is null (rows 2)" in out.splitlines()


def test_a_mistake_is_one_line_and_exit_code_1(called: Called) -> None:
    said = f"alignzoo: dataset.path=nothing.jsonl: no such file. Looked in {Path.cwd()}.\n"
    assert called("dataset.path=nothing.jsonl") == (1, "", said)


@pytest.mark.parametrize("words", [("--most", "3"), ("dataset.pth=rows.jsonl",), ("method=dpoo",)], ids=" ".join)
def test_unknown_words_are_refused(called: Called, words: tuple[str, ...]) -> None:
    code, out, err = called(f"dataset.path={write([pair(0)])}", *words)
    assert code in (1, 2)
    assert out == ""
    assert "Traceback" not in err


# --- JSON ----------------------------------------------------------------------------------------------------------


def test_json_is_all_that_is_printed(called: Called, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where rows are read for the first time, with a progress bar."""
    monkeypatch.setenv("ALIGNZOO_CACHE", str(folder / "cache"))
    code, out, _ = called(f"dataset.path={write(broken())}", "--json")
    assert code == 1
    assert out.startswith("{\n")
    assert out.endswith("}\n")


def test_json_holds_the_report_and_no_page_is_written(called: Called, folder: Path) -> None:
    _, out, _ = called(f"dataset.path={write(broken())}", "--json")
    told = json.loads(out)
    assert told["verdict"] == "errors"
    assert told["rows"]["read"] == 12
    assert [f["rows"] for f in told["findings"] if f["level"] == "error"] == [[3, 10], [6]]
    assert told["quantiles"].keys() == {"prompt", "chosen", "rejected", "prompt and answer"}
    assert [path.name for path in folder.iterdir()] == ["rows.jsonl"]


def test_the_command_prints_json_alone() -> None:
    done = call("check", "model=tiny", "dataset=local", f"dataset.path={write([pair(0)] * 3)}", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["findings"][0]["check"] == "duplicates"


@pytest.mark.parametrize("method", ["dpo", "ipo", "orpo", "kto", "grpo", "sft"])
def test_every_method_has_a_report(method: str) -> None:
    made = report([pair(n) for n in range(8)], f"method={method}", *(["reward=length"] if method == "grpo" else []))
    rows = 16 if method == "kto" else 8
    assert made["plan"].startswith(f"{rows} rows, ")
    assert ("at most" in made["plan"]) == (method == "grpo")
    converted = made["conversion"]
    assert (converted is None) == (method in ("dpo", "ipo", "orpo"))


# --- The page ------------------------------------------------------------------------------------------------------

HOSTILE = '<script>alert("x")</script><img src=http://example.com/x.png onerror=alert(1)> & </pre>'


class Page(html.parser.HTMLParser):
    """What a browser would fetch or run, and what it would show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.text += " " if tag == "td" else ""  # as a browser sets cells apart
        fetched = {"src", "href", "xlink:href", "srcset", "action", "data", "poster", "background"}
        self.links += [value or "" for name, value in attrs if name in fetched]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page_report(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Report:
    """A report with an error, warnings, a note, and hostile texts, in every place that a dataset can fill."""
    rows = [pair(n) for n in range(30)]
    rows[0] |= {"id": HOSTILE, "prompt": f"{HOSTILE} a", "chosen": f"{HOSTILE} b", HOSTILE: HOSTILE}
    rows[5] |= {"chosen": rows[5]["rejected"]}
    rows[6] |= {"chosen": [{"role": HOSTILE, "content": "A"}]}
    rows += [rows[1], rows[2]]
    file = tmp_path_factory.mktemp("page") / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["model=tiny", "dataset=local", f"dataset.path={file}", NOTHING_HELD_OUT, "dataset.name='<b>mine</b>'"]
    return check(compose(words))


@pytest.fixture(scope="module")
def page(page_report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from alignzoo.report.data_check import write_page

    file = tmp_path_factory.mktemp("page") / "deep" / "page.html"
    write_page(page_report, file)
    return file


def test_page_fetches_nothing(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    read = Page(text)
    assert all(link.startswith("#") for link in read.links), read.links
    assert not read.handlers
    assert not {"script", "link", "iframe", "object", "embed", "img", "base", "form"} & set(read.tags)
    assert not re.search(r"url\((?!['\"]?#)|@import", text)


def test_page_shows_texts_as_they_are(page: Path, page_report: Report) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<b>mine" not in text
    shown = Page(text).text
    assert f"{HOSTILE} a" in shown
    assert f"{HOSTILE} b<|im_end|>" in shown
    assert "<b>mine</b>" in shown
    assert page_report["examples"][0]["id"] == HOSTILE


def test_page_has_every_finding_count_and_histogram(page: Path, page_report: Report) -> None:
    read = Page(page.read_text(encoding="utf-8"))
    shown = " ".join(read.text.split())
    assert len(page_report["findings"]) >= 5
    assert {finding["level"] for finding in page_report["findings"]} == {"error", "warning", "note"}
    for finding in page_report["findings"]:
        assert f"{finding['level']} {Finding(**finding)}" in shown
    for what, count in page_report["rows"].items():
        assert f"{what} {count}" in shown
    assert f"Plan: {page_report['plan']}." in shown
    assert "errors a training would stop" in shown
    assert read.tags.count("svg") == len(page_report["lengths"]) == 4
    assert f"Layout: {page_report['layout']}." in shown


def test_page_marks_what_is_trained(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    marked = re.findall(r'<div class="name">(\w+)</div><pre><span( class="trained")?>', text)
    assert marked == [("prompt", ""), ("chosen", ' class="trained"'), ("rejected", ' class="trained"')] * 3


def test_page_is_written_where_asked(called: Called, folder: Path) -> None:
    code, out, _ = called(f"dataset.path={write(map(pair, range(3)))}", "--html", "reports/mine.html")
    assert code == 0
    assert "page: reports/mine.html" in out
    assert (folder / "reports" / "mine.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert not (folder / "alignzoo-check.html").exists()


def test_page_has_a_default_place(called: Called, folder: Path) -> None:
    _, out, _ = called(f"dataset.path={write(map(pair, range(3)))}")
    assert out.splitlines()[-1] == "page: alignzoo-check.html"
    assert (folder / "alignzoo-check.html").is_file()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_browser_without_network_draws_the_page(page: Path, page_report: Report, folder: Path) -> None:
    import matplotlib.image

    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    flags += [
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={folder / 'profile'}",
        "--virtual-time-budget=2000",
    ]
    shot = folder / "page.png"

    def browse(*words: str) -> str:
        line = [str(CHROMIUM), *flags, *words, page.as_uri()]
        return subprocess.run(line, capture_output=True, text=True, timeout=120, check=True).stdout

    drawn = Page(browse("--dump-dom"))
    shown = " ".join(drawn.text.split())
    assert all(str(Finding(**finding)) in shown for finding in page_report["findings"])
    assert drawn.tags.count("svg") == 4
    browse(f"--screenshot={shot}", "--window-size=1100,2600")
    picture = matplotlib.image.imread(shot)
    assert picture.shape[:2] == (2600, 1100)
    for color in ((180, 35, 24), (210, 244, 220), (76, 120, 168)):  # the verdict, trained tokens, the bars
        near = np.abs(picture[..., :3] * 255 - color).max(axis=-1) < 3
        assert near.sum() > 200, color


# --- A training says the same --------------------------------------------------------------------------------------


def warned() -> list[Row]:
    rows = [pair(n, chosen=f"a rather long answer about {topic(n)}") for n in range(12)]
    rows[3] |= {"chosen": f"I'm sorry, {topic(3)} is nothing that I can speak about."}
    rows[4] |= {"rejected": ""}
    return [*rows, rows[0]]


def test_a_training_prints_the_same_warnings(folder: Path) -> None:
    words = ("dataset=local", f"dataset.path={write(warned())}", NOTHING_HELD_OUT, "dataset.bad_rows=drop")
    made = check(compose(["model=tiny", *words]))
    assert {"left out", "duplicates", "length bias", "refusals", "held-out rows"} <= checks(made)
    quick = [word for word in QUICK if not word.startswith("dataset.rows")]
    trained = run(folder / "run", "method=dpo", *quick, "evaluate.enabled=false", *words)
    assert trained.code == 0, trained.err
    told = [line for line in trained.out.splitlines() if line.startswith(("warning: ", "error: "))]
    expected = [f"{f['level']}: {Finding(**f)}" for f in made["findings"] if f["level"] != "note"]
    assert told == expected
    assert f"plan: {made['plan']}" in trained.out.splitlines()
    assert f"data: {made['layout']}" in trained.out.splitlines()


def test_a_training_stops_on_the_same_errors(folder: Path, called: Called) -> None:
    words = ("dataset=local", f"dataset.path={write(broken())}")
    made = check(compose(["model=tiny", *words]))
    named = sorted(row for f in made["findings"] if f["level"] == "error" for row in f["rows"])
    trained = run(folder / "run", "method=dpo", *QUICK, *words)
    assert trained.code == 1
    message, advice = trained.err.splitlines()
    assert message == ("alignzoo: rows.jsonl row 3 cannot be trained on: chosen equals rejected. So are 2 more: 6, 10.")
    assert [int(number) for number in re.findall(r"\b\d+\b", message.replace("2 more", ""))] == named
    assert "dataset.bad_rows=drop" in advice
    assert not trained.folder.exists()


@pytest.mark.parametrize(
    ("rows", "method", "message"),
    [
        (marked(3, 0), "kto", "all 3 answers are labelled True: KTO needs good and bad ones."),
        ([{"prompt": "Q"}], "dpo", "it has prompts only, and no answers: try method=grpo."),
        (
            [{"prompt": "Q", "chosen": None, "rejected": "B"}],
            "dpo",
            "no row of 1 is left to train on (chosen is null).",
        ),
    ],
    ids=["labels", "conversion", "rows"],
)
def test_what_cannot_be_prepared_is_refused(rows: list[Row], method: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        report(rows, f"method={method}")
    assert message in str(raised.value)


MARKUP = "[/bold] [red]"


def test_brackets_in_the_data_are_printed(folder: Path) -> None:
    rows = [pair(n, **{f"note {MARKUP}": n}) for n in range(6)]
    rows[2] |= {"chosen": [{"role": MARKUP, "content": "A"}]}
    words = ("dataset=local", f"dataset.path={write(rows)}", NOTHING_HELD_OUT, "dataset.bad_rows=drop")
    trained = run(folder / "run", "method=dpo", "model=tiny", "evaluate.enabled=false", *words)
    assert trained.code == 0
    assert f"chosen has the role '{MARKUP}'" in trained.out


def test_brackets_in_the_data_are_reported(called: Called) -> None:
    rows = [pair(n, prompt=f"{MARKUP} {topic(n)}", id=f"{MARKUP} {n}") for n in range(6)]
    rows[2] |= {"chosen": [{"role": MARKUP, "content": "A"}]}
    code, out, _ = called(f"dataset.path={write(rows)}", f"dataset.name='{MARKUP}'")
    assert code == 1
    assert f"{MARKUP} for method=dpo model=tiny" in out.splitlines()
    assert f"chosen has the role '{MARKUP}'" in out
    assert f"prompt: {MARKUP} aaa" in out
    assert f"row 1 ({MARKUP} 0)" in out


def test_examples_are_the_first_rows() -> None:
    made = report([pair(n, id=f"row {n}") for n in range(9)])
    assert [example["id"] for example in made["examples"]] == ["row 0", "row 1", "row 2"]
    assert len(made["examples"]) == EXAMPLES
    assert made["examples"][1]["pieces"] == [
        ("prompt", "Tell me about aab.", False),
        ("chosen", "good aab<|im_end|>", True),
        ("rejected", "poor aab<|im_end|>", True),
    ]
