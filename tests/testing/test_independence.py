"""A loss and an equation that are one function are refused, however they share it; those that are two are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from alignzoo.cli.verify_losses import BROKEN, verify
from alignzoo.plugin.registry import Registry, registry
from alignzoo.testing import NotConforming, training
from alignzoo.train.losses.independence import find_shared

#: A method on pairs; the body gives loss and equation.
CODE = '''
from alignzoo import PairLoss, hookimpl
from torch.nn.functional import softplus

def shrink(margin):
    return softplus(-margin).mean()

def shrink_more(margin):
    return shrink(2 * margin)

class Fake(PairLoss):
    """Fake (nobody, 2030), https://arxiv.org/abs/2030.00000."""
    name = "fake_pairs"
{body}

@hookimpl
def alignzoo_methods():
    return [Fake]

@hookimpl
def alignzoo_config_packages():
    return ["fake_pairs.conf"]
'''

OPTION = "name: fake_pairs\nlearning_rate: 1e-6\n"

LOSS = """
    @classmethod
    def loss(cls, cfg, pairs):
        return softplus(pairs.rejected.log_prob - pairs.chosen.log_prob)
"""

EQUATION = """
    @classmethod
    def equation(cls, cfg, batch):
        "Nobody, 2030, equation 1."
        return {value}
"""

MARGIN = "batch['chosen'].policy.sum(-1) - batch['rejected'].policy.sum(-1)"

SHARING = {
    "the same function": (
        "    @classmethod\n    def loss(cls, cfg, pairs):\n        return shrink(pairs)\n    equation = loss\n",
        "one function",
    ),
    "the loss in the equation": (LOSS + EQUATION.format(value="cls.loss(cfg, batch)"), "share Fake.loss"),
    "the equation in the loss": (
        "    @classmethod\n    def loss(cls, cfg, pairs):\n        return cls.equation(cfg, pairs)\n"
        + EQUATION.format(value="0"),
        "share Fake.equation",
    ),
    "a function of the module": (
        "    @classmethod\n    def loss(cls, cfg, pairs):\n        return shrink(pairs.chosen.log_prob)\n"
        + EQUATION.format(value=f"shrink({MARGIN})"),
        "share shrink",
    ),
    "a function that another calls": (
        "    @classmethod\n    def loss(cls, cfg, pairs):\n        return shrink(pairs.chosen.log_prob)\n"
        + EQUATION.format(value=f"shrink_more({MARGIN})"),
        "share shrink",
    ),
    "a function within a generator": (
        "    @classmethod\n    def loss(cls, cfg, pairs):\n        return shrink(pairs.chosen.log_prob)\n"
        + EQUATION.format(value="sum(shrink(batch[name].policy) for name in batch.columns)"),
        "share shrink",
    ),
    "a method of the class": (
        "    @classmethod\n    def part(cls, x):\n        return x\n"
        "    @classmethod\n    def loss(cls, cfg, pairs):\n        return cls.part(pairs.chosen.log_prob)\n"
        + EQUATION.format(value=f"cls.part({MARGIN})"),
        "share Fake.part",
    ),
}

Install = Callable[[str], Any]


@pytest.fixture
def fake(fake_package: Callable[..., None]) -> Install:
    """Install a method with this body, and return it."""

    def install(body: str) -> Any:
        fake_package("fake_pairs", CODE.format(body=body), {"method/fake_pairs.yaml": OPTION})
        return registry().method("fake_pairs")

    return install


@pytest.mark.parametrize("case", SHARING)
def test_what_is_shared_is_named(fake: Install, case: str) -> None:
    body, says = SHARING[case]
    found = find_shared(fake(body))
    assert found is not None
    assert found.endswith(says)


def test_functions_of_a_library_may_be_shared(fake: Install) -> None:
    assert find_shared(fake(LOSS + EQUATION.format(value=f"softplus(-({MARGIN})).mean()"))) is None


def test_a_trls_loss_is_not_asked(fake: Install) -> None:
    assert find_shared(registry().method("dpo")) is None


def test_the_kit_and_the_command_refuse_it(fake: Install) -> None:
    method = fake(SHARING["the loss in the equation"][0])
    with pytest.raises(NotConforming, match=r"fake_pairs: its loss and its equation share Fake\.loss"):
        training.check_equation(method)
    (verdict,) = verify(["fake_pairs"])
    assert (verdict.verdict, verdict.equation) == (BROKEN, "Nobody, 2030, equation 1")
    assert verdict.reason == "its loss and its equation share Fake.loss: write the equation anew, from the paper"


def test_a_loss_that_is_not_its_equation_is_the_plugins(fake: Install, capsys: pytest.CaptureFixture[str]) -> None:
    from alignzoo.cli import run_command

    fake(LOSS + EQUATION.format(value=f"2 * softplus(-({MARGIN})).mean()"))
    assert run_command(["verify-losses", "fake_pairs"]) == 1
    out = capsys.readouterr().out
    assert "The plugin's loss is another than its equation: fake_pairs." in out
    assert "computes another loss than the paper's" not in out


def test_a_method_without_a_loss_is_left_out(fake_package: Callable[..., None]) -> None:
    fake_package("fake_pairs", CODE.format(body=EQUATION.format(value="0")), {"method/fake_pairs.yaml": OPTION})
    found = Registry()
    assert "fake_pairs" not in found.methods
    assert "Fake, which lacks loss" in str(found.plugins["fake_pairs"].problem)
