"""The first-party methods keep the contract that a third party's has to keep."""

from __future__ import annotations

from inprocess import SEED

from alignzoo.plugin.registry import Registry
from alignzoo.testing import Conformance, conformance

TestDPO = conformance("dpo", SEED)
TestIPO = conformance("ipo", SEED)
TestKTO = conformance("kto", SEED)
TestORPO = conformance("orpo", SEED)
TestGRPO = conformance("grpo", SEED)
TestSFT = conformance("sft", SEED)
TestRLOO = conformance("rloo", SEED)
TestReward = conformance("reward", SEED)


def test_every_first_party_method_is_among_these() -> None:
    tested = {cls.name for cls in globals().values() if isinstance(cls, type) and hasattr(cls, "name")}
    own = {name for name, (_, plugin) in Registry().methods.items() if plugin.module.startswith("alignzoo_plugins.")}
    assert tested == own
    assert not hasattr(Conformance, "name")
