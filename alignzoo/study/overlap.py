"""Says how many rows would have been trained on although their prompts are in the test, and were left out."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from alignzoo.data import manifest
from alignzoo.study.members import Member

SIDES = {"held out": "test", "for validation": "validation"}  #: as the manifest's reasons end -> as the page says


def describe_overlap(members: Sequence[Member]) -> list[str]:
    """Return a note for each side whose prompts, or near-equal ones, were among the rows to train on."""
    run = next((member.run for member in members if member.run and member.run.is_finished), None)
    if run is None:
        return []
    with contextlib.suppress(OSError, ValueError, KeyError):  # the manifest is gone or damaged
        reasons = manifest.reasons(manifest.read(run.folder))
        found = []
        for end, side in SIDES.items():
            near = sum(count for reason, count in reasons.items() if "near-equal" in reason and reason.endswith(end))
            every = sum(count for reason, count in reasons.items() if "its " in reason and reason.endswith(end)) + near
            if every:
                reworded = f" ({near} of them reworded)" if near else ""
                found.append(f"{every} rows to train on{reworded} have prompts of the {side} rows, and were left out.")
        return found
    return []
