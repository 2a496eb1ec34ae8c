"""Options and words of every command, in any order; an override is never taken for an option's value."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from alignzoo.cli import COMMANDS, find_command, run_command


def parse(*words: str) -> dict[str, object]:
    """Return the values that a command would be called with."""
    with find_command(words[0]).make_context(words[0], [*words[1:]]) as context:
        return context.params


def list_options() -> Iterator[tuple[str, str, click.Option]]:
    """Yield every option that takes a value, of commands that may get overrides: command, option's name, option."""
    for name in COMMANDS.keys() - {"benchmark", "chat"}:
        command = find_command(name)
        subcommands = command.commands.items() if isinstance(command, click.Group) else [("", command)]
        for word, sub in subcommands:
            for option in sub.params:
                if isinstance(option, click.Option) and not option.is_flag:
                    yield f"{name} {word}".strip(), option.opts[0], option


#: Options whose values are key=value words, or texts of any kind.
FREE = {("compare", "--set"), ("export kubernetes", "--secret"), ("export skypilot", "--secret")}


@pytest.mark.parametrize(
    "words",
    [
        ("--html", "page.html", "dataset=concise"),
        ("dataset=concise", "--html", "page.html"),
        ("--html=page.html", "a=b"),
    ],
)
def test_an_option_may_stand_before_and_behind_an_override(words: tuple[str, ...]) -> None:
    found = parse("check", *words)
    assert found["html"] == Path("page.html")
    assert found["overrides"] in (("dataset=concise",), ("a=b",))


@pytest.mark.parametrize(
    ("command", "name", "option"), sorted(list_options(), key=str), ids=lambda value: getattr(value, "name", value)
)
def test_no_option_takes_an_override_for_its_value(
    command: str, name: str, option: click.Option, capsys: pytest.CaptureFixture[str]
) -> None:
    if (command, name) in FREE:
        pytest.skip("its values may be of that form")
    words = [*command.split(), name, "dataset=concise"]
    assert run_command(words) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"Error: Invalid value for '{name}'")


def test_the_error_says_what_was_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["check", "--html", "+dataset.path=a"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "Error: Invalid value for '--html': +dataset.path=a is an override: write the option's value before it "
        "(a path: ./+dataset.path=a)."
    )


@pytest.mark.parametrize("value", ["page.html", "./a=b", "pages/a=b.html", "/tmp/a=b", "made"])
def test_a_path_with_an_equals_sign_can_be_written(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beta=0.1").mkdir()
    assert parse("check", "--html", value)["html"] == Path(value)
    assert parse("report", "beta=0.1", "--out", "beta=0.1")["out"] == Path("beta=0.1"), "a folder that is there"
