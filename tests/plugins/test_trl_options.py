"""No option of TRL's is taken for another loss: the equation agrees, does not cover it, or it is refused beforehand."""

from __future__ import annotations

from typing import Any

import pytest

from alignzoo import UserError
from alignzoo.config.check import check
from alignzoo.config.compose import compose
from alignzoo.plugin.registry import registry
from alignzoo.train.losses.compare import compare

AGREES, OPEN = "agrees", "not covered"

SMOOTHED = "++method.label_smoothing=0.1"
LD, JS, WPO = "++method.ld_alpha=0.3", "++method.f_divergence_type=js_divergence", "++method.use_weighting=true"

#: DPO's loss types, and what is said of each under no option, LD-DPO's, f-DPO's and WPO's; None: it is refused.
LOSS_TYPES: dict[str, tuple[str | None, ...]] = {
    "sigmoid": (AGREES, AGREES, AGREES, AGREES),
    "hinge": (AGREES, AGREES, AGREES, None),
    "ipo": (AGREES, AGREES, OPEN, AGREES),
    f"exo_pair {SMOOTHED}": (AGREES, AGREES, AGREES, AGREES),
    "nca_pair": (AGREES, AGREES, None, AGREES),
    f"robust {SMOOTHED}": (AGREES, AGREES, AGREES, AGREES),
    "bco_pair": (OPEN, OPEN, None, OPEN),
    "sppo_hard": (AGREES, AGREES, None, AGREES),
    "aot": (AGREES, AGREES, None, None),
    f"aot {SMOOTHED}": (OPEN, OPEN, None, None),
    "aot_unpaired": (AGREES, AGREES, None, None),
    "apo_zero": (AGREES, AGREES, None, AGREES),
    "apo_down": (AGREES, AGREES, None, AGREES),
    "discopop": (AGREES, AGREES, AGREES, AGREES),
    "sft": (AGREES, AGREES, AGREES, OPEN),
    "sigmoid_norm": (AGREES, AGREES, OPEN, AGREES),
}

WALK = [
    (f"dpo method.loss_type=[{kind.split()[0]}] {' '.join(kind.split()[1:])} {option}", verdict)
    for kind, verdicts in LOSS_TYPES.items()
    for option, verdict in zip(("", LD, JS, WPO), verdicts, strict=True)
]

ALPHA = "++method.f_divergence_type=alpha_divergence ++method.f_alpha_divergence_coef"

#: Of each kind one, so that each run of the tests has them.
CASES = [
    (f"dpo {ALPHA}=0.3 {LD} {WPO}", AGREES),
    ("dpo method.loss_type=[sigmoid,sft] ++method.loss_weights=[1.0,0.2]", AGREES),
    ("dpo method.loss_type=[sigmoid,bco_pair,sft] ++method.loss_weights=[0.8,0.2,1.0]", OPEN),
    ("dpo ++train.ld_alpha=0.3", AGREES),
    (f"ipo {LD} {WPO} ++method.loss_weights=[2.0]", AGREES),
    ("kto method.desirable_weight=1.5 method.undesirable_weight=0.25 method.beta=0.5", AGREES),
    ("apo_zero_unpaired method.beta=0.5 ++method.precompute_ref_log_probs=false", AGREES),
    ("bco_unpaired method.beta=0.5 ++method.precompute_ref_log_probs=false", AGREES),
    ("sft ++train.label_smoothing_factor=0.1", OPEN),
    ("dft", AGREES),
    ("reward method.center_rewards_coefficient=0.5", AGREES),
    ("reward method.margin=false method.center_rewards_coefficient=null", AGREES),
]

FURTHER = [
    *((f"dpo {ALPHA}={value}", AGREES) for value in (0.5, 1.0, 2.0)),
    ("dpo ++method.f_divergence_type=forward_kl", AGREES),
    ("dpo ++method.loss_weights=[0.5]", AGREES),
    ("dpo ++method.loss_weights=[0.5,0.5]", None),
    (f"dpo ++method.precompute_ref_log_probs=false {LD}", AGREES),
    ("dpo ++method.precompute_ref_log_probs=false ++method.sync_ref_model=true", AGREES),
    ("dpo ++method.sync_ref_model=true", None),
    ("dpo ++method.ld_alpha=1.5", None),
    ("dpo ++method.f_divergence_type=kl", None),
    ("dpo method.loss_type=[exo_pair]", None),
    ("dpo method.loss_type=[robust]", AGREES),
    ("dpo ++train.label_smoothing_factor=0.1", AGREES),
    ("ipo ++method.f_divergence_type=forward_kl", OPEN),
    ("ipo ++method.f_divergence_type=kl", None),
    ("kto ++method.precompute_ref_log_probs=false", AGREES),
    ("kto ++train.label_smoothing_factor=0.1", AGREES),
    ("kto ++method.loss_type=apo_zero_unpaired", None),
    ("apo_zero_unpaired ++method.desirable_weight=2.0", None),
    ("sft ++method.loss_type=dft", None),
    ("sft ++method.packing=true", AGREES),
    ("sft ++method.completion_only_loss=false", AGREES),
    ("sft ++method.assistant_only_loss=true", None),
    ("dft ++train.label_smoothing_factor=0.1", None),
    ("reward ++method.center_rewards_coefficient=0", AGREES),
]


def judge(words: str) -> str | None:
    """Return what is said of a method under these words; None where they are refused before a model is loaded."""
    name, *overrides = words.split()
    try:
        check(compose([f"method={name}", *overrides]))
    except UserError:
        return None
    found: Any = compare(registry().method(name), overrides)
    if found is None:
        return OPEN
    return AGREES if found.agrees else f"differs: {found}"


@pytest.mark.parametrize(("words", "verdict"), CASES)
def test_an_option_is_covered_or_said_not_to_be(words: str, verdict: str) -> None:
    assert judge(words) == verdict


@pytest.mark.zoo
@pytest.mark.parametrize(("words", "verdict"), [*WALK, *FURTHER])
def test_each_option_is_covered_said_not_to_be_or_refused(words: str, verdict: str | None) -> None:
    assert judge(words) == verdict
