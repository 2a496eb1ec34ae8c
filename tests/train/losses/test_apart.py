"""``train.verify`` says in one line that a run's loss is its paper's, and stops a run whose loss is another."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from inprocess import call

from alignzoo import UserError
from alignzoo.config.check import check
from alignzoo.config.checked import Checked
from alignzoo.config.compose import compose
from alignzoo.train.losses import apart
from alignzoo.train.losses.apart import require_agreement
from alignzoo.train.losses.compare import Comparison
from alignzoo.train.losses.verdict import AGREES, BROKEN, DIFFERS, OPEN, Verdict

CODE = '''
from alignzoo import PairLoss, hookimpl

class Own(PairLoss):
    """Own (nobody, 2030)."""
    name = "own_wrong"

    @classmethod
    def loss(cls, cfg, pairs):
        return pairs.rejected.log_prob - pairs.chosen.log_prob

    @classmethod
    def equation(cls, cfg, batch):
        "Nobody, 2030, equation 1."
        return 2 * (batch["rejected"].policy.sum(-1) - batch["chosen"].policy.sum(-1)).mean()

@hookimpl
def alignzoo_methods():
    return [Own]

@hookimpl
def alignzoo_config_packages():
    return ["own_wrong.conf"]
'''


@pytest.mark.slow
def test_a_run_whose_loss_is_another_is_stopped(fake_package: Callable[..., None]) -> None:
    fake_package("own_wrong", CODE, {"method/own_wrong.yaml": "name: own_wrong\nlearning_rate: 1e-6\n"})
    with pytest.raises(UserError, match=r"train\.verify: own_wrong differs from its equation .*\n.*mending either"):
        require_agreement(check(compose(["method=own_wrong"])))


@pytest.mark.slow
def test_a_run_whose_loss_agrees_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    require_agreement(check(compose(["method=kto", "method.beta=0.3"])))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("train.verify: kto agrees with Ethayarajh et al., 2024, equations 7 and 8 (loss 0.5")


FOUND = Comparison(0.5, 0.75, 0.1)

VERDICTS = {
    AGREES: Verdict("dpo", AGREES, "A paper", found=Comparison(0.5, 0.5, 1e-7)),
    OPEN: Verdict("dpo", OPEN, "A paper", "the equation does not cover method.x=1"),
}


@pytest.mark.parametrize("kind", VERDICTS)
def test_a_verdict_that_lets_it_train_is_one_line(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(apart, "_verify", lambda checked: VERDICTS[kind])
    require_agreement(check(compose(["method=dpo"])))
    (line,) = capsys.readouterr().out.splitlines()
    assert line in (
        "train.verify: dpo agrees with A paper (loss 0.500000 and 0.500000, gradients 1.0e-07 apart)",
        "train.verify: dpo not verified: the equation does not cover method.x=1",
    )


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        (Verdict("dpo", DIFFERS, "A paper", found=FOUND), r"dpo differs from its equation \(loss 0\.500000 and 0\.75"),
        (Verdict("dpo", BROKEN, "A paper", "ValueError: x"), r"dpo could not be compared: ValueError: x"),
    ],
)
def test_a_verdict_that_stops_it(verdict: Verdict, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "_verify", lambda checked: verdict)
    with pytest.raises(UserError, match=says):
        require_agreement(check(compose(["method=dpo"])))


def test_a_run_is_compared_before_anything_else_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(checked: Checked) -> None:
        raise UserError(f"refused {checked.method.name}")

    monkeypatch.setattr("alignzoo.launch.launch.require_agreement", refuse)
    monkeypatch.setattr("alignzoo.launch.launch.reserve_gpus", lambda *args: pytest.fail("a GPU was reserved"))
    done = call("method=dpo", "model=tiny", "train.verify=true")
    assert (done.code, done.err.strip()) == (1, "alignzoo: refused dpo")
