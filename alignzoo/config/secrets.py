"""Keeps secrets out of what a run writes: what comes from the environment stays as typed, keys are masked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

MASK = "***"
EXAMPLE = "${oc.env:NAME}"  #: how a secret is typed so that it is read from the environment, and never written

#: What ends the name of a secret: not `api_key_env`, the name of a variable, nor `pad_token`, which a vocabulary has.
_NAME = (
    r"(?:api|access|private|secret|auth|encryption|signing)[_-]?key(?:[_-]id)?|password|passwd|passphrase|secret"
    r"|credentials?|authorization|cookie|passcode|pwd|(?:api|auth|access|hub|hf|bearer|session|refresh|github|gitlab|wandb|bot)[_-]?token"
)

#: The last part of a key whose value is a secret.
SECRET_KEY = re.compile(rf"(?:^|[._-])(?:{_NAME})s?$|(?:^|\.)token$", re.IGNORECASE)

#: Keys whose values are names of columns, whatever these are.
COLUMNS = "dataset.columns"

#: What is a secret wherever it stands: keys of well-known makers, which unlike names of models and files are drawn of
#: capitals and digits too, and passwords in URLs.
SECRET_TEXT = re.compile(
    r"\b(?:hf_|sk-|sk_|ghp_|gho_|github_pat_|glpat-|ya29\.|npm_|pypi-)(?:[a-z]+\d*-)*(?=\w*[A-Z])(?=\w*\d)[A-Za-z0-9]{16,}[\w-]*"
    r"|\b(?:A[KS]IA[A-Z0-9]{16}|AIza[\w-]{30,}|xox[abpr]-\d[\w-]{10,})"
    r"|(?<=://)(?!git@)[^/\s:@]+(?::[^/\s@]+)?(?=@)"
    r"|(?i:(?<=bearer )|(?<=basic ))[\w.~+/=-]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)

#: An assignment in code or in a file of settings whose name says that its value is a secret.
ASSIGNED = re.compile(
    rf"""(?P<name>(?:[\w.-]*(?:{_NAME})|(?<![\w.-])token)["']?\s*[:=]\s*)"""
    r"""(?P<value>"[^"\n]+"|'[^'\n]+'|[^\s,"'(){}\[\]]{6,})""",
    re.IGNORECASE,
)

#: A value in which keys may stand: a mapping, a list, an address with a query, a quoted assignment.
STRUCTURED = re.compile(r"[{\[?&]|['\"].*=")

ENVIRONMENT = "${oc.env:"
SHORTEST = 4  #: characters of a value from which on it is looked for in other texts: "1" is in many


def keep_environment(cfg: DictConfig) -> dict[str, Any]:
    """Return ``cfg`` as plain values, resolved but for what comes from the environment."""
    values = tuple({str(parent[key]) for parent, key, raw in _list_leaves(cfg) if ENVIRONMENT in raw})
    values = tuple(value for value in values if len(value) >= SHORTEST)
    kept: dict[str, Any] = _resolve(cfg, values)
    return kept


def hide_secrets(cfg: DictConfig) -> dict[str, Any]:
    """Return what :func:`keep_environment` does, with secrets masked."""
    hidden: dict[str, Any] = mask(keep_environment(cfg))
    return hidden


def list_variables(cfg: DictConfig) -> list[str]:
    """Return the variables that are set in the environment and that ``cfg`` refers to."""
    named = {name for _, _, raw in _list_leaves(cfg) for name in re.findall(r"\$\{oc\.env:\s*([^,}\s]+)", raw)}
    return sorted(named & os.environ.keys())


def hide_environment(cfg: DictConfig, text: str) -> str:
    """Return a text, such as an error's, with what ``cfg`` takes from the environment as it was typed."""
    for parent, key, raw in _list_leaves(cfg):
        with suppress(OmegaConfBaseException):  # it cannot be resolved, and is in no text
            if ENVIRONMENT in raw and len(str(parent[key])) >= SHORTEST:
                text = text.replace(str(parent[key]), raw)
    return text


def mask(tree: Any, path: str = "", is_secret: bool = False) -> Any:
    """Return plain values with secrets masked, words of a command line among them.

    ``path`` is the key of ``tree``; ``is_secret``: one above it says that all of it is.
    """
    is_secret = is_secret or bool(SECRET_KEY.search(path))
    if path.endswith(COLUMNS):
        return tree
    if isinstance(tree, dict):
        return {key: mask(value, f"{path}.{key}", is_secret) for key, value in tree.items()}
    if isinstance(tree, list):
        return [mask(value, path, is_secret) for value in tree]
    if not isinstance(tree, str):
        return tree
    if path.endswith(".override_dirname"):  # Hydra's, of all words
        return ",".join(map(hide_in_word, tree.split(",")))
    return MASK if tree and not tree.startswith("${") and is_secret else hide_in_word(tree)


def hide_in_word(word: str) -> str:
    """Return a word of the command line without the secret in it."""
    key, is_assignment, value = word.partition("=")
    if key.endswith(COLUMNS):
        return word
    if not is_assignment or STRUCTURED.search(key):  # a value alone, such as an address
        return hide_in_code(word) if STRUCTURED.search(word) else hide_in_text(word)
    if SECRET_KEY.search(key) and not value.startswith("${") and value not in ("", "null"):
        return f"{key}={MASK}"
    return f"{key}={hide_in_code(value) if STRUCTURED.search(value) else hide_in_text(value)}"


def hide_in_text(text: str) -> str:
    """Return a text without the secrets that are known by their form."""
    return SECRET_TEXT.sub(MASK, text)


def hide_in_code(text: str) -> str:
    """Return code, settings or a diff of them without secrets."""
    return ASSIGNED.sub(lambda found: f"{found['name']}{MASK}", hide_in_text(text))


def hide_home(text: str) -> str:
    """Return a text with the folder of the user, whose name it often is, as ``~``."""
    home = os.path.expanduser("~").rstrip("/")
    return re.sub(rf"(?<![\w.~-]){re.escape(home)}(?![\w.~-])", "~", text) if home else text


def _list_leaves(tree: Any) -> Iterator[tuple[Any, Any, str]]:
    """Yield the parent, the key and the text as typed of each value."""
    typed: Any = OmegaConf.to_container(tree, resolve=False)
    for key in range(len(tree)) if isinstance(tree, ListConfig) else list(tree):
        if isinstance(typed[key], dict | list):
            yield from _list_leaves(tree[key])
        elif typed[key] != "???":
            yield tree, key, str(typed[key])


def _resolve(tree: Any, environment: tuple[str, ...]) -> Any:
    """Return ``tree`` resolved, but for interpolations whose value holds one of ``environment``."""
    typed: Any = OmegaConf.to_container(tree, resolve=False)

    def value_of(key: Any) -> Any:
        raw = typed[key]
        value = "???" if raw == "???" else tree[key]
        if isinstance(value, DictConfig | ListConfig):
            return _resolve(value, environment)
        copied = isinstance(raw, str) and "${" in raw
        from_environment = copied and (ENVIRONMENT in raw or any(text in str(value) for text in environment))
        return raw if from_environment else value

    if isinstance(tree, ListConfig):
        return [value_of(i) for i in range(len(tree))]
    return {str(key): value_of(key) for key in tree}
