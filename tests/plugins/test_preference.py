"""Each method on preference pairs computes its paper's loss: agreement, alterations found, closed forms, limits."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from alignzoo import Batch, PairLoss, Pairs, UserError
from alignzoo.config.check import check
from alignzoo.config.compose import compose
from alignzoo.plugin.batch import Answers
from alignzoo.plugin.pair_loss import Scored
from alignzoo.plugin.registry import registry
from alignzoo.testing.losses.compare import compare
from alignzoo.testing.losses.independence import find_shared

FAMILY: Any = importlib.import_module("alignzoo_plugins.preference")  # by what the entry point names
ALONE = {"dpo", "ipo", "orpo"}  # their cases are in test_losses.py
METHODS = {method.name: method for method in FAMILY.METHODS if method.name not in ALONE}
OWN = sorted(name for name, method in METHODS.items() if issubclass(method, PairLoss))
TRLS = sorted(METHODS.keys() - set(OWN))

#: Settings beside a method's defaults under which its loss takes another form.
SETTINGS: dict[str, dict[str, Any]] = {
    "alphapo": {"alpha": -0.5, "gamma": 1.0},
    "cdpo": {"label_smoothing": 0.4},
    "cpo": {"alpha": 0.0},
    "dpop": {"penalty": 0.5},
    "dr_dpo": {"robustness": 0.2},
    "r_dpo": {"alpha": 1.0},
    "rpo": {"alpha": 0.0},
    "simpo": {"beta": 10.0, "gamma": 0.0},
}


@functools.cache
def compose_method(name: str) -> DictConfig:
    return compose([f"method={name}"])


def configure(name: str, **settings: Any) -> DictConfig:
    """Return the configuration of ``method=name`` with some keys of ``method.*`` set."""
    cfg = compose_method(name).copy()
    cfg.method.update(settings)
    return cfg


def make_batch(
    chosen: Tensor | None = None, rejected: Tensor | None = None, lengths: tuple[tuple[int, int], ...] = ()
) -> Batch:
    """Return four pairs of completions; log-ratios are random, or ``chosen`` and ``rejected`` in nats, (rows,)."""
    dice = torch.Generator().manual_seed(0)
    sizes = lengths or ((3, 9), (7, 2), (12, 6), (4, 5))
    columns = {}
    for place, (name, ratios) in enumerate((("chosen", chosen), ("rejected", rejected))):
        counts = torch.tensor([pair[place] for pair in sizes])
        mask = (torch.arange(int(counts.max()))[None] < counts[:, None]).float()
        reference = -torch.rand(mask.shape, generator=dice) * mask
        shift = torch.randn(mask.shape, generator=dice) if ratios is None else (ratios / counts)[:, None]
        policy = (reference + shift * mask).requires_grad_()
        columns[name] = Answers(policy, reference, policy.detach(), mask)
    return Batch(columns, *(torch.empty(0) for _ in range(3)))


def to_pairs(method: Any, batch: Batch) -> Pairs:
    """Return what the core would hand to the loss: completions behind a prompt, with padding behind them."""

    def score(answers: Answers) -> Scored:
        tokens, mask = (torch.nn.functional.pad(part, (5, 2)) for part in (answers.policy, answers.mask))
        reference = answers.reference.sum(-1)
        return Scored(tokens, mask, reference if method.needs_reference else torch.zeros_like(reference))

    return Pairs(score(batch["chosen"]), score(batch["rejected"]))


def run_loss(name: str, batch: Batch, **settings: Any) -> Tensor:
    """Return the method's loss of the batch; of TRL's losses the equation, with which they agree."""
    method, cfg = METHODS[name], configure(name, **settings)
    loss = method.loss(cfg, to_pairs(method, batch)).mean() if name in OWN else method.equation(cfg, batch)
    assert isinstance(loss, Tensor)
    return loss


def slope(loss: Tensor, batch: Batch) -> Tensor:
    """Return the gradient with respect to the log-probabilities of all tokens, as one vector."""
    sides = [batch[name] for name in ("chosen", "rejected")]
    found = torch.autograd.grad(loss, [side.policy for side in sides])
    return torch.cat([(part * side.mask).flatten() for part, side in zip(found, sides, strict=True)])


def apart(loss: Tensor, equation: Tensor | None, batch: Batch) -> tuple[float, float]:
    """Return the distance of the losses, and that of their gradients, as `verify-losses` measures them."""
    assert equation is not None
    ours, papers = slope(loss, batch), slope(equation, batch)
    value = float((loss - equation).detach().abs() / equation.detach().abs().clamp(min=1))
    return value, float((ours - papers).norm() / papers.norm())


# --- agreement, and alterations that are found -----------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_trainers_loss_is_the_papers(name: str) -> None:
    found = compare(METHODS[name])
    assert found is not None
    assert found.loss < 1e-5
    assert found.gradient < 1e-4  # a tenth of the limit


@pytest.mark.parametrize("name", TRLS)
def test_another_loss_of_trl_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = importlib.import_module("trl").DPOTrainer
    original = trainer.compute_loss

    def altered(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.beta *= 1.01
        return original(self, *args, **kwargs)

    monkeypatch.setattr(trainer, "compute_loss", altered)
    found = compare(METHODS[name])
    assert found is not None
    assert not found.agrees


@pytest.mark.parametrize("name", ["simpo", "bco"])
def test_another_loss_of_a_plugin_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method: Any = METHODS[name]
    original = method.loss.__func__
    monkeypatch.setattr(method, "loss", classmethod(lambda cls, cfg, pairs: 1.001 * original(cls, cfg, pairs)))
    found = compare(method)
    assert found is not None
    assert not found.agrees


@pytest.mark.parametrize(("name", "settings"), [*((name, {}) for name in OWN), *SETTINGS.items()])
def test_loss_and_equation_agree_on_any_batch(name: str, settings: dict[str, Any]) -> None:
    batch = make_batch()
    equation = METHODS[name].equation(configure(name, **settings), batch)
    value, gradient = apart(run_loss(name, batch, **settings), equation, batch)
    assert value < 1e-5
    assert gradient < 1e-5


Alter = Callable[[Pairs], Pairs]


def swap(pairs: Pairs) -> Pairs:
    return Pairs(pairs.rejected, pairs.chosen)


def shorten(pairs: Pairs) -> Pairs:
    """Lose the first token of each completion, as one who shifts by one would."""
    return Pairs(*(cut(side) for side in (pairs.chosen, pairs.rejected)))


def cut(side: Scored) -> Scored:
    kept = side.mask.roll(1, -1) * side.mask
    return Scored(side.token_log_probs * kept, kept, side.reference_log_prob)


def scale(pairs: Pairs) -> Pairs:
    """Scale log-probabilities, as another beta would."""
    return Pairs(*(dataclasses.replace(side, token_log_probs=1.01 * side.token_log_probs) for side in iterate(pairs)))


def iterate(pairs: Pairs) -> Iterator[Scored]:
    yield from (pairs.chosen, pairs.rejected)


@pytest.mark.parametrize("alter", [swap, shorten, scale])
@pytest.mark.parametrize("name", OWN)
def test_an_altered_loss_is_told_from_the_equation(name: str, alter: Alter) -> None:
    method, cfg, batch = METHODS[name], configure(name), make_batch()
    loss = method.loss(cfg, alter(to_pairs(method, batch))).mean()
    value, gradient = apart(loss, method.equation(cfg, batch), batch)
    assert value > 1e-5 or gradient > 1e-3


@pytest.mark.parametrize("kind", ["reverse_kl", "forward_kl", "alpha_divergence"])
def test_each_divergence_of_trl_is_the_papers(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = importlib.import_module("alignzoo.testing.losses.compare").make_words
    set_ = [f"method.f_divergence_type={kind}", "method.f_alpha_divergence_coef=0.3"]
    monkeypatch.setattr("alignzoo.testing.losses.compare.make_words", lambda method: [*words(method), *set_])
    found = compare(METHODS["f_dpo"])
    assert found is not None
    assert found.agrees


def test_loss_and_equation_share_nothing() -> None:
    assert {name: found for name in OWN if (found := find_shared(METHODS[name]))} == {}


# --- closed forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_first_loss_is_that_of_equal_models(name: str) -> None:
    zero = torch.zeros(4)
    expected = METHODS[name].first_loss(configure(name))
    if not METHODS[name].needs_reference or name in ("rpo", "r_dpo"):
        assert expected is None  # depends on likelihoods or lengths
        return
    assert float(run_loss(name, make_batch(zero, zero)).detach()) == pytest.approx(expected, rel=1e-5)


#: Settings of the methods that become DPO, and how near they come.
DPO_AT: dict[str, tuple[dict[str, Any], float]] = {
    "cdpo": ({"label_smoothing": 1e-9}, 1e-6),
    "dpop": ({"penalty": 0.0}, 1e-6),
    "dr_dpo": ({"robustness": 100.0}, 1e-2),
    "f_dpo": ({"f_divergence_type": "reverse_kl"}, 1e-6),
    "ld_dpo": ({"ld_alpha": 1.0}, 1e-6),
    "r_dpo": ({"alpha": 0.0}, 1e-6),
    "rdpo": ({"label_smoothing": 1e-9}, 1e-6),
    "rpo": ({"alpha": 0.0}, 1e-6),
}


@pytest.mark.parametrize("name", DPO_AT)
def test_what_generalises_dpo_becomes_dpo(name: str) -> None:
    batch, (settings, near) = make_batch(), DPO_AT[name]
    dpo = registry().method("dpo").equation(configure("dpo", beta=0.1), batch)
    assert dpo is not None
    value, gradient = apart(run_loss(name, batch, beta=0.1, **settings), dpo, batch)
    assert value < near
    assert gradient < near


def test_alphapo_becomes_simpo_as_alpha_vanishes() -> None:
    batch = make_batch()
    same = {"beta": 2.5, "gamma": 0.3}
    value, _ = apart(run_loss("alphapo", batch, alpha=1e-3, **same), run_loss("simpo", batch, **same), batch)
    assert value < 1e-2


#: The derivative of the loss with respect to beta times the margin, at a margin of 0.
SLOPES = {"dpo": -0.5, "cdpo": -0.4, "rdpo": -0.625, "rso": -1.0, "dr_dpo": -0.5, "aot": -0.5, "dpop": -0.5}


@pytest.mark.parametrize("name", SLOPES)
def test_small_betas_leave_a_line_in_the_margin(name: str) -> None:
    """loss = first loss + slope x beta x margin, as beta goes to 0."""
    beta, chosen, rejected = 1e-3, torch.tensor([1.0, 2.0, 0.5, 3.0]), torch.tensor([0.5, -1.0, 0.25, 1.0])
    batch = make_batch(chosen, rejected)
    method = registry().method(name)
    found, first = method.equation(configure(name, beta=beta), batch), method.first_loss(configure(name))
    assert found is not None
    assert first is not None
    margin = float((chosen - rejected).mean())
    assert (float(found.detach()) - first) / beta == pytest.approx(SLOPES[name] * margin, rel=0.02)


@pytest.mark.parametrize(("name", "sides"), [("ipo", 1), ("sppo", 2)])
def test_a_target_that_is_reached_leaves_no_loss_and_no_gradient(name: str, sides: int) -> None:
    """IPO: the margin per token is 1 / (2 beta). SPPO: each log-ratio is 1 / (2 beta), with its sign."""
    lengths = ((4, 4),) * 4
    target = torch.full((4,), 1 / (2 * 0.5))
    chosen, rejected = (target, -target) if sides == 2 else (4 * target, 0 * target)
    batch = make_batch(chosen, rejected, lengths)
    loss = registry().method(name).equation(configure(name, beta=0.5), batch)
    assert loss is not None
    assert float(loss.detach()) == pytest.approx(0, abs=1e-8)
    assert float(slope(loss, batch).norm()) == pytest.approx(0, abs=1e-4)


def test_cdpo_stops_where_its_labels_are_right() -> None:
    """At a margin of log((1 - e) / e) / beta the gradient is 0, and beyond it turns."""
    margin = math.log(0.9 / 0.1) / 0.1
    at, beyond = (make_batch(torch.full((4,), value), torch.zeros(4)) for value in (margin, margin + 5))
    assert float(slope(run_loss("cdpo", at), at).norm()) == pytest.approx(0, abs=1e-6)
    assert float(slope(run_loss("cdpo", beyond), beyond)[0]) > 0


#: Beta times the margin, and what remains of the loss, as a pair is right beyond doubt.
@pytest.mark.parametrize("name", ["aot", "bco", "dpop", "dr_dpo", "r_dpo", "rso", "dpo_norm"])
def test_a_pair_that_is_right_beyond_doubt_costs_nothing(name: str) -> None:
    far = torch.full((4,), 1e5)
    batch = make_batch(far, -far, ((4, 4),) * 4)
    loss = run_loss(name, batch)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert float(slope(loss, batch).norm()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", OWN)
def test_extreme_margins_leave_losses_and_gradients_finite(name: str, sign: int) -> None:
    far = torch.full((4,), 80.0 * sign)
    batch = make_batch(far, -far)
    loss = run_loss(name, batch)
    assert math.isfinite(float(loss.detach()))
    assert bool(slope(loss, batch).isfinite().all())


# --- what is refused before a model is loaded ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("exo method.label_smoothing=0", r"label_smoothing=0 must be above 0 and below 0\.5 for exo"),
        ("simpo +method.ld_alpha=0.5", r"ld_alpha=0\.5: method=simpo sets it to None\. Leave it out"),
        ("rso +method.use_weighting=true", r"use_weighting=True: method=rso sets it to False\. Leave it out"),
        ("cpo +method.precompute_ref_log_probs=false", r"precompute_ref_log_probs=False: method=cpo sets it to True"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_model_is_loaded(words: str, says: str) -> None:
    name, word = words.split()
    with pytest.raises(UserError, match=says):
        check(compose([f"method={name}", word]))


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("rdpo", {"label_smoothing": 0}, r"label_smoothing=0 must be above 0 and below 0\.5 for rdpo"),
        ("cdpo", {"label_smoothing": 0.5}, r"label_smoothing=0\.5 must be above 0 and below 0\.5 for cdpo"),
        ("f_dpo", {"f_divergence_type": "kl"}, r"f_divergence_type=kl must be one of reverse_kl, forward_kl"),
        ("f_dpo", {"f_alpha_divergence_coef": 1}, r"f_alpha_divergence_coef=1 must be above 0 and below 1"),
        ("ld_dpo", {"ld_alpha": 1.5}, r"ld_alpha=1\.5 must be from 0 to 1"),
        ("discopop", {"discopop_tau": 0}, r"discopop_tau=0 must be above 0"),
        ("alphapo", {"alpha": 0}, r"alpha=0 leaves SimPO"),
        ("cpo", {"alpha": -1}, r"alpha=-1 must be 0"),
        ("rpo", {"alpha": -1}, r"alpha=-1 must be 0"),
        ("r_dpo", {"alpha": -1}, r"length is rewarded"),
        ("dpop", {"penalty": -1}, r"penalty=-1 must be 0"),
        ("dr_dpo", {"robustness": 0}, r"robustness=0 must be above 0"),
        *((name, {"beta": 0}, rf"beta=0 must be above 0: at 0 or below {name} has") for name in sorted(METHODS)),
    ],
)
def test_settings_without_a_meaning_are_refused(name: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        METHODS[name].check(configure(name, **settings))


def test_aot_has_something_to_sort() -> None:
    cfg = configure("aot")
    cfg.train.per_device_batch_size = 1
    with pytest.raises(UserError, match=r"per_device_batch_size must be at least 2 for aot"):
        METHODS["aot"].check(cfg)
