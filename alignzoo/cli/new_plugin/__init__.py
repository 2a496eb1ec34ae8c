"""``python -m alignzoo new-plugin``: makes a package with a method or an environment, ready to install and run."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import importlib.util
import keyword
import re
from pathlib import Path
from typing import Any

import click
import jinja2

from alignzoo.cli.options import FILE
from alignzoo.plugin.registry import registry
from alignzoo.plugin.validate import NAME
from alignzoo.system.errors import UserError

#: Where each file of ``template`` goes; both sides are templates of the names below.
SHARED = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "noxfile.py": "noxfile.py",
    "gitignore": ".gitignore",
    "{{ form }}.py": "{{ package }}/__init__.py",
    "conf.py": "{{ package }}/conf/__init__.py",
    "{{ group }}.yaml": "{{ package }}/conf/{{ group }}/{{ name }}.yaml",
    "test_{{ group }}.py": "tests/test_{{ name }}.py",
}

#: The group of the word that the package adds -> its files.
FILES = {
    "method": SHARED,
    "environment": {
        **SHARED,
        "dataset.yaml": "{{ package }}/conf/dataset/{{ name }}.yaml",
        "rows.jsonl": "{{ package }}/rows.jsonl",
    },
}


@click.command
@click.argument("name", metavar="NAME")
@click.option("--trainer", is_flag=True, help="A method that chooses a trainer of TRL's, and not only gives a loss.")
@click.option("--environment", is_flag=True, help="An environment that a policy acts in, such as a game.")
@click.option("--folder", type=FILE, default=".", show_default=True, help="Where the package's folder is made.")
def command(name: str, trainer: bool, environment: bool, folder: Path) -> int:
    """Make a package with a method or an environment of your own, ready to install and test.

    NAME is the word after method= or environment=, such as slic or online_dpo. The method is a loss on preference pairs
    and its equation, unless it runs another trainer.
    """
    if trainer and environment:
        raise click.UsageError("--trainer is for a method: leave it out, or --environment")
    group = "environment" if environment else "method"
    check_name(name, group)
    names = names_of(name) | {"form": group if environment else "trainer" if trainer else "pair_loss", "group": group}
    made = folder / names["distribution"]
    write(made, names)
    train = f"method=grpo dataset={name} reward=length train.max_steps=5" if environment else f"method={name}"
    print(f"{made}: a package with the {group} {name}. Next:\n")
    for line in (f"cd {made}", "pip install -e . pytest", "pytest", f"python -m alignzoo {train} model=tiny"):
        print(f"    {line}")
    print(f"\nThen make the {group} your own: {names['package']}/__init__.py and its YAML; README.md says how.")
    return 0


def check_name(name: str, group: str = "method") -> None:
    """Refuse a name that cannot be the word after ``method=`` or ``environment=``, or that is taken.

    Raises:
        UserError: with a name that would do, where there is one.
    """
    plain = re.sub(r"\W+", "_", name).strip("_").lower()
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        better = f" Did you mean {plain}?" if re.match("[a-z]", plain) and not keyword.iskeyword(plain) else ""
        raise UserError(f"new-plugin {name}: a name has lower-case letters, digits and _, a letter first.{better}")
    if _value(name) != name:
        raise UserError(f"new-plugin {name}: {group}={name} and YAML read this as {_value(name)}. Choose another name.")
    taken = registry().of_group(group)
    if name in taken:
        raise UserError(f"new-plugin {name}: {group}={name} is {taken[name][1].origin}'s already. Choose another name.")
    package = names_of(name)["package"]
    if importlib.util.find_spec(package):
        raise UserError(f"new-plugin {name}: a package {package} is installed already. Choose another name.")


def _value(name: str) -> Any:
    """Return what Hydra's command line, or else YAML, makes of the word: ``null``, ``on`` and ``nan`` are no names."""
    import yaml
    from hydra.core.override_parser.overrides_parser import OverridesParser

    value = OverridesParser.create().parse_override(f"method={name}").value()
    return yaml.safe_load(name) if value == name else value


def names_of(name: str) -> dict[str, str]:
    """Return what the templates are filled with, for what is called ``name``."""
    major, minor, *_ = importlib.metadata.version("alignzoo").split(".")
    return {
        "name": name,
        "class": "".join(part.capitalize() for part in name.split("_")),
        "package": f"alignzoo_{name}",
        "distribution": f"alignzoo-{name.replace('_', '-')}",
        "oldest": f"{major}.{minor}",
        "newest": f"{major}.{int(minor) + 1}",
    }


def write(folder: Path, names: dict[str, str]) -> None:
    """Fill the templates with ``names``, and write them into ``folder``.

    Raises:
        UserError: the folder is there already, or cannot be made.
    """
    if folder.exists():
        raise UserError(f"new-plugin: {folder} exists already. Delete it, or choose another --folder or name.")
    templates = importlib.resources.files("alignzoo.cli.new_plugin").joinpath("template")
    engine = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    made = {
        engine.from_string(path).render(names): engine.from_string(
            templates.joinpath(f"{engine.from_string(file).render(names)}.jinja").read_text(encoding="utf-8")
        ).render(names)
        for file, path in FILES[names["group"]].items()
    }
    try:
        for path, text in made.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"new-plugin: {folder} cannot be written: {error.strerror}.") from None
