"""Each method on preference pairs computes its paper's loss: agreement, alterations found, closed forms, limits."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pairs import METHODS, OWN, TRLS, apart, configure, make_batch, run_loss, slope, to_pairs

from alignzoo import Pairs, UserError
from alignzoo.config.check import check
from alignzoo.config.compose import compose
from alignzoo.plugin.pair_loss import Scored
from alignzoo.plugin.registry import registry
from alignzoo.train.losses.compare import compare
from alignzoo.train.losses.independence import find_shared

#: Settings beside a method's defaults under which its loss takes another form.
SETTINGS: dict[str, dict[str, Any]] = {
    "alphapo": {"alpha": -0.5, "gamma": 1.0},
    "cal_dpo": {"beta": 0.1, "calibration": 2.0},
    "cdpo": {"label_smoothing": 0.4},
    "chipo": {"clip": 1.0},
    "cpo": {"alpha": 0.0},
    "dpo_shift": {"beta": 0.1, "shift": 0.5},
    "dpop": {"penalty": 0.5},
    "dr_dpo": {"robustness": 0.2},
    "focalpo": {"gamma": 1.0},
    "mpo": {"quality_weight": 0.0, "generation_weight": 0.5},
    "odpo": {"alpha": 0.5},
    "r_dpo": {"alpha": 1.0},
    "rpo": {"alpha": 0.0},
    "simpo": {"beta": 10.0, "gamma": 0.0},
    "tpo": {"beta": 1.0, "alpha": 0.05},
}


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
    return dataclasses.replace(pairs, chosen=pairs.rejected, rejected=pairs.chosen)


def shorten(pairs: Pairs) -> Pairs:
    """Lose the first token of each completion, as one who shifts by one would."""
    return dataclasses.replace(pairs, chosen=cut(pairs.chosen), rejected=cut(pairs.rejected))


def cut(side: Scored) -> Scored:
    kept = side.mask.roll(1, -1) * side.mask
    return dataclasses.replace(side, token_log_probs=side.token_log_probs * kept, mask=kept)


def scale(pairs: Pairs) -> Pairs:
    """Scale log-probabilities, as another beta would."""
    sides = {name: getattr(pairs, name) for name in ("chosen", "rejected")}
    scaled = {
        name: dataclasses.replace(side, token_log_probs=1.01 * side.token_log_probs) for name, side in sides.items()
    }
    return dataclasses.replace(pairs, **scaled)


@pytest.mark.parametrize("alter", [swap, shorten, scale])
@pytest.mark.parametrize("name", OWN)
def test_an_altered_loss_is_told_from_the_equation(name: str, alter: Alter) -> None:
    method, cfg, batch = METHODS[name], configure(name), make_batch()
    loss = method.loss(cfg, alter(to_pairs(method, batch))).mean()
    value, gradient = apart(loss, method.equation(cfg, batch), batch)
    assert value > 1e-5 or gradient > 1e-3


@pytest.mark.parametrize("kind", ["reverse_kl", "forward_kl", "alpha_divergence"])
def test_each_divergence_of_trl_is_the_papers(kind: str) -> None:
    set_ = [f"method.f_divergence_type={kind}", "method.f_alpha_divergence_coef=0.3"]
    found = compare(METHODS["f_dpo"], set_)
    assert found is not None
    assert found.agrees


def test_loss_and_equation_share_nothing() -> None:
    assert {name: found for name in OWN if (found := find_shared(METHODS[name]))} == {}


# --- closed forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_first_loss_is_that_of_equal_models(name: str) -> None:
    zero = torch.zeros(4)
    expected = METHODS[name].first_loss(configure(name))
    if not METHODS[name].needs_reference or name in ("mpo", "odpo", "rpo", "r_dpo", "wpo"):
        assert expected is None  # depends on likelihoods or lengths
        return
    assert float(run_loss(name, make_batch(zero, zero)).detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"discopop"}))
def test_an_update_at_equal_models_widens_the_margin(name: str) -> None:
    """Down the gradient with respect to the tokens' log-probabilities.

    DiscoPOP's loss is not monotonous there: its slope in beta times the margin is -3/4 + (1 - log 2) / (4 tau), 0.78.
    """
    batch = make_batch(torch.zeros(4), torch.zeros(4))
    sides = [batch["chosen"], batch["rejected"]]
    slopes = torch.autograd.grad(run_loss(name, batch), [side.policy for side in sides])
    chosen, rejected = (-(part * side.mask).sum() for part, side in zip(slopes, sides, strict=True))
    assert float(chosen) > float(rejected)


#: Settings of the methods that become DPO, and how near they come.
DPO_AT: dict[str, tuple[dict[str, Any], float]] = {
    "cdpo": ({"label_smoothing": 1e-9}, 1e-6),
    "dpo_shift": ({"shift": 1.0}, 1e-6),
    "dpop": ({"penalty": 0.0}, 1e-6),
    "dr_dpo": ({"robustness": 100.0}, 1e-2),
    "f_dpo": ({"f_divergence_type": "reverse_kl"}, 1e-6),
    "focalpo": ({"gamma": 0.0}, 1e-6),
    "ld_dpo": ({"ld_alpha": 1.0}, 1e-6),
    "mpo": ({"preference_weight": 1.0, "quality_weight": 0.0, "generation_weight": 0.0}, 1e-6),
    "odpo": ({"alpha": 0.0}, 1e-6),
    "r_dpo": ({"alpha": 0.0}, 1e-6),
    "rdpo": ({"label_smoothing": 1e-9}, 1e-6),
    "rpo": ({"alpha": 0.0}, 1e-6),
    "tr_dpo": ({}, 1e-6),
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
@pytest.mark.parametrize(
    "name", ["aot", "bco", "chipo", "dpo_norm", "dpo_shift", "dpop", "dr_dpo", "focalpo", "r_dpo", "rso"]
)
def test_a_pair_that_is_right_beyond_doubt_costs_nothing(name: str) -> None:
    far = torch.full((4,), 1e5)
    batch = make_batch(far, -far, ((4, 4),) * 4)
    loss = run_loss(name, batch)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert float(slope(loss, batch).norm()) == pytest.approx(0, abs=1e-6)


def test_chipo_moves_twice_as_fast_as_dpo_from_the_start_and_beyond_its_bound_not_at_all() -> None:
    """The derivative of u + log u with respect to log u is u + 1: 2 where the models are equal."""
    start, beyond = make_batch(torch.zeros(4), torch.zeros(4)), make_batch(torch.full((4,), 2.0), torch.zeros(4))
    dpo = registry().method("dpo").equation(configure("dpo", beta=0.1), start)
    assert dpo is not None
    ours, theirs = slope(run_loss("chipo", start, beta=0.1), start), slope(dpo, start)
    assert torch.allclose(ours, 2 * theirs, atol=1e-6)
    margin = 0.1 * (2 + math.exp(2) - 1)
    assert float(slope(run_loss("chipo", beyond, clip=margin + 0.01), beyond).norm()) > 0
    assert float(slope(run_loss("chipo", beyond, clip=margin - 0.01), beyond).norm()) == 0


def test_focalpo_turns_where_the_probability_is_exp_of_minus_one_over_gamma() -> None:
    """-p^g log p has its largest value there."""
    gamma, beta = 0.5, 0.1
    turn = math.log(math.exp(-1 / gamma) / (1 - math.exp(-1 / gamma))) / beta
    slopes = []
    for margin in (turn + 1, turn, turn - 1):
        batch = make_batch(torch.full((4,), margin), torch.zeros(4))
        slopes.append(float(slope(run_loss("focalpo", batch, beta=beta, gamma=gamma), batch)[0]))
    assert slopes[0] < 0 < slopes[2]
    assert slopes[1] == pytest.approx(0, abs=1e-7)


def test_cal_dpo_calibrates_to_its_targets_and_orders_beside_it() -> None:
    """At the targets what is left is -log sigmoid(1 / beta), the order of the pair."""
    target = torch.full((4,), 1 / (2 * 0.5))
    batch = make_batch(target, -target)
    assert float(run_loss("cal_dpo", batch, beta=0.5).detach()) == pytest.approx(math.log1p(math.exp(-2)), rel=1e-5)


def test_dpo_shift_lifts_the_chosen_completion_more_than_it_lowers_the_rejected_one() -> None:
    batch = make_batch(torch.zeros(4), torch.zeros(4), ((4, 4),) * 4)
    chosen, rejected, _ = slope(run_loss("dpo_shift", batch, shift=0.6), batch).split([16, 16, 24])
    assert torch.allclose(rejected, -0.6 * chosen)
    assert bool((chosen < 0).all())


def test_odpo_asks_for_a_margin_that_grows_with_the_logarithm_of_the_difference_in_score() -> None:
    """Where beta times the margin is alpha times its logarithm, the loss is log 2; at a difference of 1, DPO's."""
    scores = torch.tensor([0.5, 1.5, 4.0, 2.5])  # those of make_batch
    batch = make_batch(2 * scores.log() / 0.5, torch.zeros(4))
    assert float(run_loss("odpo", batch, beta=0.5, alpha=2.0).detach()) == pytest.approx(math.log(2), rel=1e-5)
    one = dataclasses.replace(make_batch(), margins=torch.ones(4))
    dpo = registry().method("dpo").equation(configure("dpo", beta=0.5), one)
    assert dpo is not None
    assert apart(run_loss("odpo", one, beta=0.5), dpo, one)[0] < 1e-6


