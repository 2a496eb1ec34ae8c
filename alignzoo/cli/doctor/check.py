"""Defines the result of one check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """Something will be slower, or will fail in some runs."""

    BROKEN = "broken"
    """Runs fail, or are silently wrong."""


@dataclass(frozen=True)
class Check:
    """One line of ``doctor``."""

    section: str
    name: str
    found: str
    verdict: Verdict = Verdict.OK
    fix: str = ""
    """What to do, in one line; empty where all is well."""


def ok(section: str, name: str, found: str) -> Check:
    """Return a check that passed."""
    return Check(section, name, found)


def warning(section: str, name: str, found: str, fix: str) -> Check:
    """Return a check that found something that some runs suffer from."""
    return Check(section, name, found, Verdict.WARNING, fix)


def broken(section: str, name: str, found: str, fix: str) -> Check:
    """Return a check that found something that must be mended."""
    return Check(section, name, found, Verdict.BROKEN, fix)
