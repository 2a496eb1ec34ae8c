"""Writes the HTML pages, each one file that opens without a network."""

from __future__ import annotations

import importlib.resources
import io
from pathlib import Path
from typing import Any


def write_html(template: str, file: Path, **values: Any) -> None:
    """Fill a template of this room (``comparison.html.jinja``) with ``values`` and write it."""
    page = render(template, **values)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page, encoding="utf-8", errors="backslashreplace")  # a folder's name may be anything


def render(template: str, **values: Any) -> str:
    """Return a template of this room filled with ``values``; ``style.css.jinja`` is the look that pages share."""
    from jinja2 import Environment, FunctionLoader

    loader = FunctionLoader(_read_template)
    pages = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return pages.get_template(template).render(values)


def _read_template(name: str) -> str:
    return importlib.resources.files("alignzoo.report").joinpath(name).read_text(encoding="utf-8")


def svg_element(figure: Any, **options: Any) -> str:
    """Return a matplotlib figure as the SVG element that a page embeds; ``options`` are those of ``savefig``."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None}, **options)
    return drawn.getvalue()[drawn.getvalue().index("<svg") :]
