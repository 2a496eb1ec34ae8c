"""Checks what TRL needs to sample completions with vLLM (``method.use_vllm=true``)."""

from __future__ import annotations

import importlib.util
import urllib.request
from typing import TYPE_CHECKING

from alignzoo.config import placement
from alignzoo.system import ranks
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

PATIENCE = 5.0  #: seconds for a running server to answer; TRL itself waits for minutes, with the weights loaded


def check_vllm(cfg: DictConfig) -> None:
    """Refuse vLLM where it is not installed, finds no NVIDIA GPU, or its server does not answer.

    Raises:
        UserError: vLLM cannot be used.
    """
    method = cfg.method
    if not method.get("use_vllm"):
        return
    if importlib.util.find_spec("vllm") is None:
        raise UserError("method.use_vllm=true needs vLLM: pip install 'trl[vllm]', or leave it out.")
    if cfg.strategy.device not in ("auto", "cuda") or not placement.count_gpus():
        raise UserError("method.use_vllm=true needs an NVIDIA GPU, which this run does not have: leave it out.")
    if method.get("vllm_mode") == "server" and ranks.rank() == 0:  # the only one that speaks with it
        _check_server(method)


def _check_server(method: DictConfig) -> None:
    """Ask for its health, at the address that TRL's own fields say, or their defaults."""
    host, port = method.get("vllm_server_host", "0.0.0.0"), method.get("vllm_server_port", 8000)
    address = (method.get("vllm_server_base_url") or f"http://{host}:{port}").rstrip("/")
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=PATIENCE):
            return
    except (OSError, ValueError) as error:
        raise UserError(
            f"method.vllm_mode=server: no vLLM server answers at {address} ({error}). Start one with `vllm serve`, or "
            "set +method.vllm_server_base_url=URL."
        ) from None
