"""``python -m alignzoo doctor``: checks whether this machine and its packages can run alignzoo."""

from __future__ import annotations

from dataclasses import asdict

import click

from alignzoo.cli.doctor.check import Check, Verdict
from alignzoo.cli.options import json_option, libraries_on_stderr, print_json
from alignzoo.plugin.registry import registry
from alignzoo.system.tables import plain_table

STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.BROKEN: "red"}


@click.command
@json_option
def command(as_json: bool) -> int:
    """Check machine, packages, device, logins and plugins; say how to mend what is broken.

    Sends nothing and prints no secret. The exit code is 1 if something is broken.
    """
    with libraries_on_stderr(True):
        checks = all_checks()
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        _print(checks)
    return int(any(check.verdict is Verdict.BROKEN for check in checks))


def all_checks() -> list[Check]:
    """Return the checks in the order in which they are shown."""
    from alignzoo.cli.doctor.accounts import check_accounts
    from alignzoo.cli.doctor.device import check_device
    from alignzoo.cli.doctor.machine import check_machine
    from alignzoo.cli.doctor.plugins import check_plugins
    from alignzoo.cli.doctor.versions import check_versions

    registry()  # first: what a plugin imports is only seen while nobody else has
    sections = (check_machine, check_versions, check_device, check_accounts, check_plugins)
    return [check for section in sections for check in section()]


def _print(checks: list[Check]) -> None:
    from rich.text import Text

    from alignzoo.system.console import make_console

    console = make_console()
    for section in dict.fromkeys(check.section for check in checks):
        table = plain_table(section, "", "")
        for check in (check for check in checks if check.section == section):
            fix = f"\nfix: {check.fix}" if check.fix else ""
            table.add_row(check.name, Text(check.verdict.value, STYLES[check.verdict]), check.found + fix)
        console.print(table, "")
    count = {verdict: sum(check.verdict is verdict for check in checks) for verdict in Verdict}
    console.print(f"{count[Verdict.BROKEN]} broken, {count[Verdict.WARNING]} warnings, {count[Verdict.OK]} ok")
