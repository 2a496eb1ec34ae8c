"""What a leaderboard writes and prints: the same numbers everywhere, and a page that opens in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from browser import CHROMIUM
from leaderboard_runs import lines, make_run, pairs, started

from alignzoo.cli import run_command
from alignzoo.report.leaderboard.board import read_leaderboard
from alignzoo.report.leaderboard.draw import DARK, LIGHT, Palette, spans_a_decade
from alignzoo.report.leaderboard.files import write_leaderboard
from alignzoo.report.leaderboard.plots import find_swept
from alignzoo.report.leaderboard.table import make_frame, make_wandb_table, print_leaderboard
from alignzoo.system.errors import UserError

HOSTILE = "name='<script>document.title=1</script> & $x_1$'"


def curves(rise: float) -> list[dict[str, float]]:
    return [
        {"step": n, "loss": 0.7 - rise * n / 60, "rewards/margins": rise * n, "rewards/accuracies": 0.75}
        for n in range(1, 31)
    ]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep: two methods, two strengths, two seeds, one collapsed, one failed."""
    folder, number = tmp_path / "sweep", 0
    for method, right in {"dpo": 46, "ipo": 30}.items():
        for beta in (0.01, 0.5):
            for seed in (0, 1):
                bad = (method, beta) == ("dpo", 0.01)
                found = 48 if bad else right - int(10 * beta) - seed
                more = {"ended": False, "kl": 20.0} if bad else {"tokens": 5}
                words = f"method={method} method.beta={beta} seed={seed}"
                cost = {"cost": {"train_seconds": 10.0 * (number + 1), "steps": 30}}
                make_run(folder / f"{number}-{method}", words, lines(pairs(found), **more), curves(1.0), cost)
                number += 1
    started(folder / f"{number}-kto", "method=kto method.beta=0.1 seed=0")
    (folder / f"{number}-kto" / "error.txt").write_text("out of memory <here>\n", encoding="utf-8")
    return folder


def test_csv_and_parquet_equal_the_table(sweep: Path, tmp_path: Path) -> None:
    board = write_leaderboard([sweep], tmp_path / "out", None)
    table = make_frame(board)
    parquet = pd.read_parquet(tmp_path / "out" / "leaderboard.parquet")
    pd.testing.assert_frame_equal(parquet, table, check_dtype=False)
    csv = pd.read_csv(tmp_path / "out" / "leaderboard.csv", keep_default_na=False, na_values=[""])
    assert list(csv.columns) == list(table.columns)
    for place, row in enumerate(board.rows):
        assert csv.loc[place, ["rank", "method", "setting", "seeds", "status"]].tolist() == [
            place + 1,
            row.method,
            row.setting,
            2,
            "finished",
        ]
        for key, found in row.numbers.items():
            assert csv.loc[place, [key, f"{key}_low", f"{key}_high"]].tolist() == pytest.approx(
                [found.value, found.low, found.high]
            )
    assert csv["status"].tolist() == ["finished"] * 4 + ["failed"]
    assert csv["warning"].iloc[-1] == "out of memory <here>"
    assert table["within_noise"].isna().tolist() == [row.difference is None for row in board.rows] + [True]


