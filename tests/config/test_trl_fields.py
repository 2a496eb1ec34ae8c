"""A TRL config's fields, read from source: the same as the real dataclass's, without importing it."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignzoo.config.trl_fields import fits, read_config_fields

#: The configs of alignzoo's methods, and another of TRL's experimental ones.
CONFIGS = (
    "trl:DPOConfig",
    "trl:SFTConfig",
    "trl:KTOConfig",
    "trl:GRPOConfig",
    "trl:RLOOConfig",
    "trl:RewardConfig",
    "trl:DistillationConfig",
    "alignzoo_plugins.online.ppo.config:PPOConfig",
    "alignzoo_plugins.online.trainers.config:UngroupedConfig",
    "trl.experimental.orpo:ORPOConfig",
    "trl.experimental.cpo:CPOConfig",
)

PLAIN = (bool, int, float, str, list, dict, type(None))  #: what YAML can hold


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write modules that can be found, and are not imported by whoever only reads them."""

    def write(**sources: str) -> None:
        for path, text in sources.items():
            file = tmp_path / f"{path.replace('__', '/')}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            for folder in list(file.parents)[: len(path.split("__")) - 1]:
                (folder / "__init__.py").touch()
            file.write_text(f'raise AssertionError("imported")\n{text}')
        importlib.invalidate_caches()

    monkeypatch.syspath_prepend(tmp_path)
    read_config_fields.cache_clear()
    return write


def real_fields(spec: str) -> dict[str, dataclasses.Field[Any]]:
    module, _, name = spec.partition(":")
    return {f.name: f for f in dataclasses.fields(getattr(importlib.import_module(module), name))}


def test_the_configs_tested_here_are_the_methods_configs() -> None:
    from alignzoo.plugin.registry import registry

    assert {method.config for method, _ in registry().methods.values()} <= set(CONFIGS)


@pytest.mark.parametrize("spec", CONFIGS)
def test_the_names_are_the_dataclass_names(spec: str) -> None:
    assert read_config_fields(spec).keys() == real_fields(spec).keys()


@pytest.mark.parametrize("spec", CONFIGS)
def test_plain_types_are_the_dataclass_types(spec: str) -> None:
    found = read_config_fields(spec)
    plain = {name: f.type for name, f in real_fields(spec).items() if f.type in (bool, int, float, str)}
    assert len(plain) > 40
    assert {name: kind.__name__ for name, kind in plain.items()} == {name: found[name] for name in plain}


@pytest.mark.parametrize("spec", CONFIGS)
def test_a_field_takes_its_own_default(spec: str) -> None:
    """Else a user who writes a default down would be refused."""
    found = read_config_fields(spec)
    defaults = {
        name: f.default if f.default is not dataclasses.MISSING else f.default_factory()  # type: ignore[misc]
        for name, f in real_fields(spec).items()
    }
    plain = {name: value for name, value in defaults.items() if type(value) in PLAIN}
    assert len(plain) > 100
    assert {name: value for name, value in plain.items() if not fits(value, found[name])} == {}


@pytest.mark.parametrize("spec", ["nowhere_at_all:Config", "trl:NoSuchConfig", "trl.nowhere:DPOConfig", "sys:Config"])
def test_an_unknown_source_has_no_fields(spec: str) -> None:
    assert read_config_fields(spec) == {}


def test_fields_are_inherited_within_a_file_and_across_packages(package: Callable[..., None]) -> None:
    package(
        far__base="class Base:\n    rate: float = 1.0\n    shared: int = 0\n",
        near__deep__config="""
from far.base import Base

class Middle(Base):
    shared: str = ""

class Config(Middle):
    own: bool = False
""",
    )
    assert read_config_fields("near:Config") == {"rate": "float", "shared": "str", "own": "bool"}
    assert "near" not in sys.modules


def test_fields_are_inherited_through_a_relative_import(package: Callable[..., None]) -> None:
    package(
        near__base="class Base:\n    rate: float = 1.0\n",
        near__config="from .base import Base\n\nclass Config(Base):\n    own: bool = False\n",
    )
    assert read_config_fields("near.config:Config") == {"rate": "float", "own": "bool"}


def test_a_plugin_may_extend_a_trl_config(package: Callable[..., None]) -> None:
    package(mine__config="from trl import DPOConfig\n\nclass Config(DPOConfig):\n    own: bool = False\n")
    assert read_config_fields("mine.config:Config") == {**read_config_fields("trl:DPOConfig"), "own": "bool"}


@pytest.mark.parametrize(
    "source",
    [
        "import trl\n\nclass Config(trl.DPOConfig):\n    own: bool = False\n",
        "from trl import DPOConfig as Base\n\nclass Config(Base):\n    own: bool = False\n",
    ],
    ids=["through its module", "under another name"],
)
def test_a_base_that_is_imported_in_another_way_hides_no_fields(package: Callable[..., None], source: str) -> None:
    """Either all fields are found, or none, and the constructor complains; some would refuse the others wrongly."""
    package(mine__config=source)
    assert read_config_fields("mine.config:Config") in ({}, {**read_config_fields("trl:DPOConfig"), "own": "bool"})


def test_what_is_no_field_is_left_out(package: Callable[..., None]) -> None:
    package(
        mine__config="""
from typing import ClassVar

class Config:
    limit: ClassVar[int] = 3
    plain = 4
    _hidden: int = 5
    own: bool = False

    def method(self) -> None:
        inside: int = 6
"""
    )
    assert read_config_fields("mine.config:Config") == {"own": "bool"}


def test_of_two_classes_with_one_name_the_one_nearer_the_top_counts(package: Callable[..., None]) -> None:
    package(
        mine__a__deep="class Config:\n    deep: int = 0\n",
        mine__z="class Config:\n    shallow: int = 0\n",
    )
    assert read_config_fields("mine:Config") == {"shallow": "int"}


FITS = [
    (1, "int", True),
    (1.0, "int", False),
    ("1", "int", False),
    (True, "int", False),
    (None, "int", False),
    (1, "float", True),
    (1e-6, "float", True),
    ("1e-6", "float", False),
    (True, "float", False),
    (False, "bool", True),
    (0, "bool", False),
    ("no", "bool", False),
    ("no", "str", True),
    (1, "str", False),
    (None, "str", False),
    (None, "str | None", True),
    (1, "str | None", False),
    (0.5, "int | float", True),
    (True, "int | float", False),
    (True, "bool | str", True),
    (["a"], "list[str]", True),
    ("a", "list[str]", False),
    ("a", "list[str] | str", True),
    ([0.9, 0.95], "tuple[float, float]", True),
    ({"a": 1}, "dict[str, Any] | str | None", True),
    ([1], "dict[str, Any] | str | None", False),
    (None, "Optional[int]", True),
    (3, "Optional[int]", True),
    ("3", "Optional[int]", False),
    (None, "typing.Optional[int]", True),
    (3, "Union[int, str]", True),
    (3.5, "Union[int, str]", False),
    (None, "Optional[Union[int, str]]", True),
    (3.5, "Optional[Union[int, str]]", False),
    ("linear", "SchedulerType | str", True),
    (3, "SchedulerType | str", True),
    (3, "Literal['a', 'b']", True),
    (3, "'int | None'", True),
]


@pytest.mark.parametrize(("value", "annotation", "expected"), FITS)
def test_fits(value: object, annotation: str, expected: bool) -> None:
    """An annotation with a part that YAML knows nothing of takes everything: its constructor has the last word."""
    assert fits(value, annotation) is expected
