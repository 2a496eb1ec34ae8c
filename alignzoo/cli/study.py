"""``python -m alignzoo study``: compares methods by a protocol that is fixed beforehand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alignzoo.cli.options import PATH, overrides_argument
from alignzoo.config.trust import take_words_from
from alignzoo.runs.sweep_status import State

if TYPE_CHECKING:
    from alignzoo.study.outlook import MethodCost, Outlook
    from alignzoo.study.protocol import Protocol
    from alignzoo.study.reading import Study


class _Study(click.Group):
    """A group whose first word may also be an override: the study is then run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = (*self.commands, "--help")
        return super().parse_args(ctx, args if args and args[0] in known else ["run", *args])


@click.group(cls=_Study)
def command() -> None:
    """Compare methods by a protocol: tune, pick on validation, fresh seeds, test once.

    `study method=dpo,simpo,kto study.trials=8 model=...` is `study run` with these words.
    """


@command.command
@overrides_argument
@click.option("--plan", "only_plan", is_flag=True, help="Say what it would cost and could show, and run nothing.")
def run(overrides: Sequence[str], only_plan: bool) -> int:
    """Run a study, or go on with the one in hydra.sweep.dir=FOLDER.

    KEY=VALUE as for a run, for all its runs; method=dpo,simpo,kto names what is compared, and study.KEY=VALUE changes
    the protocol. What has ended is not run again.

    The exit code is 1 if a run failed.
    """
    from alignzoo.study.setup import find_folder, make_protocol

    folder = find_folder(overrides)
    protocol = make_protocol([word for word in overrides if word not in PLAN])
    return _run(protocol, folder, only_plan or any(word in PLAN for word in overrides))


PLAN = ("study.plan=true", "+study.plan=true")  #: as words, what ``--plan`` is as an option


@command.command
@click.argument("folder", metavar="FOLDER", type=PATH)
def resume(folder: Path) -> int:
    """Go on with the study in FOLDER, by its own protocol.

    The exit code is 1 if a run failed.
    """
    from alignzoo.study.protocol import FILE, read_protocol

    protocol = read_protocol(folder)
    with take_words_from(folder / FILE):
        return _run_phases(protocol, folder)


@command.command
@click.argument("folder", metavar="FOLDER", type=PATH)
def status(folder: Path) -> int:
    """Show how far the study in FOLDER is, and what it says so far.

    The exit code is 1 unless all has ended.
    """
    from alignzoo.study.reading import Study

    study = Study.read(folder)
    _print_progress("tune", [member.state for member in study.tuning])
    picked = {method: trial + 1 for method, trial in (study.winners or {}).items()}
    print(f"pick: {', '.join(f'{method} trial {trial}' for method, trial in picked.items()) or 'not yet'}")
    _print_progress("test", [member.state for member in study.testing])
    for note in study.notes:
        print(note)
    print(study.answer)
    return int(not study.is_complete)


def _print_progress(phase: str, states: Sequence[State]) -> None:
    counts = Counter(states)
    print(f"{phase}: {', '.join(f'{counts[state]} {state}' for state in State if counts[state]) or 'not yet'}")


def _run(protocol: Protocol, folder: Path, only_plan: bool) -> int:
    """Print what the study will cost and show, and run it unless only that was asked."""
    from alignzoo.study.outlook import describe_outlook, refuse_blind
    from alignzoo.study.protocol import FILE

    if not (folder / FILE).is_file():  # one that goes on was planned when it began
        outlook = plan_study(protocol)
        for line in describe_outlook(outlook):
            print(line)
        if only_plan:
            return int(outlook.is_blind)
        refuse_blind(outlook)
    protocol.fix(folder)
    return _run_phases(protocol, folder)


def _run_phases(protocol: Protocol, folder: Path) -> int:
    from alignzoo import cli
    from alignzoo.report.leaderboard.alignment_tax import print_tax
    from alignzoo.study.page import PAGE
    from alignzoo.study.phases import run_study
    from alignzoo.study.reading import Study

    run_study(protocol, folder, cli.main)
    study = Study.read(folder)
    print(f"\nstudy {folder}")
    _print_test(study)
    print_tax(study.tax)
    for note in study.notes:
        print(note)
    print(study.answer)
    print(f"page: {folder / PAGE}")
    return int(any(member.state is State.FAILED for member in (*study.tuning, *study.testing)))


def _print_test(study: Study) -> None:
    from rich.text import Text

    from alignzoo.config.metrics import NUMBERS
    from alignzoo.study.answer import describe_gain, name_method
    from alignzoo.system.console import make_console
    from alignzoo.system.tables import plain_table

    if study.findings is None:
        return
    settings = study.protocol.settings
    number = NUMBERS[settings.number]
    against = f"to {name_method(settings.baseline)} (95 %)"
    table = plain_table("method", number.short, against, "", "may be best", "loss")
    for one in study.findings.methods:
        may = "" if one.method not in settings.methods else "yes" if one.may_be_best else "no"
        loss = str(study.losses.get(one.method, {}).get("verdict", ""))
        cells = [name_method(one.method), number.form.format(one.value), describe_gain(one, settings)]
        table.add_row(*map(Text, [*cells, one.verdict or "baseline", may, loss]))
    make_console().print(table)


def plan_study(protocol: Protocol) -> Outlook:
    """Return what a study will cost, by ``plan`` on each method's first trial, and what it can show."""
    from alignzoo.study.outlook import make_outlook

    costs, prompts, validation = {}, 0, 0
    for method in protocol.settings.methods:
        costs[method], prompts, validation = _plan_method(protocol, method)
    return make_outlook(protocol, costs, prompts, validation)


def _plan_method(protocol: Protocol, method: str) -> tuple[MethodCost, int, int]:
    """Return what one run takes, and how many test prompts and validation rows it has."""
    from alignzoo.cli.plan import Machine, plan
    from alignzoo.plan.seconds import estimate_row_time
    from alignzoo.study.outlook import MethodCost
    from alignzoo.study.setup import make_trial_words

    words = make_trial_words(protocol, method)
    survey, time, rate, steps = plan(words, Machine(None, None, None), read_data=True)
    adapter = survey.cfg.peft.name
    need = survey.find_need(survey.chosen, adapter)
    row = rate and estimate_row_time(survey.passes(adapter, survey.target.devices), rate)
    peak = (need.bytes if need else 0) / 2**30
    cost = MethodCost(steps.updates, steps.tokens, time and time.total, row, peak, survey.fits(need))
    return cost, survey.lengths.heldout or 0, survey.lengths.validation
