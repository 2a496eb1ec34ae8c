"""Writes a study's page and table, while it runs and at its end."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.config.metrics import NUMBERS
from alignzoo.report.html import write_html
from alignzoo.report.leaderboard import draw
from alignzoo.report.leaderboard.alignment_tax import describe_tax, list_names, make_tax_cells
from alignzoo.report.leaderboard.comparisons import format_size
from alignzoo.study.answer import describe_gain, name_method
from alignzoo.study.plots import draw_plots
from alignzoo.study.reading import Study
from alignzoo.system.files import write_atomically
from alignzoo.system.tables import write_csv

if TYPE_CHECKING:
    import pandas as pd

    from alignzoo.study.findings import Finding

PAGE, TABLE = "study.html", "study.csv"
REFRESH = 20  #: seconds after which an open page of a running study loads itself again


def write_study(folder: Path) -> Study:
    """Write ``study.html`` and ``study.csv`` into the study's folder, and return the study as it was read."""
    study = Study.read(folder)
    settings = study.protocol.settings
    palette = draw.Palette(settings.methods)
    smallest = study.findings.smallest if study.findings else None
    with write_atomically(folder / TABLE) as aside:
        write_csv(make_table(study), aside)
    with write_atomically(folder / PAGE) as aside:
        write_html(
            "study.html.jinja",
            aside,
            study=study,
            settings=settings,
            number=NUMBERS[settings.number],
            palette=palette,
            light=draw.LIGHT,
            dark=draw.DARK,
            plots=draw_plots(study, palette),
            refresh=None if study.is_complete else REFRESH,
            command=make_command(study),
            rows=[_make_row(study, one) for one in (study.findings.methods if study.findings else ())],
            smallest=None if smallest is None else format_size(smallest, settings.number),
            equal=format_size(settings.question.distance or 0.0, settings.number),
            matters=format_size(settings.smallest, settings.number),
            name_method=name_method,
            tax=study.tax,
            tax_names=list_names(study.tax),
            tax_notes=describe_tax(study.tax),
        )
    return study


def make_command(study: Study) -> str:
    """Return the command that made the study, with the keys of its protocol."""
    settings = study.protocol.settings
    own = [f"method={','.join(settings.methods)}", f"study.trials={settings.trials}", f"study.seeds={settings.seeds}"]
    own += [f"study.baseline={settings.baseline}", f"study.difference={settings.difference:g}"]
    own += [f"study.equal_within={settings.equal_within:g}", f"study.widen={settings.widen:g}"]
    own += [f"study.rates=[{settings.rates[0]:g},{settings.rates[1]:g}]", f"seed={study.protocol.seed}"]
    for key, limits in settings.guardrails.items():
        own.append(f"++study.guardrails.{key}={{{','.join(f'{name}:{limit:g}' for name, limit in limits.items())}}}")
    return shlex.join(["python", "-m", "alignzoo", "study", *own, *study.protocol.words])


def _make_row(study: Study, one: Finding) -> dict[str, Any]:
    form, trials = NUMBERS[study.protocol.settings.number].form, study.trials.get(one.method, [])
    chosen = (study.winners or {}).get(one.method)
    values = {} if chosen is None else trials[chosen].values
    numbers = one.row.numbers if one.row else {}
    return {
        "method": one.method,
        "values": ", ".join(f"{key} {value:g}" for key, value in values.items()),
        "value": form.format(one.value),
        "gain": describe_gain(one, study.protocol.settings),
        "verdict": one.verdict or "baseline",
        "may_be_best": one.may_be_best,
        "seeds": one.row.seeds if one.row else 1,
        "beside": {key: NUMBERS[key].form.format(numbers[key].value) for key in BESIDE if key in numbers},
        "loss": study.losses.get(one.method, {}).get("verdict", ""),
        "tuned": sum(trial.seconds for trial in trials),
        "collapsed": one.row.collapsed.full if one.row and one.row.collapsed else "",
    }


BESIDE = ("kl", "answer_tokens", "ended", "distinct_3")  #: numbers that show what the first one may have cost


def make_table(study: Study) -> pd.DataFrame:
    """Return one row for each method of the test: its value, its difference to the baseline, and its verdicts."""
    import pandas as pd

    rows = []
    for one in study.findings.methods if study.findings else ():
        ends = (one.difference.value, one.difference.low, one.difference.high) if one.difference else (None,) * 3
        chosen = (study.winners or {}).get(one.method)
        rows.append(
            {
                "method": one.method,
                "trial": None if chosen is None else chosen + 1,
                "seeds": one.row.seeds if one.row else 1,
                study.protocol.settings.number: one.value,
                **dict(zip(("difference", "difference_low", "difference_high"), ends, strict=True)),
                "verdict": one.verdict or "baseline",
                "may_be_best": one.may_be_best,
                "loss": study.losses.get(one.method, {}).get("verdict", ""),
                **(make_tax_cells(study.tax, one.row.name) if one.row else {}),
            }
        )
    return pd.DataFrame(rows)
