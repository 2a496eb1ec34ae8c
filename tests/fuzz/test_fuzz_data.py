"""A dataset of any bytes gives rows, or one line that names its file."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fuzzing import FUZZ, Files, attempt, damaged, write_over
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig

from alignzoo.config.compose import compose
from alignzoo.data.recognise import SAMPLE, recognise
from alignzoo.data.sources import open_source

ROWS: list[dict[str, Any]] = [
    {
        "prompt": f"What is {number}?",
        "chosen": f"It is {number}.",
        "rejected": "No.",
        "score": number / 2,
        "tags": ["a"],
    }
    for number in range(12)
]


@pytest.fixture(scope="module")
def cfg(cache: Path) -> DictConfig:
    found: DictConfig = compose(["model=tiny", "dataset=local"]).dataset
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The same rows in every format."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet

    folder = tmp_path_factory.mktemp("whole")
    text = "".join(f"{json.dumps(row)}\n" for row in ROWS)
    (folder / "rows.jsonl").write_text(text)
    (folder / "rows.json").write_text(json.dumps(ROWS))
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    with pa.CompressedOutputStream(str(folder / "rows.jsonl.zst"), "zstd") as stream:
        stream.write(text.encode())
    with (folder / "rows.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
    pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), folder / "rows.parquet")
    datasets.Dataset.from_list(ROWS).save_to_disk(str(folder / "saved"))
    shutil.move(next((folder / "saved").glob("*.arrow")), folder / "rows.arrow")
    shutil.rmtree(folder / "saved")
    return Files.read(folder)


@FUZZ
@given(data=st.data())
def test_a_dataset_of_any_bytes(
    whole: Files, cfg: DictConfig, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    damage = data.draw(damaged(whole))
    file = tmp_path_factory.getbasetemp() / damage.name
    write_over(file, damage.content)
    source = open_source(str(file), "train", None, None, "dataset.path")
    rows = attempt(lambda: list(source.rows()))
    for row in rows or ():
        assert isinstance(row, dict)
        repr(row)
    if rows:
        attempt(lambda: recognise(rows[:SAMPLE], cfg, source.place))
