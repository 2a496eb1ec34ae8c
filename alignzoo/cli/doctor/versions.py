"""Checks the installed packages: alignzoo's requirements, and combinations of versions that are known to go wrong."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

from alignzoo.cli.doctor.check import Check, broken, ok, warning
from alignzoo.plugin.loading import OWN

SECTION = "packages"
#: Shown where they are installed and well.
SHOWN = ("trl", "torch", "transformers", "accelerate", "peft", "datasets", "hydra-core")


@dataclass(frozen=True)
class KnownBad:
    """Versions that must not be installed together, and who found out."""

    versions: Mapping[str, str]
    """Distribution -> versions, as in a requirement; ``python`` is the interpreter. All of them have to apply."""

    wrong: str
    fix: str
    source: str
    silent: bool = True
    """Whether runs finish and are wrong, or only some of them: then that does not refuse the machine."""


KNOWN_BAD = (
    KnownBad(
        {"trl": ">=1.10,<1.13", "liger-kernel": ">=0"},
        "DPO and KTO with Liger kernels on several GPUs (DDP) never reduce their gradients",
        "pip install 'trl>=1.16,<1.17'",
        "https://github.com/huggingface/trl/issues/7245",
    ),
    KnownBad(
        {"deepspeed": ">=0.17.6,<0.18.3"},
        "ZeRO-2 computes wrong gradients",
        "pip install -U deepspeed",
        "https://github.com/deepspeedai/DeepSpeed/issues/7718",
    ),
    KnownBad(
        {"deepspeed": ">=0.18.3,<=0.19.3"},
        "ZeRO-2 in bf16 loses gradients of modules that run twice in one backward pass",
        "pip install -U deepspeed",
        "https://github.com/deepspeedai/DeepSpeed/issues/8224",
    ),
    KnownBad(
        {"peft": "<0.18", "transformers": ">=5"},
        "peft cannot be imported (HybridCache is gone)",
        "pip install -U peft",
        "https://github.com/huggingface/peft/issues/3333",
    ),
    KnownBad(
        {"antlr4-python3-runtime": "!=4.9.*"},
        "Hydra and OmegaConf cannot read overrides: their grammar is built for 4.9",
        "pip install 'antlr4-python3-runtime==4.9.*' 'math-verify[antlr4_9_3]'",
        "https://github.com/omry/omegaconf/issues/1000",
    ),
    KnownBad(
        {"trl": "==1.16.*", "vllm": "<0.22"},
        "this TRL supports vLLM 0.22 to 0.31 (+method.use_vllm=true)",
        "pip install 'vllm>=0.22,<=0.31'",
        "https://github.com/huggingface/trl/blob/v1.16.0/trl/import_utils.py",
        silent=False,
    ),
    KnownBad(
        {"trl": "==1.16.*", "vllm": ">0.31"},
        "this TRL supports vLLM 0.22 to 0.31 (+method.use_vllm=true)",
        "pip install 'vllm>=0.22,<=0.31'",
        "https://github.com/huggingface/trl/blob/v1.16.0/trl/import_utils.py",
        silent=False,
    ),
    KnownBad(
        {"trl": "==1.16.*", "liger-kernel": "<0.8.2"},
        "this TRL takes Liger kernels from 0.8.2 on, and refuses use_liger_kernel with older ones",
        "pip install -U liger-kernel",
        "https://github.com/huggingface/trl/blob/v1.16.0/trl/import_utils.py",
        silent=False,
    ),
)


def installed_version(name: str) -> str | None:
    """Return a distribution's version, or None where it is not installed; ``python`` is the interpreter."""
    if name == "python":
        return platform.python_version()
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_versions(version: Callable[[str], str | None] = installed_version) -> Iterator[Check]:
    """Yield what is wrong among the installed versions, or one line that names the main ones."""
    found = [*find_unmet_requirements(version), *find_known_bad(version)]
    shown = ", ".join(f"{name} {version(name)}" for name in SHOWN if version(name))
    yield from found or [ok(SECTION, "versions", f"{shown}: as required, no combination known to be bad")]


def find_unmet_requirements(version: Callable[[str], str | None] = installed_version) -> Iterator[Check]:
    """Yield a check for each requirement of alignzoo that is not met."""
    for text in importlib.metadata.requires(OWN) or []:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        has = version(requirement.name)
        if has is None:
            yield broken(SECTION, requirement.name, "not installed", f"pip install '{requirement}'")
        elif not requirement.specifier.contains(has, prereleases=True):
            wanted = f"{requirement.name}{requirement.specifier}"
            text = f"{has}; alignzoo is tested with {requirement.specifier}"
            # A TRL beyond the range may work, and stops nothing; anything else was declared for a reason.
            check = warning if requirement.name == "trl" else broken
            yield check(SECTION, requirement.name, text, f"pip install '{wanted}'")


def find_known_bad(version: Callable[[str], str | None] = installed_version) -> Iterator[Check]:
    """Yield a check for each combination of :data:`KNOWN_BAD` that is installed."""
    for bad in KNOWN_BAD:
        versions = {name: version(name) for name in bad.versions}
        if all(has and _inside(has, bad.versions[name]) for name, has in versions.items()):
            names = " with ".join(f"{name} {has}" for name, has in versions.items())
            check = broken if bad.silent else warning
            yield check(SECTION, names, f"{bad.wrong} ({bad.source})", bad.fix)


def _inside(version: str, specifier: str) -> bool:
    release = re.split(r"[+]", version)[0]  # a local part such as +cu128 is not a newer release
    return SpecifierSet(specifier).contains(release, prereleases=True)
