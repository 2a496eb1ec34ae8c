"""Answers single user messages with a chat model in this process, greedily."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alignzoo.system.errors import UserError
from alignzoo.system.hub import explain_hub_error


class LocalChat:
    """A hub id's or a folder's model, on the GPU if there is one; ``key`` is the config key that errors name."""

    def __init__(self, path: str, revision: str | None, limit: int, trusted: bool, key: str = "judge.path") -> None:
        """Load it; its answers have at most ``limit`` tokens. ``trusted``: Python code beside its weights may run.

        Raises:
            UserError: it cannot be loaded, or is not a chat model.
        """
        import torch

        from alignzoo.models.load import load_for_generation
        from alignzoo.models.pretrained import RemoteCode

        device = "cuda" if torch.cuda.is_available() else "cpu"
        code = RemoteCode(trusted, f"{key.replace('path', 'trust_remote_code')}=true")
        try:
            self.model, self.tokenizer = load_for_generation(path, device, code, revision)
        except UserError:
            raise
        except Exception as error:  # the hub's client raises a dozen kinds
            raise UserError(f"{key}={path}: {explain_hub_error(error)}") from error
        if not self.tokenizer.chat_template:
            raise UserError(f"{key}={path} has no chat template: take a chat model.")
        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.eos_token
        self.limit = limit

    def ask(self, texts: Sequence[str]) -> list[str]:
        """Return one answer a text; all go through the model at once."""
        from alignzoo.evaluate.completions import generate_greedy

        chats = [self._prompt(text) for text in texts]
        ids = self.tokenizer(chats, add_special_tokens=False).input_ids  # the template writes its own special tokens
        return [
            found.text
            for found in generate_greedy(self.model, self.tokenizer, ids, self._stops(), self.limit, len(ids))
        ]

    def _prompt(self, text: str) -> str:
        messages = [{"role": "user", "content": text}]
        return str(self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))

    def _stops(self) -> list[Any]:
        ends = self.model.generation_config.eos_token_id
        return list({*(ends if isinstance(ends, list) else [ends]), self.tokenizer.eos_token_id} - {None})
