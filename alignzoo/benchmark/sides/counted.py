"""``python -m alignzoo WORDS``; how many sequences its reference passes computed goes into the file named first."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from trl import DPOTrainer

from alignzoo import cli
from alignzoo.speed.scoring import Scorer


def main() -> None:
    """Run the command line, counting alignzoo's own pass and TRL's."""
    file, computed = Path(sys.argv[1]), [0]
    ours, trls = Scorer._batch, DPOTrainer.compute_ref_log_probs

    def counted(scorer: Scorer, batch: Any) -> Any:
        computed[0] += len(batch)
        return ours(scorer, batch)

    def counted_by_trl(trainer: Any, inputs: dict[str, Any]) -> Any:
        computed[0] += len(inputs["input_ids"])
        return trls(trainer, inputs)

    Scorer._batch = counted  # type: ignore[method-assign]
    DPOTrainer.compute_ref_log_probs = counted_by_trl
    try:
        cli.main(sys.argv[2:])
    finally:
        file.write_text(str(computed[0]), encoding="utf-8")


if __name__ == "__main__":
    main()
