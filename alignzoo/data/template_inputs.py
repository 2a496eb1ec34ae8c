"""Reads the columns that a row has for its chat template: ``tools`` and ``chat_template_kwargs``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alignzoo.data.messages import BadRow, Messages, read_list, write_json

#: Columns that every layout may have beside its own, for the chat template.
TEMPLATE_COLUMNS = frozenset({"tools", "chat_template_kwargs"})

#: Arguments of ``apply_chat_template`` that are not the template's.
_OWN_ARGUMENTS = {
    *("conversation", "messages", "tools", "chat_template", "add_generation_prompt", "continue_final_message"),
    *("tokenize", "padding", "truncation", "max_length", "return_tensors", "return_dict", "tokenizer_kwargs"),
    *("return_assistant_tokens_mask", "sanitize_control_tokens", "self"),
}


def read_template_inputs(raw: Mapping[str, Any], prompt: Messages) -> dict[str, Any]:
    """Return ``tools`` and ``template_kwargs``, where the row has them, as they stand."""
    tools = read_list(raw.get("tools") or [], "tools")
    kwargs = {
        name: value
        for given in read_list(raw.get("chat_template_kwargs") or [], "chat_template_kwargs")
        for name, value in given.items()
        if value is not None
    }
    if own := sorted(_OWN_ARGUMENTS & kwargs.keys()):
        raise BadRow(f"chat_template_kwargs has {own[0]}, which is not the template's to read")
    found = {name: value for name, value in (("tools", tools), ("template_kwargs", kwargs)) if value}
    for name, value in found.items():
        write_json(value, name)
        if prompt[0]["role"] == "text":
            column = "tools" if name == "tools" else "chat_template_kwargs"
            raise BadRow(f"{column} need a conversation, and this is plain text: set dataset.chat=true")
    return found
