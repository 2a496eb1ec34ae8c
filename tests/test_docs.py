"""What the documentation shows works: links lead somewhere, commands compose, code parses, all is described."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import io
import json
import pydoc
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from repository import ROOT

import alignzoo
from alignzoo import Method, UserError
from alignzoo.cli import COMMANDS, find_command, main, run_command
from alignzoo.config import check
from alignzoo.config.metrics import NUMBERS
from alignzoo.plugin import hooks as hookspecs
from alignzoo.plugin import registry
from alignzoo.runs.record import Record
from alignzoo.testing import Conformance

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
REFERENCE = ROOT / "docs" / "reference"

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def test_what_cog_writes_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables, help pages and outputs."""
    monkeypatch.chdir(ROOT)
    pages = [str(page.relative_to(ROOT)) for page in PAGES]
    command = [sys.executable, "-m", "cogapp", "--check", "-P", "-I", "docs", "-p", "import printed", *pages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"nox -s docs -- --write writes them anew:\n{done.stdout}{done.stderr}"


@dataclass(frozen=True)
class Block:
    """One code block: its language ('' where it is indented), its text, and the file that it is said to be."""

    language: str
    text: str
    file: str | None = None

    @property
    def commands(self) -> list[str]:
        """The lines of a block of commands, those joined that end in a backslash."""
        return [] if self.language else self.text.replace("\\\n", " ").splitlines()


def blocks(page: Path) -> Iterator[Block]:
    """Yield the page's code blocks. A line that ends in "`name`:" says that the block below it is that file."""
    text = page.read_text(encoding="utf-8")
    pattern = r"(?:`([\w./-]+\.\w+)`:\n\n)?^```(\w+)\n(.*?)^```$|(?<=\n\n)((?:^ {4}[^\n]*\n|^\n(?= {4}))+)"
    for match in re.finditer(pattern, text, re.MULTILINE | re.DOTALL):
        file, language, fenced, indented = match.groups()
        if indented:
            yield Block("", re.sub(r"^ {4}", "", indented, flags=re.MULTILINE))
        else:
            yield Block(language, fenced, file)


def without_code(page: Path) -> str:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^ {4}.*$|`[^`]*`", "", text, flags=re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors of the page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page)):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target}: no such file"
        assert not anchor or anchor in anchors(file), f"{target}: no such heading"


PARSERS: dict[str, Callable[[str], object]] = {
    "python": ast.parse,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
    "json": lambda text: [json.loads(line) for line in text.splitlines()],
}


@each_page
def test_every_code_block_parses(page: Path) -> None:
    for block in blocks(page):
        assert block.language in {"", "text", "bash", *PARSERS}
        PARSERS.get(block.language, str)(block.text)


def lay_out(page: Path, folder: Path) -> Path:
    """Make the files that the page shows, with its own shell commands for the others; return where a reader ends up."""
    for block in blocks(page):
        if block.file:
            (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.file).write_text(block.text)
        for line in block.commands:
            if line.split(" ")[0] in ("mkdir", "touch", "cp"):
                subprocess.run(line, shell=True, check=True, cwd=folder)
            if line.startswith("python -m alignzoo new-plugin"):
                words = shlex.split(line, comments=True)[3:]
                with contextlib.redirect_stdout(io.StringIO()):
                    assert run_command([*words, "--folder", str(folder)]) == 0
            if line.startswith("cd ") and (folder / line[3:]).is_dir():
                folder /= line[3:]
    return folder


def install(folder: Path) -> list[str]:
    """Write the metadata that pip would for the package in ``folder``, and return the import names of its plugins."""
    file = folder / "pyproject.toml"
    if not file.exists():
        return []
    project = tomllib.loads(file.read_text())["project"]
    modules: dict[str, str] = project["entry-points"]["alignzoo"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = "".join(f"{name} = {module}\n" for name, module in modules.items())
    (info / "entry_points.txt").write_text(f"[alignzoo]\n{lines}")
    return list(modules.values())


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Path]]:
    """Follow a page in an empty folder: its files are there, and the package that they make, or that it is about."""
    installed: list[str] = []

    def follow(page: Path) -> Path:
        if page.is_relative_to(ROOT / "docs" / "examples"):
            shutil.copytree(page.parent, tmp_path, dirs_exist_ok=True)
        folder = lay_out(page, tmp_path)
        monkeypatch.chdir(folder)
        monkeypatch.syspath_prepend(folder)
        installed.extend(install(folder))
        registry.registry.cache_clear()
        return folder

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["alignzoo"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    registry.registry.cache_clear()
    yield follow
    registry.registry.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] in installed]:
        del sys.modules[name]


def overrides_of(words: Sequence[str]) -> list[str]:
    """Return the words of a subcommand that change the configuration; the others have been understood too."""
    command, rest = find_command(words[0]), [*words[1:]]
    while isinstance(command, click.Group):
        name, *rest = rest if rest[0] in command.commands else ["run", *rest]  # `study method=...` is `study run ...`
        command = command.commands[name]
    found = [*command.make_context(words[0], rest).params.get("overrides", ())]
    return ["-m", *(word for word in found if not word.startswith("study."))] if words[0] == "study" else found


def members(words: Sequence[str]) -> list[list[str]]:
    """Return the commands of a sweep's members."""
    overrides = OverridesParser.create().parse_overrides([word for word in words if word != "-m"])
    found: list[list[str]] = BasicSweeper.split_arguments(overrides, max_batch_size=None)[0]
    return found


def complaint(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str | None:
    """Compose and check what the words say; return the first line of what is wrong, or None."""
    try:
        main([*words, "--cfg", "job"])
    except SystemExit:
        return capsys.readouterr().err.removeprefix("alignzoo: ").splitlines()[0]
    try:
        cfg = OmegaConf.create(capsys.readouterr().out)
        assert isinstance(cfg, DictConfig)
        check.check(cfg)
    except UserError as error:
        return str(error).splitlines()[0]
    return None


def run_folder(words: Sequence[str], compose_config: Callable[..., DictConfig]) -> None:
    """Make the run folder that ``--config-dir RUN --config-name run`` reads, if it is not there."""
    if "--config-name" in words:
        folder = Path(words[words.index("--config-dir") + 1])
        if not (folder / "run.yaml").exists():
            Record(folder).describe(compose_config(), [])


def commands(page: Path) -> list[list[str]]:
    lines = [line for block in blocks(page) for line in block.commands if line.startswith("python -m alignzoo")]
    words = [shlex.split(line.split(" > ")[0], comments=True)[3:] for line in lines]
    return [[w for place, w in enumerate(line) if "--cfg" not in line[max(0, place - 1) : place + 1]] for line in words]


#: One of each family; the other methods' pages are written from the same template, and run by `nox -s zoo`.
FAMILIES = {"dpo", "kto", "sft", "grpo", "gkd", "reward"}


def in_every_suite(page: Path) -> bool:
    return page.parent.name != "methods" or page.stem in FAMILIES


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=() if in_every_suite(page) else pytest.mark.zoo) for page in PAGES],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_every_command_composes_or_its_complaint_is_shown(
    page: Path,
    followed: Callable[[Path], Path],
    compose_config: Callable[..., DictConfig],
    capsys: pytest.CaptureFixture[str],
) -> None:
    followed(page)
    shown = page.read_text(encoding="utf-8")
    for words in commands(page):
        if words and words[0] in COMMANDS:
            words = overrides_of(words)
        if "--help" in words:
            continue
        run_folder(words, compose_config)
        for member in members(words) if "-m" in words else [words]:
            wrong = complaint(member, capsys)
            assert wrong is None or wrong in shown, f"{shlex.join(member)}: {wrong}"


def test_the_check_of_the_tutorial_prints_what_is_shown(
    followed: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    page = ROOT / "docs" / "tutorial.md"
    followed(page)
    (words,) = [words for words in commands(page) if words[:1] == ["check"]]
    (shown,) = [block.text for block in blocks(page) if block.text.startswith("local for method=dpo")]
    capsys.readouterr()
    assert run_command(words) == 1
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    for part in shown.split("...\n"):
        lines = part.splitlines()
        assert lines in [printed[start : start + len(lines)] for start in range(len(printed))], part


def test_what_cog_prints_is_there_and_plain() -> None:
    """`nox -s docs` compares it; an empty block, or one with colours, would be compared with itself."""
    for page in PAGES:
        for call, printed in re.findall(
            r"\[\[\[cog (.+?) \]\]\] -->\n(.*?)<!-- \[\[\[end", page.read_text(), re.DOTALL
        ):
            assert printed.strip(), f"{page}: {call}"
            assert "\x1b" not in printed, f"{page}: {call}"


def test_commands_are_found() -> None:
    assert ["-m", "method=dpo,ipo", "method.beta=0.05,0.1,0.5"] in commands(ROOT / "README.md")
    assert len(commands(ROOT / "docs" / "tutorial.md")) > 10


def test_the_method_of_the_how_to_is_found_and_checked(
    followed: Callable[[Path], Path], compose_config: Callable[..., DictConfig]
) -> None:
    followed(ROOT / "docs" / "how-to" / "add-a-method.md")
    method = check.check(compose_config("method=slic")).method
    assert (method.name, registry.registry().methods["slic"][1].origin) == ("slic", "alignzoo-slic 0.1.0")
    with pytest.raises(UserError, match="method=slic sets it to None"):
        check.check(compose_config("method=slic", "+method.ld_alpha=0.5"))


def test_the_sampling_method_of_the_how_to_is_found_and_checked(
    followed: Callable[[Path], Path], compose_config: Callable[..., DictConfig]
) -> None:
    followed(ROOT / "docs" / "how-to" / "add-a-sampling-method.md")
    assert check.check(compose_config("method=high_entropy")).method.uses_rewards
    with pytest.raises(UserError, match=r"must be a multiple of method\.num_generations=3"):
        check.check(compose_config("method=high_entropy", "method.num_generations=3"))


def test_the_rewards_of_the_how_to_score(followed: Callable[[Path], Path]) -> None:
    followed(ROOT / "docs" / "how-to" / "add-a-reward.md")
    variety = registry.registry().reward("variety")(group=2)
    assert variety([""] * 3, ["a b a b", "a b c", "a b c"], ended=[True, True, False]) == [2 / 3, 1.0, 0.0]
    keywords = registry.registry().reward("keywords")()
    assert keywords([""], ["Ice, mostly"], keywords=[["ice", "Sun"]]) == [0.5]


def test_the_how_tos_packages_ship_their_configs() -> None:
    """The wheel holds what package-data names: every YAML, and the modules under `packages`."""
    for page in (ROOT / "docs" / "how-to").glob("*.md"):
        files = {block.file: block.text for block in blocks(page) if block.file}
        if "pyproject.toml" not in files:
            continue
        tool = tomllib.loads(files["pyproject.toml"])["tool"]["setuptools"]
        (package,) = tomllib.loads(files["pyproject.toml"])["project"]["entry-points"]["alignzoo"].values()
        assert {package, f"{package}.conf"} == set(tool["packages"])
        assert tool["package-data"][f"{package}.conf"] == ["**/*.yaml"]
        assert f"{package}/__init__.py" in files
        assert f'["{package}.conf"]' in files[f"{package}/__init__.py"]


def hooks() -> dict[str, Callable[..., object]]:
    return {name: hook for name, hook in vars(hookspecs).items() if hasattr(hook, "alignzoo_spec")}


@pytest.mark.parametrize("name", list(hooks()))
def test_every_hook_is_described_with_its_arguments_and_what_it_returns(name: str) -> None:
    signature = inspect.signature(hooks()[name])
    text = (REFERENCE / "plugins.md").read_text()
    section = text.partition(f"\n### `{name}({', '.join(signature.parameters)})`\n")[2].partition("\n##")[0]
    assert f"`{signature.return_annotation}`" in section
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(signature.parameters)


def test_no_hook_is_described_that_is_not_there() -> None:
    text = (REFERENCE / "plugins.md").read_text()
    assert re.findall(r"^### `(\w+)\(", text, re.MULTILINE) == list(hooks())


def test_what_a_method_may_declare_is_described() -> None:
    table = (REFERENCE / "plugins.md").read_text().partition("\n## What a method declares\n")[2].partition("\n### ")[0]
    described = re.findall(r"^\| `(\w+)", table, re.MULTILINE)
    declared = {*Method.__annotations__, *(name for name in vars(Method) if not name.startswith("_"))}
    assert sorted(described) == sorted(declared)


def test_every_check_of_the_kit_is_described() -> None:
    table = (REFERENCE / "plugins.md").read_text().partition("\n## The kit\n")[2]
    described = re.findall(r"^\| `(test_\w+)` \|", table, re.MULTILINE)
    assert described == [name for name in vars(Conformance) if name.startswith("test_")]


def test_what_plugins_may_import_is_described() -> None:
    text = (REFERENCE / "plugins.md").read_text().partition("\n## ")[0]
    assert all(f"`{name}`" in text for name in alignzoo.__all__)


def test_every_method_and_its_keys_are_described() -> None:
    text = (REFERENCE / "methods.md").read_text()
    own = [name for name, (_, plugin) in registry.registry().methods.items() if plugin.distribution == "alignzoo"]
    table = (REFERENCE / "all-methods.md").read_text()
    for name in own:
        assert f"| [`{name}`](methods/{name}.md) |" in table  # a page of its own has the keys
    for name in (name for name in own if f"\n## {name}\n" in text):
        section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        keys = yaml.safe_load((ROOT / "conf" / "method" / f"{name}.yaml").read_text()).keys()
        for key in keys - {"name", "learning_rate", "learning_rates", "search"}:
            assert f"| `method.{key}` |" in section, f"{name}: {key}"


def test_methods_and_their_defaults_are_as_described() -> None:
    for line in (REFERENCE / "methods.md").read_text().partition("\n## dpo\n")[2].split("\n## "):
        name = line.partition("\n")[0].strip() or "dpo"
        described = dict(re.findall(r"^\| `method\.(\w+)` \| `?([^|`]+?)`? \|", line, re.MULTILINE))
        keys = yaml.safe_load((ROOT / "conf" / "method" / f"{name}.yaml").read_text())
        for key, value in described.items():
            assert yaml.safe_load(value) == keys[key], f"{name}: {key}"


def test_every_number_is_described() -> None:
    assert set(NUMBERS) <= anchors(REFERENCE / "numbers.md")


def dotted(tree: dict[str, object], above: str) -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from dotted(value, f"{above}{key}.")
        else:
            yield f"{above}{key}"


@pytest.mark.parametrize(
    ("file", "group"),
    [
        ("config.yaml", ""),
        ("train/default.yaml", "train."),
        ("evaluate/default.yaml", "evaluate."),
        ("strategy/auto.yaml", "strategy."),
        ("launcher/local.yaml", "launcher."),
        ("peft/qlora.yaml", "peft."),
        ("peft/lora.yaml", "peft."),
        ("tracker/wandb.yaml", "tracker."),
        *((f"reward/{file.name}", "reward.") for file in (ROOT / "conf" / "reward").glob("*.yaml")),
    ],
)
def test_every_key_is_described(file: str, group: str) -> None:
    text = (REFERENCE / "configuration.md").read_text()
    keys = yaml.safe_load((ROOT / "conf" / file).read_text())
    for key in dotted({name: value for name, value in keys.items() if name not in ("defaults", "hydra")}, group):
        assert f"`{key}`" in text or key in ("reward", "strategy.name", "launcher.name"), key


def test_every_option_is_described() -> None:
    text = "".join((REFERENCE / f"{page}.md").read_text() for page in ("configuration", "methods", "all-methods"))
    for file in (ROOT / "conf").glob("*/*.yaml"):
        assert f"`{file.stem}`" in text, file


def test_help_says_what_a_row_of_each_format_holds() -> None:
    """``help(DataFormat)`` and the page; what a conversion makes is tested with these columns."""
    said = pydoc.render_doc(alignzoo.DataFormat, renderer=pydoc.plaintext)
    page = (REFERENCE / "plugins.md").read_text().partition("### The columns of each format")[2].partition("\n### ")[0]
    columns = {
        "PREFERENCE": ("prompt_ids", "chosen_ids", "rejected_ids"),
        "UNPAIRED": ("prompt_ids", "completion_ids", "label", "KL_completion_ids"),
        "PROMPTS": ("prompt",),
        "SUPERVISED": ("input_ids", "labels"),
        "SCORED": ("score",),
    }
    assert columns.keys() == alignzoo.DataFormat.__members__.keys()
    for name, wanted in columns.items():
        (line,) = re.findall(rf"^ \|\s+{name}: (.*)$", said, re.MULTILINE)
        (row,) = re.findall(rf"^\| `DataFormat.{name}` \| (.*) \|$", page, re.MULTILINE)
        assert all(f"`{column}`" in text for column in wanted for text in (line, row))


@pytest.mark.parametrize("name", ["Batch", "TrainParts"])
def test_help_says_what_every_field_is(name: str) -> None:
    exported = getattr(alignzoo, name)
    said = (
        pydoc.render_doc(exported, renderer=pydoc.plaintext).partition("Attributes:")[2].partition("Methods defined")[0]
    )
    fields = [field.name for field in dataclasses.fields(exported)]
    assert re.findall(r"^ \|      (\w+): ", said, re.MULTILINE) == fields


def test_how_the_kit_is_told_that_a_method_cannot_rank_is_in_help_and_on_the_page() -> None:
    from alignzoo.testing import conformance

    page = (REFERENCE / "plugins.md").read_text().partition("\n## The kit\n")[2]
    for text in (page, *(pydoc.render_doc(item, renderer=pydoc.plaintext) for item in (Conformance, conformance))):
        assert "ranks" in text
        assert "which of two completions is better" in " ".join(text.replace("|", " ").split())
