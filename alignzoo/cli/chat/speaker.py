"""Finds and loads a model, and lets it answer piece by piece."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignzoo.models.pretrained import RemoteCode, is_scorer
from alignzoo.runs.folder import Run
from alignzoo.system.errors import UserError
from alignzoo.system.hub import explain_hub_error, hub, is_local_path
from alignzoo.system.parsing import parse_file

SAVED = ("config.json", "adapter_config.json")  #: one of them stands in the folder of a saved model or adapter


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn."""

    max_new_tokens: int
    temperature: float
    """0: always the likeliest token."""

    def arguments(self) -> dict[str, Any]:
        """Return them for ``generate``: the whole distribution, whatever a model's own settings cut off."""
        if self.temperature == 0:
            return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        return {"do_sample": True, "temperature": self.temperature, "top_p": 1.0, "top_k": 0}


@dataclass
class Speaker:
    """A model with the conversation that it has had."""

    label: str
    model: Any
    tokenizer: Any
    stops: list[int]
    system: str | None = None
    turns: list[dict[str, str]] = field(default_factory=list)

    @property
    def chats(self) -> bool:
        """Whether it has a chat template; without one it continues a text."""
        return bool(self.tokenizer.chat_template)

    def reset(self) -> None:
        """Forget the conversation."""
        self.turns = []

    def answer(self, question: str, sampling: Sampling, write: Callable[[str], object]) -> bool:
        """Hand the answer to ``write`` piece by piece; return whether it was not interrupted (Ctrl-C).

        Raises:
            UserError: the template refuses the conversation, or it is too long for the model.
        """
        asked = [*self.turns, {"role": "user", "content": question}]
        prompt = self._ids(asked, sampling.max_new_tokens)
        pieces: list[str] = []

        def take(piece: str) -> None:
            pieces.append(piece)
            write(piece)

        whole = self._generate(prompt, sampling, take)
        self.turns = [*asked, {"role": "assistant", "content": "".join(pieces).strip()}]
        return whole

    def _ids(self, turns: list[dict[str, str]], room: int) -> Any:
        """Return the prompt's ids, as training and evaluation tokenise prompts."""
        text = self._rendered(turns) if self.chats else turns[-1]["content"]
        batch = self.tokenizer(text, return_tensors="pt", add_special_tokens=not self.chats)
        longest = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if longest and batch["input_ids"].shape[1] + room > longest:
            raise UserError(
                f"{self.label}: the conversation and an answer of {room} tokens do not fit into the model's {longest}: "
                "/reset, ask less, or lower --max-new-tokens."
            )
        return batch["input_ids"].to(self.model.device)

    def _rendered(self, turns: list[dict[str, str]]) -> str:
        before = [{"role": "system", "content": self.system}] if self.system else []
        try:
            text: str = self.tokenizer.apply_chat_template(
                [*before, *turns], tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # templates raise their own complaints
            hint = " Leave --system out." if self.system else ""
            raise UserError(f"{self.label}: its chat template refuses the conversation: {error}.{hint}") from None
        return text

    def _generate(self, prompt: Any, sampling: Sampling, take: Callable[[str], None]) -> bool:
        import torch

        streamer = _streamer(self.tokenizer, take)
        try:
            with torch.inference_mode():
                self.model.generate(
                    input_ids=prompt,
                    attention_mask=torch.ones_like(prompt),
                    streamer=streamer,
                    max_new_tokens=sampling.max_new_tokens,
                    repetition_penalty=1.0,
                    eos_token_id=self.stops,
                    pad_token_id=self.stops[0],
                    **sampling.arguments(),
                )
        except KeyboardInterrupt:
            streamer.end()  # what it holds back until a word is whole
            return False
        return True


def _streamer(tokenizer: Any, take: Callable[[str], None]) -> Any:
    from transformers import TextStreamer

    class Streamer(TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            if text:
                take(text)

    return Streamer(tokenizer, skip_prompt=True, skip_special_tokens=True)


def find(word: str) -> Path:
    """Return the folder of the model that ``word`` names: a run folder, a model's folder, or a hub id.

    Raises:
        UserError: it is not one of these, or cannot be reached.
    """
    path = Path(word).expanduser()
    if not path.is_dir():
        return _from_hub(word)
    for folder in (path / "model", path):
        if any((folder / name).is_file() for name in SAVED):
            return folder
    error = Run(path).error
    why = "" if error is None else f" The run failed: {error.partition(chr(10))[0]}"
    raise UserError(f"{word} is neither a run folder (no model in it) nor the folder of a saved model.{why}")


def _from_hub(word: str) -> Path:
    if is_local_path(word):
        raise UserError(f"{word}: no such folder. Name a run folder, the folder of a saved model, or a hub id.")
    import huggingface_hub

    from alignzoo.models.start_model import HUB_FILES

    try:
        with hub().reading(word):
            return Path(huggingface_hub.snapshot_download(word, allow_patterns=HUB_FILES))
    except Exception as error:  # the hub's client raises a dozen kinds
        raise UserError(f"{word}: no such folder, and not on the hub: {explain_hub_error(error)}") from error


def start_of(word: str) -> str:
    """Return the folder of the model that the run ``word`` began with, from its result.json."""
    try:
        return Run(Path(word).expanduser()).read_start()
    except UserError as error:
        raise UserError(f"--with start: {error}\nName the other model's folder or hub id instead.") from None


def load(label: str, folder: Path, system: str | None, code: RemoteCode) -> Speaker:
    """Return the model in ``folder`` ready to talk; an adapter is put on the base model that its config names.

    Raises:
        UserError: it cannot be loaded.
    """
    from alignzoo.models.load import read_eos_ids

    try:
        model, tokenizer = _load(folder, code)
    except UserError:
        raise
    except Exception as error:  # broken folders raise a dozen kinds
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise UserError(f"{folder} cannot be loaded: {reason}") from error
    stops = read_eos_ids(folder, tokenizer)
    if not stops:
        raise UserError(f"the tokenizer of {folder} has no EOS token: no completion would ever end.")
    return Speaker(label, model, tokenizer, stops, system)


def _load(folder: Path, code: RemoteCode) -> tuple[Any, Any]:
    from alignzoo.models.load import load_for_generation
    from alignzoo.system.device import choose_device

    if is_scorer(folder):
        raise UserError(f"{folder} is a reward model: it gives scores, and no answers.")
    adapter = folder if (folder / "adapter_config.json").is_file() else None
    return load_for_generation(_base(folder) if adapter else folder, choose_device("auto"), code, adapter=adapter)


def _base(adapter: Path) -> Path:
    named = parse_file(adapter / "adapter_config.json", lambda text: json.loads(text).get("base_model_name_or_path"))
    try:
        return find(str(named))
    except UserError as error:
        raise UserError(f"{adapter} is an adapter, and its base model is not there: {error}") from None
