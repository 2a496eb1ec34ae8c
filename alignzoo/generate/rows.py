"""Makes the rows of a generation's files: those to train on, and all answers with their scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from alignzoo.data.prompts import unwrap_text
from alignzoo.generate.selection import Chosen, Scored, Selection


def make_prompt(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a generated row that stand for its prompt."""
    inputs = json.loads(row["template_inputs"] or "{}")
    names = {"tools": "tools", "template_kwargs": "chat_template_kwargs"}
    more = {names[name]: value for name, value in inputs.items()}
    return {"id": row["id"], "prompt": unwrap_text(json.loads(row["prompt"])), **more}


def _make_answer(prompt: Mapping[str, Any], scored: Scored) -> Any:
    """Return an answer as it follows its prompt: a message, or behind a plain text a text with its blanks."""
    if isinstance(prompt["prompt"], str):
        return scored.answer.text
    return [{"role": "assistant", "content": scored.text}]


def make_rows(selection: Selection, prompts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows to train on: pairs with the scores of both, or single answers."""
    several = len({row.place for row in selection.rows}) < len(selection.rows)
    numbers: dict[int, int] = {}
    rows = []
    for row in selection.rows:
        numbers[row.place] = number = numbers.get(row.place, 0) + 1
        prompt = prompts[row.place]
        name = {"id": f"{prompt['id']}.{number}"} if several else {}
        rows.append({**prompt, **name, **_make_columns(prompt, row)})
    return rows


def _make_columns(prompt: Mapping[str, Any], row: Chosen) -> dict[str, Any]:
    if row.rejected is None:
        return {"completion": _make_answer(prompt, row.chosen)}
    answers = {"chosen": row.chosen, "rejected": row.rejected}
    texts = {side: _make_answer(prompt, one) for side, one in answers.items()}
    return {**texts, **{f"score_{side}": one.score for side, one in answers.items()}}


def make_samples(answers: Sequence[Sequence[Scored]], prompts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return every answer with its score, in the layout ``scored``."""
    return [
        {**prompt, "id": f"{prompt['id']}.{number}", "completion": _make_answer(prompt, one), "score": one.score}
        | {"ended": one.answer.ended, "tokens": one.answer.tokens}
        for prompt, scored in zip(prompts, answers, strict=True)
        for number, one in enumerate(scored, 1)
    ]
