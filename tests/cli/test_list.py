"""``list``: options of each group with the distribution and version that they come from."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable

import pytest

from alignzoo.cli import run_command


def test_options_and_distributions_are_listed_with_versions(
    fake_package: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    code = 'from alignzoo import hookimpl\n@hookimpl\ndef alignzoo_config_packages(): return ["fake_data.conf"]\n'
    fake_package("fake_data", code, {"dataset/theirs.yaml": "name: theirs\n", "odd/one.yaml": "a: 1\n"})
    assert run_command(["list"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    own = ["alignzoo", importlib.metadata.version("alignzoo")]
    (dataset,) = [row for row in rows if row[:2] == ["dataset", "capybara,"]]
    assert dataset[-2:] == own
    assert ["theirs", "fake_data", "1.0"] in rows
    assert ["odd", "one", "fake_data", "1.0"] in rows
    assert ["fake_data", "1.0", "fake_data"] in rows
    assert any(row[:3] == [*own, "distillation,"] for row in rows)
