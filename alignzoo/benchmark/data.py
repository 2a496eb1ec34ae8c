"""Measures how the time and memory of reading, checking and tokenising grow with the rows."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from alignzoo.benchmark.scratch import link_models
from alignzoo.system import memory as resident

WORDS = [
    "water",
    "light",
    "stone",
    "river",
    "cloud",
    "music",
    "bread",
    "garden",
    "winter",
    "engine",
    "letter",
    "mountain",
    "paper",
    "window",
    "island",
]
BATCH = 10_000


def measure_data(rows: int, model: str) -> dict[str, float]:
    """Check ``rows`` pairs from Parquet, twice, each time in a process of its own.

    Returns:
        ``seconds`` of the first time and ``again`` of the second, which finds the rows in the cache, both without the
        imports; ``rows_per_second`` of the first; ``memory``, the first's peak above the idle process, in bytes:
        without the pages of the rows' file, which the system maps and takes back as it likes.
    """
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "pairs.parquet"
        write_pairs(file, rows)
        first, second = (_in_a_process(file, model, Path(scratch) / "cache") for _ in range(2))
    return {
        "seconds": first["seconds"],
        "again": second["seconds"],
        "rows_per_second": rows / first["seconds"],
        "memory": first["memory"],
    }


def write_pairs(file: Path, rows: int, prompt: int = 35, answer: int = 50) -> None:
    """Write made-up pairs, of about so many words in a prompt and in an answer, batch by batch."""
    import pyarrow as pa
    import pyarrow.parquet

    draw = random.Random(0)

    def text(words: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(words // 2, 3 * words // 2))) + "."

    schema = pa.schema([(name, pa.string()) for name in ("prompt", "chosen", "rejected")])
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, rows, BATCH):
            numbers = range(start, min(start + BATCH, rows))
            lines = [
                {"prompt": f"{n}: {text(prompt)}", "chosen": f"{text(answer)} {n}", "rejected": text(answer)}
                for n in numbers
            ]
            writer.write_table(pa.Table.from_pylist(lines, schema))


def _in_a_process(file: Path, model: str, cache: Path) -> dict[str, float]:
    code = f"from alignzoo.benchmark.data import check_file; check_file({str(file)!r}, {model!r}, {str(cache)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def check_file(file: str, model: str, cache: str) -> None:
    """Check the pairs in ``file``, with ``cache`` for the rows, and print seconds and memory as JSON."""
    from alignzoo.config.check import check
    from alignzoo.config.compose import compose
    from alignzoo.data.summary import summarise
    from alignzoo.models import load, start_model
    from alignzoo.train.inputs import prepare_run

    cfg = compose([f"model={model}", "dataset=local", f"dataset.path={file}", "dataset.chat=true"])
    load.load_tokenizer(start_model.start_folder(cfg.model), cfg.model)
    import_all()
    os.environ["ALIGNZOO_CACHE"] = str(link_models(Path(cache)))
    with Memory() as memory:
        began = time.perf_counter()
        inputs = prepare_run(check(cfg))
        report = summarise(cfg, inputs.method, inputs.data, inputs.tokenizer, inputs.eos_ids, bad_rows_stop=True)
        seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "memory": memory.peak - memory.idle, "rows": report["rows"]}))


def import_all() -> None:
    """Import what a check needs, so that neither time nor memory of it is counted."""
    import datasets  # noqa: F401
    import pandas  # noqa: F401
    import torch  # noqa: F401


class Memory:
    """Looks at the process's own memory every 20 ms: ``idle`` bytes at the start, ``peak`` bytes at most."""

    def __enter__(self) -> Memory:
        self.idle = self.peak = resident.read_unbacked()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()
        return self

    def _look(self) -> None:
        while not self.done.wait(0.02):
            self.peak = max(self.peak, resident.read_unbacked())

    def __exit__(self, *error: object) -> None:
        self.done.set()
        self.thread.join()
        self.peak = max(self.peak, resident.read_unbacked())