def test_odpo_refuses_pairs_without_a_margin_above_0() -> None:
    from datasets import Dataset

    rows = Dataset.from_list([{"id": "a", "margin": 1.0}, {"id": "b", "margin": 0.0}, {"id": "c", "margin": -1.0}])
    with pytest.raises(UserError, match=r"2 of 3 pairs have none above 0, as b\.\n.* method=dpo"):
        METHODS["odpo"].check_rows(configure("odpo"), rows)


def test_sampo_of_completions_of_one_length_is_dpo_and_of_others_keeps_as_many_tokens() -> None:
    batch = make_batch(lengths=((4, 4), (7, 7), (2, 2), (5, 5)))
    dpo = registry().method("dpo").equation(configure("dpo", beta=0.1), batch)
    value, gradient = apart(run_loss("sampo", batch, beta=0.1), dpo, batch)
    assert value < 1e-6
    assert gradient < 1e-5
    uneven = make_batch()
    slopes = slope(run_loss("sampo", uneven), uneven)
    assert int((slopes != 0).sum()) == 2 * (3 + 2 + 6 + 4)


def test_sampo_draws_by_the_numbers_that_it_is_given() -> None:
    batch = make_batch()
    chosen = dataclasses.replace(batch["chosen"], draws=batch["chosen"].mask - batch["chosen"].draws)
    other = dataclasses.replace(batch, columns={**batch.columns, "chosen": chosen})
    assert float(run_loss("sampo", batch).detach()) != pytest.approx(float(run_loss("sampo", other).detach()), rel=1e-4)


