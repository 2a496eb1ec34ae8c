"""What vLLM needs is looked for before anything is loaded. vLLM itself is not run here: it needs a GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from omegaconf import DictConfig

from alignzoo import UserError
from alignzoo.config import check, placement
from alignzoo.train import vllm

Composed = Callable[..., DictConfig]

VLLM = ("method=grpo", "method.use_vllm=true")
SERVER = (*VLLM, "method.vllm_mode=server")


@pytest.fixture
def installed(fake_package: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of vLLM's name, and a GPU: what is looked for, and no more."""
    fake_package("vllm", "")
    monkeypatch.setattr(placement, "count_gpus", lambda: 1)


@pytest.fixture
def healthy() -> Iterator[str]:
    """The address of a server that says that it is well."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("method", ["grpo", "rloo", "dpo"])
def test_without_it_nothing_is_asked_for(compose_config: Composed, method: str) -> None:
    vllm.check_vllm(compose_config(f"method={method}"))


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_trl_has_the_fields(compose_config: Composed, method: str) -> None:
    """Checked as a run's are; the further ones as `+method.field`."""
    words = (f"method={method}", "method.use_vllm=true", "method.vllm_mode=server")
    check.check(compose_config(*words, "+method.vllm_server_base_url=http://a:1", "+method.vllm_server_timeout=9.5"))


def test_it_is_not_installed(compose_config: Composed) -> None:
    with pytest.raises(UserError, match=r"^method.use_vllm=true needs vLLM: pip install 'trl\[vllm\]'"):
        vllm.check_vllm(compose_config(*VLLM))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_no_gpu(compose_config: Composed, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    if device == "auto":
        monkeypatch.setattr(placement, "count_gpus", lambda: 0)
    with pytest.raises(UserError, match=r"^method.use_vllm=true needs an NVIDIA GPU"):
        vllm.check_vllm(compose_config(*VLLM, f"strategy.device={device}"))


@pytest.mark.usefixtures("installed")
def test_beside_the_training_it_needs_no_server(compose_config: Composed) -> None:
    vllm.check_vllm(compose_config(*VLLM))


@pytest.mark.usefixtures("installed")
def test_a_server_that_answers(compose_config: Composed, healthy: str) -> None:
    host, port = healthy.removeprefix("http://").split(":")
    vllm.check_vllm(compose_config(*SERVER, f"+method.vllm_server_base_url={healthy}/"))
    vllm.check_vllm(compose_config(*SERVER, f"+method.vllm_server_host={host}", f"+method.vllm_server_port={port}"))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "nowhere"])
def test_a_server_that_does_not(compose_config: Composed, address: str) -> None:
    with pytest.raises(
        UserError, match=rf"^method.vllm_mode=server: no vLLM server answers at {address} \(.*vllm serve"
    ):
        vllm.check_vllm(compose_config(*SERVER, f"+method.vllm_server_base_url={address}"))


@pytest.mark.usefixtures("installed")
def test_an_address_without_a_server_but_with_other_pages(compose_config: Composed, healthy: str) -> None:
    with pytest.raises(UserError, match=r"HTTP Error 404"):
        vllm.check_vllm(compose_config(*SERVER, f"+method.vllm_server_base_url={healthy}/elsewhere"))
