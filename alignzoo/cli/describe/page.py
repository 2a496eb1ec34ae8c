"""Shows a description on the terminal, and as a Markdown page of the documentation."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alignzoo.cli.describe.meaning import Description, Key


def print_description(found: Description) -> None:
    """Print it, with TRL's own words on each key."""
    from rich.padding import Padding
    from rich.text import Text

    from alignzoo.system.console import make_console

    console = make_console()

    def show(name: str, value: str, *texts: str) -> None:
        console.print(Text.assemble((name, "bold"), f"  {value}" if value else ""))
        for text in filter(None, texts):
            console.print(Padding(Text(text), (0, 0, 0, 4)))

    show(found.typed, found.option.origin)
    console.print(found.summary, *([f"\n{found.text}"] if found.text else []), sep="\n")
    console.print()
    for name, fact in found.facts.items():
        show(name, fact)
    for key in found.keys:
        console.print()
        show(key.path, key.default, key.text, f"TRL: {key.trl}" if key.trl else "")
    if found.more:
        console.print(Text(f"\nfurther fields of {found.config}\n", "bold"))
    for name, field in found.more.items():
        show(f"+method.{name}", field.default, field.text.partition(". ")[0])
    console.print(Text("\ntry", "bold"), *(f"    {line}" for line in found.examples), sep="\n")


def render_markdown(found: Description) -> str:
    """Return the page of a method; TRL's own words are left to ``describe``, which reads the installed version's."""
    lines = [f"# {found.option.name}", "", *_notice(found), "", *_wrapped(found.summary), ""]
    for paragraph in filter(None, found.text.split("\n\n")):
        lines += [*_wrapped(paragraph), ""]
    lines += ["| | |", "| --- | --- |", *(f"| {name} | {_cell(fact)} |" for name, fact in found.facts.items()), ""]
    lines += ["## Keys", "", "| key | default | meaning |", "| --- | --- | --- |", *map(_row, found.keys), ""]
    lines += list(_more(found))
    lines += ["## Try it", "", *(f"    {line}" for line in found.examples)]
    return "\n".join(lines) + "\n"


def _notice(found: Description) -> list[str]:
    return _wrapped(
        "Written by `nox -s reference` from the method's module and its YAML: change those. `describe "
        f"{found.typed}` shows the same, with what TRL says of each field."
    )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)


def _row(key: Key) -> str:
    return f"| `{key.path}` | {f'`{_cell(key.default)}`' if key.default else ''} | {_cell(key.text)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _more(found: Description) -> Iterator[str]:
    if found.more:
        yield from (f"## Further fields of {found.config}", "")
        yield from _wrapped("Not set by alignzoo; the value behind each is TRL's default.")
        yield from ("", "| key | TRL's default |", "| --- | --- |")
        yield from (f"| `+method.{name}` | `{_cell(field.default)}` |" for name, field in found.more.items())
        yield ""