def test_wpo_weighs_dpo_by_how_likely_the_policy_is_to_write_the_pair() -> None:
    """With sum p^2 = p at each token the weights are 1; tokens half as likely as that halve each weight."""
    batch = make_batch()
    columns = {
        name: dataclasses.replace(side, log_sum_squares=side.policy.detach()) for name, side in batch.columns.items()
    }
    dpo = registry().method("dpo").equation(configure("dpo", beta=0.01), batch)
    assert dpo is not None
    same = dataclasses.replace(batch, columns=columns)
    assert apart(run_loss("wpo", same), dpo, same)[0] < 1e-6
    half = {
        n: dataclasses.replace(s, log_sum_squares=s.policy.detach() + math.log(2) * s.mask) for n, s in columns.items()
    }
    found = run_loss("wpo", dataclasses.replace(batch, columns=half))
    assert float(found.detach()) == pytest.approx(float(dpo.detach()) / 4, rel=1e-5)


def test_tpo_is_cpos_contrast_and_the_likelihood_of_gold() -> None:
    batch = make_batch()
    cpo = run_loss("cpo", batch, beta=0.1, alpha=0.0)
    found = run_loss("tpo", batch, beta=0.1, alpha=2.0)
    gold = batch["gold"]
    assert float((found - cpo).detach()) == pytest.approx(
        float((-2 * gold.policy.sum() / gold.mask.sum()).detach()), rel=1e-5
    )


