"""The page in a real browser, which stays open while runs write."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from browser import CHROMIUM, Page, open_browser
from watched import answer, begin, fail, finish, plan_sweep, train

from alignzoo.cli.watch.reading import Watch
from alignzoo.cli.watch.server import make_server
from alignzoo.system.lock import hold_lock

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

HOSTILE = "<img src=x onerror=\"document.title='hacked'\">&amp;<script>document.title='hacked'</script>"
STATES = "[...document.querySelectorAll('#runs .tag')].map((tag) => tag.textContent).join(' ')"


@contextmanager
def watch_in_browser(folder: Path, home: Path) -> Iterator[Page]:
    with make_server(Watch(folder)) as server, open_browser(home) as page:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.open(f"http://127.0.0.1:{server.server_port}/")
        page.wait_for("document.querySelector('#when')?.textContent")
        yield page
        server.shutdown()


def test_the_page_changes_while_a_sweep_is_written(tmp_path: Path) -> None:
    sweep = plan_sweep(tmp_path / "sweep", "method=dpo", "method.beta=0.1,0.2,0.5")
    with watch_in_browser(sweep, tmp_path) as page, ExitStack() as running:
        assert page.text("#answer") == "3 pending"
        running.enter_context(hold_lock(begin(sweep / "0-dpo")))
        page.wait_for(f"{STATES} === 'running pending pending'")
        assert "preparing" in page.text("#runs")
        train(sweep / "0-dpo", 40, 10)
        answer(sweep / "0-dpo", 0, "Start.")
        page.wait_for("document.querySelectorAll('#curves polyline').length === 3")
        page.wait_for("document.querySelector('#answers')?.innerText.includes('Start.')")
        assert page.text("#answer") == "1 running, 2 pending; about 2 min left"
        assert page.evaluate("document.querySelector('#runs progress').value") == 10
        running.close()
        finish(train(sweep / "0-dpo", 40, 40))
        page.wait_for(f"{STATES} === 'done pending pending'")
        running.enter_context(hold_lock(begin(sweep / "1-dpo")))
        train(sweep / "1-dpo", 40, 3)
        page.wait_for(f"{STATES} === 'done running pending'")
        page.wait_for("document.querySelector('#run-name').innerText.includes('beta=0.2')")
        running.close()
        fail(sweep / "1-dpo", "the moon is full")
        page.wait_for(f"{STATES} === 'done failed pending'")
        assert page.text("#answer") == "1 done, 1 failed, 1 pending"
        assert "the moon is full" in page.text("#runs")
        page.wait_for("document.querySelector('#error').innerText.trim() === 'the moon is full'")


def test_fifty_jobs_one_of_which_failed(tmp_path: Path) -> None:
    betas = ",".join(f"{n / 100:g}" for n in range(1, 51))
    sweep = plan_sweep(tmp_path / "sweep", "method=dpo", f"method.beta={betas}")
    for n in range(49):
        train(begin(sweep / f"{n}-dpo"), 40, 40 if n < 48 else 20, rise=n / 50)
        if n < 47:
            finish(sweep / f"{n}-dpo", said=f"Answer {n}.")
    fail(sweep / "47-dpo", "out of memory")
    with hold_lock(sweep / "48-dpo"), watch_in_browser(sweep, tmp_path) as page:
        assert page.text("#answer").startswith("47 done, 1 running, 1 failed, 1 pending; about ")
        assert page.evaluate("document.querySelectorAll('#runs tbody tr').length") == 50
        page.wait_for("document.querySelectorAll('#curves polyline').length === 3 * 49")
        assert page.evaluate("document.querySelectorAll('.line.chosen').length") == 3
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is cut off at the side"
        page.evaluate("document.querySelectorAll('#runs a')[7].click()")
        page.wait_for("document.querySelector('#answers').innerText.includes('Answer 7.')")
        assert page.text("#run-name") == "Answers of method.beta=0.08"
        page.evaluate("document.querySelector('#follow a').click()")
        page.wait_for("document.querySelector('#run-name').innerText === 'method.beta=0.49'")


def test_what_others_wrote_is_text_on_the_page(tmp_path: Path) -> None:
    folder = begin(tmp_path / "runs" / HOSTILE.replace("/", "-"), HOSTILE)
    finish(train(folder, 40, 40), said=HOSTILE)
    other = fail(begin(tmp_path / "runs" / "other"), HOSTILE)
    with watch_in_browser(folder.parent, tmp_path) as page:
        page.evaluate("document.querySelectorAll('#runs a')[0].click()")
        page.wait_for("document.querySelector('#answers').innerText.includes('onerror')")
        assert HOSTILE in page.text("#answers")
        assert HOSTILE in page.text("#runs")
        page.evaluate("document.querySelectorAll('#runs a')[1].click()")
        page.wait_for("!document.querySelector('#error').hidden")
        assert page.text("#error").strip() == HOSTILE
        assert page.evaluate("document.querySelectorAll('img, script:not([src])').length") == 0
        assert page.evaluate("document.title") == "1 done, 1 failed: alignzoo watch"
    assert other.is_dir()


def test_a_server_that_has_gone_is_said_and_the_page_goes_on(tmp_path: Path) -> None:
    folder = train(begin(tmp_path / "run"), 40, 3)
    with open_browser(tmp_path) as page:
        with make_server(Watch(folder)) as server:
            port = server.server_port
            threading.Thread(target=server.serve_forever, daemon=True).start()
            page.open(f"http://127.0.0.1:{port}/")
            page.wait_for("document.querySelector('#answer')?.textContent === 'stopped'")
            server.shutdown()
        page.wait_for("!document.querySelector('#lost').hidden")
        finish(folder)
        with make_server(Watch(folder), port) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            page.wait_for("document.querySelector('#answer')?.textContent === 'done'")
            page.wait_for("document.querySelector('#lost').hidden")
            server.shutdown()
