"""Gives mkdocs the order of the pages, and leads links to files of the repository to where they are."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

DOCS = Path(__file__).parent
SECTIONS = {"How-to": "how-to", "Reference": "reference", "Explanation": "explanation"}
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)((?:#[^)\s]*)?)(?=\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make the navigation of the folders of ``docs/``: a new page is in it by itself."""
    config.nav = list_pages()
    return config


def list_pages() -> list[Any]:
    """Return the navigation: the tutorial, then a section for each folder, its pages by name."""
    sections: list[Any] = [{title: _pages(f"{folder}/*.md")} for title, folder in SECTIONS.items()]
    (reference,) = (pages for section in sections for title, pages in section.items() if title == "Reference")
    reference.append({"Each method": _pages("reference/methods/*.md")})
    return ["index.md", "tutorial.md", *sections, {"Examples": _pages("examples/*/README.md")}]


def _pages(pattern: str) -> list[str]:
    return sorted(page.relative_to(DOCS).as_posix() for page in DOCS.glob(pattern))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the page's links to files that are not in the site to the repository."""
    from mkdocs.structure.files import InclusionLevel

    shown = {file.src_uri for file in files if file.inclusion is not InclusionLevel.EXCLUDED}
    return point_to_repository(markdown, page.file.src_uri, shown, config.repo_url or "")


def point_to_repository(markdown: str, source: str, shown: set[str], repository: str) -> str:
    """Replace the links to what is not ``shown`` by addresses in the repository.

    A link to a file that does not exist stays as it is: mkdocs then says so.

    Args:
        markdown: The text of a page.
        source: The page's path below ``docs/``.
        shown: What is in the site, as paths below ``docs/``.
        repository: The repository's address.
    """

    def lead(match: re.Match[str]) -> str:
        path, anchor = match.groups()
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        file = DOCS / target
        if target in shown or not file.exists():
            return match[0]
        kind = "tree" if file.is_dir() else "blob"
        return f"{repository}/{kind}/main/{posixpath.normpath(posixpath.join('docs', target))}{anchor}"

    return LINK.sub(lead, markdown)
