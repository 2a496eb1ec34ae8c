"""Samples the candidate answers of the embedded datasets, and keeps each batch of them as soon as it is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Answer = tuple[str, bool]  #: its text, and whether it ended by itself
Item = dict[str, Any]  #: a prompt's candidates


class Sampler:
    """A small chat model that answers a batch of prompts."""

    def __init__(self, folder: str) -> None:
        """``folder`` holds the model and its tokenizer; its weights are used as bfloat16."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)

    def answer(self, prompts: Sequence[str], limit: int, seed: int = 0, **options: Any) -> list[Answer]:
        """Return one answer of at most ``limit`` tokens to each prompt: greedy, unless ``options`` ask for samples."""
        import torch

        if not prompts:
            return []
        chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
        batch = self.tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, return_tensors="pt", padding=True, return_dict=True
        )
        torch.manual_seed(seed)
        with torch.inference_mode():
            output = self.model.generate(**batch, max_new_tokens=limit, **({"do_sample": False} | options))
        written = output[:, batch["input_ids"].shape[1] :]
        ended = (written == self.tokenizer.eos_token_id).any(dim=1).tolist()
        texts = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        return [(text.strip(), end) for text, end in zip(texts, ended, strict=True)]


def complete_file(
    path: Path, prompts: Iterable[str], sample: Callable[[list[str], int], list[Item]], batch: int
) -> dict[str, Item]:
    """Return the candidates of all ``prompts``; those that ``path`` lacks are sampled and appended, batch by batch.

    ``sample(prompts, seed)`` returns an item for each prompt, under its key ``prompt``. What an interrupted call has
    written is kept.
    """
    found = {item["prompt"]: item for item in read_lines(path)} if path.exists() else {}
    missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in found]
    for start in range(0, len(missing), batch):
        items = sample(missing[start : start + batch], len(found))
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
        found |= {item["prompt"]: item for item in items}
        print(f"{path}: {len(found)} prompts, {len(missing) - start - len(items)} to go", flush=True)
    return found


def read_lines(path: Path) -> list[Any]:
    """Read one JSON value a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path: Path, rows: Sequence[Any]) -> None:
    """Write one JSON value a line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{path}: {len(rows)} lines")


def make_row(identity: str, prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    """Return a pair as chat messages."""
    row: dict[str, Any] = {"id": identity}
    for key, role, text in (
        ("prompt", "user", prompt),
        ("chosen", "assistant", chosen),
        ("rejected", "assistant", rejected),
    ):
        row[key] = [{"role": role, "content": text}]
    return row
