"""A training stops early enough before its deadline for the next step and the save."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerControl

from alignzoo.system.signals import ReceivedSignal
from alignzoo.train.stop import SAFETY, StopAtStepEnd


@pytest.mark.parametrize(
    ("left", "step", "save", "stops"),
    [
        (100.0, 10.0, 10.0, False),
        (SAFETY * 20.0 - 1, 10.0, 10.0, True),
        (100.0, 10.0, 100.0 / SAFETY - 9, True),  # for the save alone
        (100.0, 100.0 / SAFETY - 9, 10.0, True),  # for the next step alone
        (-1.0, 0.0, 0.0, True),
        (None, 10.0, 10.0, False),
    ],
)
def test_the_next_step_and_the_save_must_fit(left: float | None, step: float, save: float, stops: bool) -> None:
    deadline = None if left is None else time.time() + left
    saving: Any = SimpleNamespace(estimate_seconds=lambda: save)
    preempt = StopAtStepEnd(ReceivedSignal(), saving, deadline)
    preempt.longest = step
    control = TrainerControl()
    preempt.on_step_begin(None, None, control)
    preempt.on_step_end(SimpleNamespace(device="cpu"), None, control)
    assert (control.should_training_stop, control.should_save) == (stops, stops)
    assert preempt.reason == ("train.stop_before" if stops else None)
