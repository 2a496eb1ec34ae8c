"""Groups of sampled answers: compared with each other, and whole in a batch."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from alignzoo import UserError, check_groups
from alignzoo.plugin.registry import registry


@pytest.mark.parametrize(
    ("group", "batch", "said"),
    [
        (1, 4, "method.num_generations=1 must be at least 2: a completion is compared with its group."),
        (0, 4, "method.num_generations=0 must be at least 2: a completion is compared with its group."),
        (3, 4, "train.global_batch_size=4 must be a multiple of method.num_generations=3: a batch holds whole groups."),
        (8, 4, "train.global_batch_size=4 must be a multiple of method.num_generations=8: a batch holds whole groups."),
    ],
)
def test_what_cannot_be_compared_is_refused(group: int, batch: int, said: str) -> None:
    with pytest.raises(UserError) as found:
        check_groups(OmegaConf.create({"method": {"num_generations": group}, "train": {"global_batch_size": batch}}))
    assert str(found.value) == said


@pytest.mark.parametrize(("group", "batch"), [(2, 2), (2, 4), (4, 4), (4, 16)])
def test_whole_groups_are_accepted(group: int, batch: int) -> None:
    check_groups(OmegaConf.create({"method": {"num_generations": group}, "train": {"global_batch_size": batch}}))


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_methods_with_groups_ask_for_it(method: str) -> None:
    cfg = OmegaConf.create({"method": {"num_generations": 3, "beta": 0.0}, "train": {"global_batch_size": 4}})
    with pytest.raises(UserError, match="whole groups"):
        registry().method(method).check(cfg)
