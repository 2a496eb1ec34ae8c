"""Says what a run that is ended by Ctrl-C leaves behind, and how to go on."""

from __future__ import annotations

from pathlib import Path

from alignzoo.runs import checkpoint
from alignzoo.runs.folder import Run
from alignzoo.runs.generation import is_generation


def describe_remains(folder: Path, resume_command: str) -> str:
    """Return in one line what ``folder`` keeps of a run that has no result, and what to type next."""
    if is_generation(folder):
        return f"the answers sampled so far are kept in the cache. To resume: {resume_command}"
    if (folder / "model").is_dir():
        return f"the trained model is kept: python -m alignzoo evaluate {folder}"
    steps = [int(path.name.removeprefix(checkpoint.PREFIX)) for path in _list_checkpoints(folder)]
    if steps:
        return f"checkpoint {max(steps):,} is kept. To resume: {resume_command}"
    history = Run(folder).history
    if history:
        return (
            f"the metrics up to step {history[-1].get('step', 0):,} are kept in {folder}, and no checkpoint, which "
            "train.save_strategy=steps saves on the way, and SIGTERM. The same command begins anew."
        )
    return "nothing was trained yet, and nothing is kept. The same command begins anew."


def _list_checkpoints(folder: Path) -> list[Path]:
    found = (folder / "checkpoints").glob(f"{checkpoint.PREFIX}*")
    return [path for path in found if path.name.removeprefix(checkpoint.PREFIX).isdigit()]
