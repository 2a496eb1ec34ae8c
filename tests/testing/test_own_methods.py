"""The first-party methods keep the contract that a third party's has to keep."""

from __future__ import annotations

from alignzoo.plugin.registry import Registry
from alignzoo.testing import Conformance, conformance

TestDPO = conformance("dpo")
TestIPO = conformance("ipo")
TestKTO = conformance("kto")
TestORPO = conformance("orpo")
TestGRPO = conformance("grpo")
TestSFT = conformance("sft")
TestRLOO = conformance("rloo")
TestReward = conformance("reward")


def test_every_first_party_method_is_among_these() -> None:
    tested = {cls.name for cls in globals().values() if isinstance(cls, type) and hasattr(cls, "name")}
    own = {name for name, (_, plugin) in Registry().methods.items() if plugin.module.startswith("alignzoo_plugins.")}
    assert tested == own
    assert not hasattr(Conformance, "name")
