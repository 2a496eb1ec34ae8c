"""Chat templates that loop or make huge texts: each is stopped or refused, in any thread, and the good ones are not."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from inprocess import call
from jinja2.exceptions import SecurityError, TemplateError
from transformers.utils import chat_template_utils

from alignzoo import UserError
from alignzoo.models import templates
from alignzoo.models.templates import BoundedEnvironment, Watch, bound_templates
from alignzoo.models.tiny import CHATML

ENDLESS = {
    "loops in loops": "{% for i in range(9999) %}{% for j in range(9999) %}{% for k in range(9999) %}{% endfor %}"
    "{% endfor %}{% endfor %}",
    "a macro that calls itself twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) ~ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(90) }}",
    "a filter": "{{ range(9999) | map('string') | list and lipsum(n=999999) }}",
}
HUGE = {
    "a product": "{{ 'a' * 10000000000 }}",
    "a product of lists": "{{ [1] * 10000000000 }}",
    "a power": "{{ 9 ** 99999999 }}",
    "a power of what it is given": "{{ (messages | length + 9) ** 99999999 }}",
    "a width": "{{ '%9999999999d' % 1 }}",
    "a width that is given": "{{ '%*d' % (9999999999, 1) }}",
    "a format": "{{ '{:>9999999999}'.format(1) }}",
    "a method": "{{ 'a'.ljust(9999999999) }}",
    "a filter": "{{ 'a' | center(9999999999) }}",
    "a format's filter": "{{ '%9999999999d' | format(1) }}",
}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often, for half a second."""
    monkeypatch.setattr(BoundedEnvironment, "watch", Watch(seconds=0.5, memory=2**28))


def render(template: str, **values: Any) -> str:
    return BoundedEnvironment().from_string(template).render(messages=[], **values)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ENDLESS)
def test_a_template_that_loops_is_stopped(name: str) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match=r"chat template does not end: one conversation took 0\.5 s"):
        render(ENDLESS[name])
    assert time.monotonic() - began < 120


@pytest.mark.usefixtures("quick")
def test_it_is_stopped_in_another_thread_and_others_are_not() -> None:
    found: dict[str, Any] = {}

    def ask(name: str, template: str) -> None:
        try:
            found[name] = render(template)
        except UserError as error:
            found[name] = error

    threads = [
        threading.Thread(target=ask, args=pair) for pair in (("bad", ENDLESS["loops in loops"]), ("good", "fine"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found["good"] == "fine"
    assert isinstance(found["bad"], UserError)


@pytest.mark.usefixtures("quick")
def test_a_text_that_doubles_is_stopped() -> None:
    with pytest.raises(UserError, match=r"or 0\.25 GiB"):
        render("{% set n = namespace(x='a') %}{% for i in range(34) %}{% set n.x = n.x ~ n.x %}{% endfor %}")


@pytest.mark.usefixtures("quick")
def test_a_stopped_template_is_refused_at_once() -> None:
    template = BoundedEnvironment().from_string("{% if loops %}" + ENDLESS["loops in loops"] + "{% endif %}fine")
    assert template.render(loops=False) == "fine"
    with pytest.raises(UserError):
        template.render(loops=True)
    with pytest.raises(UserError, match="does not end"):
        template.render(loops=False)  # which would render at once


@pytest.mark.parametrize("name", HUGE)
def test_what_would_make_a_huge_text_is_refused(name: str) -> None:
    with pytest.raises(SecurityError, match=r"it (uses|makes|computes|formats) "):
        render(HUGE[name])


def test_what_templates_do_is_not_refused() -> None:
    said = render("{{ '-' * 3 }}{{ 2 ** 10 }}{{ '%05.1f' % 2 }}{{ '{:>3}'.format(1) }}{{ 'a' | center(3) }}{{ 7 % 4 }}")
    assert said == "---1024002.0  1 a 3"
    with pytest.raises(TemplateError, match="no"):
        BoundedEnvironment().from_string("{{ f('no') }}").render(f=_raise)


def _raise(text: str) -> None:
    raise TemplateError(text)


def test_transformers_renders_in_it() -> None:
    bound_templates()
    chat_template_utils._compile_jinja_template.cache_clear()
    compiled = chat_template_utils._compile_jinja_template(CHATML)
    assert isinstance(compiled.environment, BoundedEnvironment)


def test_check_says_it_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedEnvironment, "watch", Watch(seconds=0.5))
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "endless.jinja").write_text(ENDLESS["loops in loops"])
    done = call("check", "model=tiny", f"model.chat_template={tmp_path / 'endless.jinja'}", "dataset.rows=8")
    assert done.code == 1
    assert done.err.startswith("alignzoo: the model's chat template does not end: one conversation took 0.5 s")


def test_the_bounds_are_those_of_the_docs() -> None:
    assert (templates.SECONDS, templates.MEMORY, templates.LARGEST) == (10, 2 * 2**30, 10_000_000)
