"""Asks a chat model behind an OpenAI-compatible endpoint: failures are retried, its key stays in the environment."""

from __future__ import annotations

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from alignzoo.system.errors import UserError

LONGEST_WAIT = 60.0  #: seconds, whatever the endpoint asks for
_PASSING = frozenset({408, 409, 425, 429})  #: statuses below 500 that another attempt may mend


class _RefuseRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: urllib would hand the key to wherever it leads."""

    def redirect_request(self, *args: Any, **keys: Any) -> None:
        """Return no request."""


@dataclass(frozen=True)
class Endpoint:
    """Where a chat model answers, and how long it is waited for; ``group`` is the config group that errors name."""

    base_url: str
    model: str
    api_key_env: str | None = None
    timeout: float = 60.0
    attempts: int = 6
    wait: float = 1.0
    group: str = "judge"

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(
                f"{self.group}.base_url must begin with http:// or https://, such as http://localhost:8000/v1."
            )
        if parts.username or parts.password or parts.query:
            raise UserError(
                f"{self.group}.base_url must hold no key, for it is written into the run folder: put the key into an "
                f"environment variable and its name into {self.group}.api_key_env."
            )
        if not self.model:
            raise UserError(f"{self.group}.model is needed: the model's name at {self.base_url}.")
        self._key()

    def _key(self) -> str | None:
        if self.api_key_env is None:
            return None
        if not re.fullmatch(r"[A-Za-z_]\w*", self.api_key_env):  # perhaps the key: not repeated
            raise UserError(f"{self.group}.api_key_env is not a variable's name: set it to the name, not to the key.")
        key = os.environ.get(self.api_key_env)
        if not key:
            raise UserError(f"{self.group}.api_key_env={self.api_key_env}: this environment variable is not set.")
        return key

    def ask(self, text: str, **fields: Any) -> str:
        """Return the model's answer to one user message; ``fields`` are further ones of the request.

        Raises:
            UserError: the endpoint refuses the request, or fails ``attempts`` times.
        """
        messages = [{"role": "user", "content": text}]
        body = json.dumps({"model": self.model, "messages": messages, **fields}).encode()
        problem = ""
        for attempt in range(self.attempts):
            found, problem, asked_wait = self._once(body)
            if found is not None:
                return found
            if attempt + 1 < self.attempts:
                time.sleep(min(LONGEST_WAIT, max(asked_wait, self.wait * 2**attempt)))
        raise UserError(f"{self.group}.base_url={self.base_url}: {problem}, {self.attempts} times in a row.")

    def _once(self, body: bytes) -> tuple[str | None, str, float]:
        """Return the answer; or None, what went wrong, and the seconds that the endpoint asks to wait."""
        headers = {"Content-Type": "application/json"}
        key = self._key()
        if key:
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.base_url.rstrip('/')}/chat/completions", body, headers)
        try:
            with urllib.request.build_opener(_RefuseRedirects).open(request, timeout=self.timeout) as reply:
                content = json.loads(reply.read())["choices"][0]["message"]["content"]
            return str(content or ""), "", 0.0
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in _PASSING:
                raise UserError(self._refusal(error, key)) from None
            return None, f"HTTP {error.code}", _read_seconds(error.headers.get("Retry-After"))
        except (OSError, http.client.HTTPException) as error:
            return None, _remove_key(str(getattr(error, "reason", error)) or type(error).__name__, key), 0.0
        except (ValueError, LookupError, TypeError):
            return None, "its answer is not a chat completion", 0.0

    def _refusal(self, error: urllib.error.HTTPError, key: str | None) -> str:
        text = _remove_key(" ".join(error.read(2_000).decode(errors="replace").split())[:300], key)
        hint = f" Check the key in {self.group}.api_key_env." if error.code in (401, 403) else ""
        return f"{self.group}.base_url={self.base_url} refuses model={self.model}: HTTP {error.code} {text}.{hint}"


def _remove_key(text: str, key: str | None) -> str:
    """Leave the key out of what is printed: some endpoints repeat it."""
    return text.replace(key, "***") if key else text


def _read_seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and re.fullmatch(r"\d+(\.\d+)?", retry_after.strip()) else 0.0