def test_the_terminal_has_every_row(
    sweep: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    board = read_leaderboard([sweep])
    print_leaderboard(board)
    out = capsys.readouterr().out
    table = out[: out.index("dpo beta=0.01: ")]
    assert max(map(len, table.splitlines())) <= 80
    head, *rows = [re.split(r" +", line.strip()) for line in table.splitlines()]
    assert head[0] == "setting"
    assert [row[:3] for row in rows] == [[*row.name.split(), "x2"] for row in board.rows]
    assert "failed: kto beta=0.1 seed=0: out of memory <here>" in out
    assert out.strip().endswith(board.verdict)
    assert "dpo beta=0.01: collapsed: preference accuracy is 100%, but completions are cut off" in out


def test_settings_are_text_and_not_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, words in enumerate(("method=dpo method.loss_type=[sigmoid]", "method=dpo method.loss_type=[red]")):
        make_run(tmp_path / str(number), words, lines(pairs(40 - 30 * number)))
    print_leaderboard(read_leaderboard([tmp_path]))
    assert "loss_type=[red]" in capsys.readouterr().out


def test_plots_of_what_was_swept(sweep: Path, tmp_path: Path) -> None:
    board = write_leaderboard([sweep], tmp_path / "out", None)
    drawn = {file.stem for file in (tmp_path / "out" / "leaderboard").glob("*.png")}
    assert drawn == {"by-method.beta", "frontier", "cost", "curve-loss", "curve-margin", "curve-accuracy"}
    assert find_swept(board.rows) == ["method.beta"]
    assert spans_a_decade([0.01, 0.5])
    assert not spans_a_decade([0.1, 0.5])
    assert not spans_a_decade([0.0, 5.0])


def test_methods_are_told_apart_by_colour_and_marker() -> None:
    many = [f"method-{place:02d}" for place in range(20)]
    palette = Palette(many)
    assert len({(palette.colour(method), palette.marker(method)) for method in many}) == 20
    assert len(LIGHT) == len(DARK) == len(set(LIGHT)) == len(set(DARK))


def test_the_page_needs_no_network(sweep: Path, tmp_path: Path) -> None:
    write_leaderboard([sweep], tmp_path, None)
    page = (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    places = re.findall(r"""(?:src|href)=["']?([^"'\s>]+)|url\(([^)]+)\)""", page)
    assert places
    assert all("".join(place).startswith("#") for place in places)
    assert "@import" not in page
    assert "<script" not in page
    assert "out of memory &lt;here&gt;" in page


def test_the_page_is_the_same_every_time(sweep: Path, tmp_path: Path) -> None:
    for name in "ab":
        write_leaderboard([sweep], tmp_path / name, None)
    assert (tmp_path / "a" / "leaderboard.html").read_bytes() == (tmp_path / "b" / "leaderboard.html").read_bytes()


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_shows_the_page(sweep: Path, tmp_path: Path) -> None:
    board = write_leaderboard([sweep], tmp_path / "out", None)
    page = tmp_path / "out" / "leaderboard.html"
    dom = browse(tmp_path, "--dump-dom", page.as_uri())
    texts = [re.sub(r"<[^>]+>", " ", part) for part in re.findall(r"<tr.*?</tr>", table_of(dom), re.DOTALL)]
    shown = [" ".join(text.split()) for text in texts[1:] if "collapsed:" not in text]
    assert len(shown) == len(board.rows) == 4
    for row, text in zip(board.rows, shown, strict=True):
        assert text.startswith(f"{row.method} {row.setting}, 2&nbsp;seeds {row.numbers[board.by].value:.0%}")
    assert board.verdict in dom
    assert dom.count("<svg") == 6 + 2
    assert "Margins rise while accuracy does not" in dom
    assert "GRPO" not in dom
    picture = tmp_path / "page.png"
    browse(tmp_path, f"--screenshot={picture}", "--window-size=600,900", page.as_uri())
    import matplotlib.image

    assert matplotlib.image.imread(picture)[..., :3].std() > 0.05, "the page is not blank"


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_what_users_named_cannot_run_on_the_page(tmp_path: Path) -> None:
    for number, name in enumerate((HOSTILE, "name=b")):
        make_run(tmp_path / str(number), "method=dpo", lines(pairs(40 - 30 * number)), curves(1.0))
        command = f"python -m alignzoo method=dpo dataset.{name}\n"
        (tmp_path / str(number) / "command.txt").write_text(command, encoding="utf-8")
        (tmp_path / str(number) / "run.yaml").write_text(f"dataset: {{name: {number}}}\n", encoding="utf-8")
    write_leaderboard([tmp_path], tmp_path, None)
    dom = browse(tmp_path, "--dump-dom", (tmp_path / "leaderboard.html").as_uri())
    assert "<title>Leaderboard by preference accuracy</title>" in dom
    assert "&lt;script&gt;" in dom


def browse(home: Path, *words: str) -> str:
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={home / 'browser'}",
        *words,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def table_of(dom: str) -> str:
    return dom[dom.index('<table id="board">') : dom.index("</table>")]


def test_a_tracker_gets_the_table(sweep: Path) -> None:
    board = read_leaderboard([sweep])
    table = make_wandb_table(board)
    assert table["columns"] == list(make_frame(board).columns)
    assert len(table["data"]) == 5
    assert all(len(row) == len(table["columns"]) for row in table["data"])
    assert json.loads(json.dumps(table, allow_nan=False)) == table, "NaN and pandas' NA are None"


def test_the_command(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["report", str(sweep), "--out", str(tmp_path / "out"), "--by", "margin"]) == 1, (
        "a run has failed"
    )
    assert capsys.readouterr().out.strip().endswith(f"page: {tmp_path / 'out' / 'leaderboard.html'}")
    shutil.rmtree(next(sweep.glob("*-kto")))
    assert run_command(["report", str(sweep)]) == 0
    assert (sweep / "leaderboard.html").is_file()
    assert run_command(["report", str(sweep)]) == 0, "what was written is no run"


def test_the_command_refuses_in_a_line(sweep: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean"):
        run_command(["report", str(sweep), "--by", "preference_acuracy"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no runs"):
        run_command(["report", str(tmp_path / "empty")])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        run_command(["report", str(sweep), "--out", str(tmp_path / "file" / "below")])


def test_help_is_quick() -> None:
    code = "import sys; from alignzoo.cli import run_command; assert run_command(['report', '--help']) == 0\n"
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'pandas', 'matplotlib', 'wandb')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_without_any_number_there_is_still_a_page(tmp_path: Path) -> None:
    """Evaluation may be off, and all may have failed."""
    started(tmp_path / "failed" / "0-dpo", "method=dpo")
    failed = write_leaderboard([tmp_path / "failed"], tmp_path / "a")
    assert failed.verdict == "No run finished."
    for number, method in enumerate(("dpo", "ipo")):
        make_run(tmp_path / "off" / f"{number}-{method}", f"method={method}", [], curves(1.0))
    off = write_leaderboard([tmp_path / "off"], tmp_path / "b")
    assert off.verdict == "No run measured margin (nats/token)."
    assert [row.name for row in off.rows] == ["dpo", "ipo"]
    print_leaderboard(off)
    for name, board in {"a": failed, "b": off}.items():
        assert board.verdict in (tmp_path / name / "leaderboard.html").read_text(encoding="utf-8")
        assert len(pd.read_parquet(tmp_path / name / "leaderboard.parquet")) == len(board.runs)
