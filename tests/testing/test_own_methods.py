"""The first-party methods keep the contract that a third party's has to keep.

Of methods that differ by their loss alone, one is checked in each run, and `nox -s zoo` checks all.
"""

from __future__ import annotations

import pytest
from inprocess import SEED

from alignzoo.plugin.registry import Registry, registry
from alignzoo.testing import Conformance, conformance

TestDPO = conformance("dpo", SEED)
TestIPO = conformance("ipo", SEED)
TestKTO = conformance("kto", SEED)
TestORPO = conformance("orpo", SEED)
TestGRPO = conformance("grpo", SEED)
TestSFT = conformance("sft", SEED)
TestRLOO = conformance("rloo", SEED)
TestReward = conformance("reward", SEED)
TestSimPO = conformance("simpo", SEED)
TestGKD = conformance("gkd", SEED, ranks=False)
TestDFT = pytest.mark.zoo(conformance("dft", SEED, falls=False))

#: Words without which a method cannot pass: `tiny` never ends a completion, PPO resumes where a round begins, and
#: TR-DPO's reference moves within the few steps.
WORDS = {
    "dapo": ("method.mask_truncated_completions=false",),
    "ppo": ("method.generation_batch_size=${train.global_batch_size}", "method.num_iterations=2"),
    "tr_dpo": ("method.ref_model_sync_steps=2", "method.ref_model_mixup_alpha=0.05"),
}

OWN = {name for name, (_, plugin) in Registry().methods.items() if plugin.module.startswith("alignzoo_plugins.")}
FULL = {cls.name for cls in list(globals().values()) if isinstance(cls, type) and hasattr(cls, "name")}

#: Methods that imitate a teacher, and come to rank as it does.
TAUGHT = {name for name in OWN if registry().method(name).uses_teacher}

for name in sorted(OWN - FULL):
    globals()[f"Test_{name}"] = pytest.mark.zoo(conformance(name, SEED, *WORDS.get(name, ()), ranks=name not in TAUGHT))


def test_every_first_party_method_is_among_these() -> None:
    tested = {cls.name for cls in globals().values() if isinstance(cls, type) and hasattr(cls, "name")}
    assert tested == OWN
    assert not hasattr(Conformance, "name")
