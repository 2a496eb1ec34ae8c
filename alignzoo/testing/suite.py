"""The kit as pytest sees it: a class with a test for each check."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from alignzoo.method import Method
from alignzoo.registry import Plugin, registry
from alignzoo.testing import contract, keys, learning, training
from alignzoo.testing.finding import NotConforming
from alignzoo.testing.rows import LAYOUTS, layouts_for
from alignzoo.testing.runs import Run


def conformance(method: str, *words: str) -> type[Conformance]:
    """Return the tests of the method called ``method``, to be bound to a name that begins with ``Test``.

    Args:
        method: its name, as after ``method=``.
        words: overrides for each training, as on the command line, where the method needs some to train at all.
    """
    return type("Conformance", (Conformance,), {"name": method, "words": words, "__test__": True})


class Conformance:
    """The checks, from the quickest to the slowest. Subclass it, or call :func:`conformance`."""

    __test__ = False
    name: ClassVar[str]
    words: ClassVar[tuple[str, ...]] = ()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Train once in each layout that the method's format can be made from."""
        if "layout" in metafunc.fixturenames:
            known = registry().methods.get(self.name)
            data = getattr(known[0], "data", None) if known else None
            metafunc.parametrize("layout", layouts_for(data) if data in contract.TRAINED else list(LAYOUTS))

    @pytest.fixture(scope="class")
    def found(self) -> tuple[type[Method], Plugin]:
        """The method and its plugin; without them the other checks have nothing to look at."""
        try:
            return contract.registered(self.name)
        except NotConforming:
            pytest.skip("see test_is_registered")

    @pytest.fixture(scope="class")
    def method(self, found: tuple[type[Method], Plugin]) -> type[Method]:
        """The method."""
        return found[0]

    @pytest.fixture(scope="class")
    def learned(self, method: type[Method], tmp_path_factory: pytest.TempPathFactory) -> Run:
        """One training on a separable set, at which several checks look."""
        return learning.learned(method, tmp_path_factory.mktemp("learned"), self.words)

    def test_is_registered(self) -> None:
        """It is found through the package's entry point, as users find it."""
        contract.registered(self.name)

    def test_declares_what_it_is(self, method: type[Method]) -> None:
        """Data format, TRL classes, reference and rewards are given, each in its kind."""
        contract.declares(method)

    def test_names_its_source(self, method: type[Method]) -> None:
        """The docstrings name the paper and where to find it."""
        contract.names_its_source(method)

    def test_sets_fields_that_its_config_has(self, method: type[Method]) -> None:
        """Pinned fields and the YAML's keys are fields of the TRL config."""
        keys.sets_known_fields(method)

    def test_explains_each_key(self, method: type[Method]) -> None:
        """A comment stands above each key of the YAML."""
        keys.explains_its_keys(method)

    def test_composes_with_its_defaults(self, method: type[Method]) -> None:
        """``method=NAME`` composes, and passes the checks before a run."""
        keys.composes(method, self.words)

    def test_list_and_help_import_nothing_heavy(self, found: tuple[type[Method], Plugin]) -> None:
        """Neither the plugin's module nor ``list`` and ``--help`` import torch or TRL."""
        contract.imports_nothing_heavy(*found)

    def test_trains_on(self, method: type[Method], layout: str, tmp_path: Path) -> None:
        """It trains on datasets of each layout that its data format can be made from."""
        training.trains_on(method, layout, tmp_path, self.words)

    def test_every_weight_has_a_gradient(self, method: type[Method], learned: Run) -> None:
        """The loss moves each weight of the model."""
        learning.has_a_gradient(method, learned)

    def test_learns_a_separable_set(self, method: type[Method], learned: Run) -> None:
        """The loss falls and the chosen answers come ahead; or the rewards rise."""
        learning.learns(method, learned)

    def test_declares_its_reference(self, method: type[Method], learned: Run) -> None:
        """``needs_reference`` is what the first rewards show."""
        learning.declares_its_reference(method, learned)

    def test_starts_at_its_first_loss(self, method: type[Method], learned: Run) -> None:
        """``first_loss``, where given, is what the first update logs."""
        learning.starts_at_its_first_loss(method, learned)

    def test_trains_an_adapter(self, method: type[Method], tmp_path: Path) -> None:
        """``peft=lora`` trains an adapter and leaves the model below it alone."""
        training.trains_an_adapter(method, tmp_path, self.words)

    def test_resumes_to_the_same_weights(self, method: type[Method], tmp_path: Path) -> None:
        """A training broken off and resumed ends with the weights of one without a break."""
        training.resumes(method, tmp_path, self.words)

    def test_follows_its_equation(self, method: type[Method]) -> None:
        """TRL's loss and gradient are those of the method's equation, where it gives one."""
        reason = training.follows_its_equation(method)
        if reason:
            pytest.skip(reason)