def test_mpo_is_the_weighted_sum_of_its_parts() -> None:
    batch = make_batch()
    parts = [("preference_weight", "dpo"), ("quality_weight", "bco"), ("generation_weight", "rpo")]
    weights = {"preference_weight": 0.5, "quality_weight": 0.25, "generation_weight": 2.0}
    dpo = registry().method("dpo").equation(configure("dpo", beta=0.1), batch)
    assert dpo is not None
    found = {"dpo": dpo, "bco": run_loss("bco", batch, beta=0.1), "rpo": run_loss("rpo", batch, beta=0.1) - dpo}
    expected = sum(weights[weight] * found[part] for weight, part in parts)
    assert float((run_loss("mpo", batch, beta=0.1, **weights) - expected).detach()) == pytest.approx(0, abs=1e-5)


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
        ("dpo method.loss_type=[exo_pair]", r"label_smoothing=0 must be above 0 .* method=exo sets it"),
        ("dpo +method.loss_weights=[1.0,0.5]", r"it takes one weight for each of sigmoid"),
        ("dpo +method.f_divergence_type=kl", r"f_divergence_type=kl must be one of reverse_kl"),
        ("dpo method.loss_type=[nca_pair] +method.f_divergence_type=forward_kl", r"the loss nca_pair has no such form"),
        ("dpo method.loss_type=[aot] +method.use_weighting=true", r"weighs pairs, and aot sorts them"),
        ("dpo method.loss_type=[discopop] +method.discopop_tau=0", r"discopop_tau=0 must be above 0"),
        ("dpo +method.sync_ref_model=true", r"Use method=tr_dpo, or add method\.precompute_ref_log_probs=false"),
        (
            "dpo +method.sync_ref_model=true method.precompute_ref_log_probs=false peft=lora",
            r"TRL moves no reference beside an adapter\. Use method=tr_dpo",
        ),
        ("ipo +method.f_divergence_type=kl", r"f_divergence_type=kl must be one of reverse_kl"),
        ("ipo +method.sync_ref_model=true", r"Use method=tr_dpo"),
        ("rso +method.sync_ref_model=true", r"sync_ref_model=True: method=rso sets it to False\. Leave it out"),
        ("bco +method.sync_ref_model=true", r"sync_ref_model=True: method=bco sets it to False\. Leave it out"),
        (
            "sampo +method.precompute_ref_log_probs=true",
            r"precompute_ref_log_probs=True: method=sampo sets it to False",
        ),
        ("simpo peft=lora peft.target_modules=[q_proj,lm_head]", r"peft\.target_modules: method=simpo .* lm_head out"),
        ("cpo +method.precompute_ref_log_probs=false", r"precompute_ref_log_probs=False: method=cpo sets it to True"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_model_is_loaded(words: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        check(compose(f"method={words}".split()))


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
        ("cal_dpo", {"calibration": -1}, r"calibration=-1 must be 0"),
        ("chipo", {"clip": 0}, r"clip=0 must be above 0, or null"),
        ("dpo_shift", {"shift": 1.5}, r"shift=1\.5 must be above 0 and at most 1"),
        ("dpop", {"penalty": -1}, r"penalty=-1 must be 0"),
        ("focalpo", {"gamma": 1.5}, r"gamma=1\.5 must be from 0 \(DPO\) to below 1\.44 for focalpo"),
        ("odpo", {"alpha": -1}, r"alpha=-1 must be 0"),
        (
            "tr_dpo",
            {"ref_model_mixup_alpha": 0},
            r"ref_model_mixup_alpha=0 must be above 0 \(plain DPO\)",
        ),
        ("tr_dpo", {"ref_model_sync_steps": 0}, r"ref_model_sync_steps=0 must be at least 1"),
        ("tpo", {"alpha": 0}, r"alpha=0 must be above 0. Without gold answers: method=cpo"),
        ("mpo", {"generation_weight": -1}, r"generation_weight=-1 must be 0"),
        ("mpo", {"preference_weight": 0, "quality_weight": 0}, r"are both 0: use method=sft"),
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
