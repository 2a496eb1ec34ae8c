"""Prepares a tokenizer for conversations in which the model calls tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo.models.tiny import CHATML
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def prepare_calls(tokenizer: PreTrainedTokenizerBase, model: str) -> None:
    """Let ``tokenizer`` read the calls in what the model writes, as its chat template writes them.

    A tokenizer that comes with a ``response_template`` keeps it; alignzoo's ChatML writes calls as Qwen's models do.

    Raises:
        UserError: the template writes no tools, or nobody knows how to read its calls.
    """
    from trl import chat_template_utils as templates

    if not templates.supports_tool_calling(tokenizer):
        raise UserError(
            f"model={model}: its chat template does not write calls of tools. Set model.chat_template=chatml, or "
            "choose a model that was trained to call tools, such as model=qwen3-0.6b."
        )
    if getattr(tokenizer, "response_template", None) or getattr(tokenizer, "response_schema", None):
        return
    if tokenizer.chat_template == CHATML:
        tokenizer.response_template = templates.qwen3_template
        return
    try:
        templates.add_response_schema(tokenizer)
    except ValueError:
        raise UserError(
            f"model={model}: TRL does not know how its chat template writes calls, so that they cannot be read. Set "
            "model.chat_template=chatml, or give the tokenizer a response_template (transformers' response parsing)."
        ) from None


def find_training_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the template in which TRL trains with tools, where it is not the tokenizer's own.

    A template that writes earlier turns differently once others follow would make ids differ between turns.
    """
    from trl import chat_template_utils as templates

    if templates.is_chat_template_prefix_preserving(tokenizer):
        return None
    found: str | None = templates.get_training_chat_template(tokenizer)
    return found
