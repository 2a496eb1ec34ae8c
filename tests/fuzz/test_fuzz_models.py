"""A model's folder and a GGUF file of any bytes load, or end in a line; weights that no file holds are refused."""

from __future__ import annotations

import logging
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzzing import FUZZ, Files, attempt, damaged, write_over
from gguf_files import write_gguf
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig

from alignzoo.config.compose import compose
from alignzoo.models import load, start_model
from alignzoo.plan.skeleton import load_model_config
from alignzoo.system import memory
from alignzoo.system.libraries import silence_libraries

ROOM = 4 * 2**30  #: bytes that a model of a size that somebody made up may take, before it is refused


@pytest.fixture(autouse=True, scope="module")
def bounded() -> Iterator[None]:
    """Bound the memory of this process, and keep what the libraries say of each example off the terminal."""
    import transformers

    silence_libraries(False)
    verbosity, bounds = transformers.utils.logging.get_verbosity(), resource.getrlimit(resource.RLIMIT_DATA)
    transformers.utils.logging.set_verbosity(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_DATA, (memory.read_resident() + ROOM, bounds[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, bounds)
    transformers.utils.logging.set_verbosity(verbosity)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, start: Path) -> Path:
    return Path(shutil.copytree(start, tmp_path_factory.mktemp("models") / "model"))


@pytest.fixture(scope="module")
def whole(folder: Path) -> Files:
    return Files.read(folder)


@pytest.fixture(scope="module")
def cfg(folder: Path) -> DictConfig:
    return compose(["model=local", f"model.path={folder}"])


@FUZZ
@given(data=st.data())
def test_a_model_folder_of_any_bytes(folder: Path, whole: Files, cfg: DictConfig, data: st.DataObject) -> None:
    damage = data.draw(damaged(whole))
    write_over(folder / damage.name, damage.content)
    try:
        assert attempt(lambda: start_model.start_folder(cfg.model)) == folder
        attempt(lambda: load_model_config(cfg.model))
        tokenizer = attempt(lambda: load.load_tokenizer(folder, cfg.model))
        if tokenizer is not None:
            attempt(lambda: load.read_eos_ids(folder, tokenizer))
        attempt(lambda: load.load_policy(folder, cfg, "fp32"))
    finally:
        write_over(folder / damage.name, damage.before)


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory, start: Path) -> Path:
    file = tmp_path_factory.mktemp("gguf") / "some.gguf"
    write_gguf(file, start)
    return file


@FUZZ
@given(data=st.data())
def test_a_gguf_file_of_any_bytes(gguf_file: Path, cfg: DictConfig, data: st.DataObject) -> None:
    damage = data.draw(damaged(Files.read(gguf_file.parent)))
    file, made = gguf_file.parents[1] / damage.name, gguf_file.parents[1] / "made"
    write_over(file, damage.content)
    shutil.rmtree(made, ignore_errors=True)
    attempt(lambda: start_model._convert_gguf(file, made))
    if made.exists():
        assert attempt(lambda: load.load_policy(made, cfg, "fp32")) is not None
