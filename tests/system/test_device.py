"""The device and precision that are chosen, and the ones that this machine refuses."""

from __future__ import annotations

import os

import pytest
import torch

from alignzoo.system.device import choose_device, choose_precision
from alignzoo.system.errors import UserError

without_gpu = pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="has a GPU")


@pytest.fixture(autouse=True)
def _visible_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the variable back that the choice of a device may set."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "set, so that it is put back")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")


@without_gpu
def test_without_a_gpu_auto_is_the_cpu() -> None:
    assert choose_device("auto") == "cpu"


def test_the_cpu_can_always_be_chosen() -> None:
    assert choose_device("cpu") == "cpu"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@without_gpu
@pytest.mark.parametrize("wanted", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(wanted: str) -> None:
    with pytest.raises(UserError) as caught:
        choose_device(wanted)
    assert str(caught.value) == f"strategy.device={wanted}: this machine offers cpu."


def test_of_several_gpus_the_first_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRL's trainers refuse torch's DataParallel, which several visible GPUs would turn on."""
    choose_device("auto")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    choose_device("auto")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3", "the user's own choice stands"


@pytest.mark.parametrize(("wanted", "chosen"), [("auto", "fp32"), ("fp32", "fp32")])
@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_precision_without_cuda(wanted: str, chosen: str, device: str) -> None:
    assert choose_precision(wanted, device) == chosen


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_precisions_that_need_cuda(device: str) -> None:
    with pytest.raises(UserError, match=rf"train\.precision=bf16: the {device} here has no bf16 of its own"):
        choose_precision("bf16", device)
    with pytest.raises(UserError, match=rf"train\.precision=fp16 needs a CUDA device; this run uses the {device}"):
        choose_precision("fp16", device)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="has no GPU")
def test_precision_on_a_gpu() -> None:
    new = torch.cuda.get_device_capability() >= (8, 0)
    assert choose_device("auto") == "cuda"
    assert choose_precision("auto", "cuda") == ("bf16" if new else "fp32")
    assert choose_precision("fp16", "cuda") == "fp16"
