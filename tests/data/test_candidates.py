"""Candidates of the embedded datasets: what an interrupted sampling wrote is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignzoo.data.candidates import Item, complete_file, make_row, read_lines


def test_an_interrupted_sampling_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path, asked = tmp_path / "candidates.jsonl", list[list[str]]()

    def sample(prompts: list[str], seed: int) -> list[Item]:
        asked.append(prompts)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return [{"prompt": prompt, "seed": seed} for prompt in prompts]

    with pytest.raises(KeyboardInterrupt):
        complete_file(path, "abcde", sample, 2)
    found = complete_file(path, "eabcd", sample, 2)
    assert asked == [["a", "b"], ["c", "d"], ["e", "c"], ["d"]]
    assert list(found) == ["a", "b", "e", "c", "d"]
    assert read_lines(path) == list(found.values())
    assert [item["seed"] for item in found.values()] == [0, 0, 2, 2, 4]


def test_a_complete_file_asks_no_model(tmp_path: Path) -> None:
    path = tmp_path / "candidates.jsonl"
    path.write_text('{"prompt": "a"}\n')
    assert complete_file(path, ["a", "a"], lambda prompts, seed: pytest.fail("sampled"), 2) == {"a": {"prompt": "a"}}


def test_a_row_is_chat_messages() -> None:
    row = make_row("x-1", "Q", "yes", "no")
    assert row == {
        "id": "x-1",
        "prompt": [{"role": "user", "content": "Q"}],
        "chosen": [{"role": "assistant", "content": "yes"}],
        "rejected": [{"role": "assistant", "content": "no"}],
    }
