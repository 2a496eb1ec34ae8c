"""Requirements that are not met and combinations known to be bad are named with their fix, at faked versions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from repository import ROOT

from alignzoo.cli.doctor.check import Verdict
from alignzoo.cli.doctor.versions import (
    KNOWN_BAD,
    check_versions,
    find_known_bad,
    find_unmet_requirements,
    installed_version,
)


def faked(**versions: str | None) -> Callable[[str], str | None]:
    """Return the installed versions, some of them replaced; an underscore is a hyphen."""
    replaced = {name.replace("_", "-"): version for name, version in versions.items()}
    return lambda name: replaced[name] if name in replaced else installed_version(name)


def test_what_is_installed_here_is_as_required() -> None:
    (check,) = check_versions()
    assert check.verdict is Verdict.OK
    assert f"trl {installed_version('trl')}" in check.found


BAD = [
    ({"trl": "1.10.0", "liger_kernel": "0.8.2"}, "never reduce their gradients", Verdict.BROKEN),
    ({"trl": "1.12.3", "liger_kernel": "0.5"}, "never reduce their gradients", Verdict.BROKEN),
    ({"deepspeed": "0.18.2"}, "ZeRO-2 computes wrong", Verdict.BROKEN),
    ({"deepspeed": "0.18.3"}, "loses gradients", Verdict.BROKEN),
    ({"peft": "0.17.1", "transformers": "5.20.0"}, "HybridCache", Verdict.BROKEN),
    ({"antlr4_python3_runtime": "4.13.2"}, "grammar", Verdict.BROKEN),
    ({"trl": "1.16.0", "vllm": "0.21.0+cu129"}, "supports vLLM", Verdict.WARNING),
    ({"trl": "1.16.0", "vllm": "0.32.0"}, "supports vLLM", Verdict.WARNING),
    ({"trl": "1.16.0", "liger_kernel": "0.8.1"}, "Liger kernels from 0.8.2", Verdict.WARNING),
]


@pytest.mark.parametrize(("versions", "wrong", "verdict"), BAD)
def test_a_bad_combination_is_named(versions: dict[str, str], wrong: str, verdict: Verdict) -> None:
    (check,) = find_known_bad(faked(**versions))
    assert check.verdict is verdict
    assert wrong in check.found
    assert "https://github.com/" in check.found
    assert check.fix
    assert all(f"{name.replace('_', '-')} {version}" in check.name for name, version in versions.items())


@pytest.mark.parametrize(
    "versions",
    [
        {"trl": "1.12.0", "liger_kernel": None},
        {"trl": "1.13.0", "liger_kernel": "0.8.2"},
        {"deepspeed": "0.17.5"},
        {"deepspeed": "0.19.4"},
        {"peft": "0.17.1", "transformers": "4.57.0"},
        {"antlr4_python3_runtime": "4.9.3"},
        {"trl": "1.16.0", "vllm": "0.31.0+cu130"},
        {"trl": "1.16.0", "vllm": None},
    ],
)
def test_what_is_beside_a_bad_combination_is_not(versions: dict[str, str | None]) -> None:
    assert list(find_known_bad(faked(**versions))) == []


def test_every_bad_combination_is_tested() -> None:
    found = {check.found for versions, _, _ in BAD for check in find_known_bad(faked(**versions))}
    assert len(found) >= len({bad.wrong for bad in KNOWN_BAD})


def test_a_missing_or_old_requirement_is_named_with_what_to_install() -> None:
    (missing,) = find_unmet_requirements(faked(pluggy=None))
    assert (missing.name, missing.found, missing.verdict) == ("pluggy", "not installed", Verdict.BROKEN)
    assert missing.fix == "pip install 'pluggy>=1.6'"
    (old,) = find_unmet_requirements(faked(transformers="4.57.0"))
    assert old.verdict is Verdict.BROKEN
    assert old.found.startswith("4.57.0; alignzoo is tested with ")


def test_a_trl_outside_the_range_is_no_reason_to_stop() -> None:
    (check,) = find_unmet_requirements(faked(trl="1.17.0"))
    assert check.verdict is Verdict.WARNING
    assert check.fix == "pip install 'trl<1.17,>=1.16'"


def test_an_extra_is_not_required() -> None:
    assert list(find_unmet_requirements(faked(**{"hydra-joblib-launcher": None, "bitsandbytes": None}))) == []


def test_every_bad_combination_is_documented_with_its_source() -> None:
    page = (ROOT / "docs" / "reference" / "doctor.md").read_text()
    assert all(bad.source in page for bad in KNOWN_BAD)
