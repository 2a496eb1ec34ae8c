"""Replaces ``method=@FAMILY`` on the command line by the family's methods that can be trained on the run's data."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from alignzoo.plugin.family import group_by_family
from alignzoo.plugin.registry import registry
from alignzoo.system.errors import UserError, did_you_mean

#: Every method, of whatever family.
ALL = "all"

WORD = re.compile(r"method=(.*@.*)")


def expand_families(words: Sequence[str]) -> list[str]:
    """Return ``words`` with ``method=@preference,kto`` written out; what does not fit is left out, and named on stderr.

    Hydra reads ``@preference`` as an option's name, and has no word for a group of options but ``glob``, which knows
    names only. Written out before Hydra reads them, families work with every sweeper and launcher.

    Raises:
        UserError: an unknown family, no ``-m``, or no method that fits.
    """
    places = [place for place, word in enumerate(words) if WORD.fullmatch(word)]
    if not places:
        return [*words]
    (place, *more) = places
    if more:
        raise UserError(f"method is chosen twice: {words[place]} and {words[more[0]]}.")
    asked = words[place].removeprefix("method=")
    if not {"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(words):
        raise UserError(f"method={asked} names several: add -m to run each of them.")
    names = _write_out(asked)
    fitting = _keep_fitting(asked, names, [*words[:place], *words[place + 1 :]])
    return [*words[:place], f"method={','.join(fitting)}", *words[place + 1 :]]


def _write_out(asked: str) -> list[str]:
    """Return the methods that ``asked`` names, each once: families with an @ before them, and methods."""
    families = group_by_family(method for method, _ in registry().methods.values())
    names: list[str] = []
    for part in (part.strip() for part in asked.split(",")):
        family = part.removeprefix("@")
        if part == family:
            names.append(part)
        elif family == ALL:
            names += [method.name for methods in families.values() for method in methods]
        elif family in families:
            names += [method.name for method in families[family]]
        else:
            near = did_you_mean(family, [*families, ALL])
            raise UserError(f"method={part}: no such family.{near}\nThere are: {', '.join([*families, ALL])}.")
    return [*dict.fromkeys(names)]


def _keep_fitting(asked: str, names: Sequence[str], words: Sequence[str]) -> list[str]:
    from alignzoo.cli.fit import explain_misfits, explain_refusals, read_data
    from alignzoo.config.compose import compose

    single = [*_take_first_values(words)]
    refused = explain_refusals(single, names)
    left = [name for name in names if name not in refused]
    if left:
        methods = [registry().method(name) for name in left]
        refused |= explain_misfits(read_data(compose([*single, f"method={left[0]}"])), methods, single)
    fitting = [name for name in names if name not in refused]
    if not fitting:
        reasons = dict.fromkeys(refused.values())
        raise UserError(f"method={asked}: no method of it can run here: {next(iter(reasons))}")
    for name, reason in refused.items():
        print(f"left out: method={name}: {reason}", file=sys.stderr)
    return fitting


def _take_first_values(words: Sequence[str]) -> Iterator[str]:
    """Yield the words that change the configuration, without Hydra's flags; of the values of a sweep the first."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob, IntervalSweep

    parser, flag = OverridesParser.create(), ""
    for word in words:
        before, flag = flag, word if word.startswith("-") else ""
        if before in ("--config-dir", "-cd"):
            yield f"hydra.searchpath=[file://{Path(word).resolve()}]"
        elif not flag and "=" in word:
            override = parser.parse_override(word)
            value = override.value()
            if isinstance(value, IntervalSweep):
                yield f"{override.get_key_element()}={value.start}"
            elif override.is_discrete_sweep() and not isinstance(value, Glob):  # whose options the loader knows
                yield f"{override.get_key_element()}={next(override.sweep_string_iterator())}"
            elif not override.is_sweep_override():
                yield word
