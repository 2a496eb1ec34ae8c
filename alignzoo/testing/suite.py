"""Defines the class with a test for each check of a method."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from alignzoo.plugin.method import TRAINED, Method
from alignzoo.plugin.registry import registry
from alignzoo.system.errors import UserError
from alignzoo.testing import contract, keys, learning, training
from alignzoo.testing.rows import LAYOUTS, find_further, list_layouts
from alignzoo.testing.runs import Run


class Conformance:
    """The checks, from the quickest to the slowest. Subclass it, or call :func:`conformance`.

    A check that builds on one that fails is skipped, and names it: one fault, one failing test.

    Set ``ranks = False`` for a method that does not learn which of two completions is better, such as one that imitates
    a teacher: its loss must fall all the same, and chosen completions need not come ahead of rejected ones. Set
    ``falls = False`` for one whose loss may rise while it learns, such as one that weighs tokens by their probability.
    """

    __test__ = False
    name: ClassVar[str]
    words: ClassVar[tuple[str, ...]] = ()
    ranks: ClassVar[bool] = True
    falls: ClassVar[bool] = True

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Train once in each layout from which the method's format can be made."""
        if "layout" in metafunc.fixturenames:
            known = registry().methods.get(self.name)
            metafunc.parametrize("layout", _list_layouts(known[0]) if known else list(LAYOUTS))

    def test_is_registered(self) -> None:
        """It is found through the package's entry point, as users find it."""
        contract.find_method(self.name)

    def test_declares_what_it_is(self, alignzoo_registered: type[Method]) -> None:
        """The installed TRL has the config, the trainer and the pinned fields; the trainer reads the data format."""
        contract.check_declarations(alignzoo_registered)

    def test_names_its_source(self, alignzoo_registered: type[Method]) -> None:
        """The docstrings name the paper and where to find it."""
        contract.check_source(alignzoo_registered)

    def test_sets_fields_that_its_config_has(self, alignzoo_declared: type[Method]) -> None:
        """The YAML is there, and its keys are fields of the TRL config."""
        keys.check_fields(alignzoo_declared)

    def test_explains_each_key(self, alignzoo_method: type[Method]) -> None:
        """A comment stands above each key of the YAML."""
        keys.check_comments(alignzoo_method)

    def test_composes_with_its_defaults(self, alignzoo_method: type[Method]) -> None:
        """``method=NAME`` composes, and passes the checks before a run."""
        keys.check_defaults(alignzoo_method, self.words)

    def test_list_and_help_import_nothing_heavy(self, alignzoo_method: type[Method]) -> None:
        """Neither the plugin's module nor ``list`` and ``--help`` import torch or TRL."""
        contract.check_imports(alignzoo_method)

    def test_trains_on(self, alignzoo_runnable: type[Method], layout: str, tmp_path: Path) -> None:
        """It trains on datasets of each layout that its data format can be made from."""
        training.check_training(alignzoo_runnable, layout, tmp_path, self.words)

    def test_every_weight_has_a_gradient(self, alignzoo_runnable: type[Method], alignzoo_training_run: Run) -> None:
        """The loss moves each weight of the model."""
        learning.check_gradient(alignzoo_runnable, alignzoo_training_run)

    def test_learns_a_separable_set(self, alignzoo_runnable: type[Method], alignzoo_training_run: Run) -> None:
        """The loss falls and the chosen completions come ahead; or the rewards rise."""
        learning.check_learning(alignzoo_runnable, alignzoo_training_run, self.ranks, self.falls)

    def test_declares_its_reference(self, alignzoo_runnable: type[Method], alignzoo_training_run: Run) -> None:
        """``needs_reference`` is what the first rewards show."""
        learning.check_reference(alignzoo_runnable, alignzoo_training_run)

    def test_starts_at_its_first_loss(self, alignzoo_runnable: type[Method], alignzoo_training_run: Run) -> None:
        """``first_loss``, where given, is the loss of the first step."""
        learning.check_first_loss(alignzoo_runnable, alignzoo_training_run)

    def test_trains_an_adapter(self, alignzoo_runnable: type[Method], tmp_path: Path) -> None:
        """``peft=lora`` trains an adapter and leaves the model below it alone."""
        training.check_adapter(alignzoo_runnable, tmp_path, self.words)

    def test_resumes_to_the_same_weights(self, alignzoo_runnable: type[Method], tmp_path: Path) -> None:
        """An interrupted and resumed training ends with the weights of an uninterrupted one."""
        training.check_resuming(alignzoo_runnable, tmp_path, self.words)

    def test_may_be_divided(self, alignzoo_runnable: type[Method], tmp_path: Path) -> None:
        """Where ``mean_of_rows`` says so, a step row by row equals a step of the rows in one batch."""
        reason = training.check_division(alignzoo_runnable, tmp_path, self.words)
        if reason:
            pytest.skip(reason)

    def test_follows_its_equation(self, alignzoo_runnable: type[Method]) -> None:
        """The trainer's loss and gradient are those of the method's equation, where it gives one."""
        reason = training.check_equation(alignzoo_runnable)
        if reason:
            pytest.skip(reason)


def _list_layouts(method: type[Method]) -> list[str]:
    """Return the layouts to train the method on; all of a method that is not declared as it should be."""
    data = getattr(method, "data", None)
    if data not in TRAINED:
        return list(LAYOUTS)
    try:
        return list_layouts(data, find_further(method))
    except UserError:  # its own test says what is wrong with its configuration
        return list_layouts(data)


def conformance(method: str, *overrides: str, ranks: bool = True, falls: bool = True) -> type[Conformance]:
    """Return the tests of the method called ``method``, to be bound to a name that begins with ``Test``.

    Args:
        method: its name, as after ``method=``.
        overrides: words for each training, as on the command line, where the method needs some to train at all.
        ranks: False for a method that does not learn which of two completions is better, such as one that imitates a
            teacher: chosen completions then need not come ahead of rejected ones.
        falls: False for a method whose loss may rise while it learns.
    """
    ranking, falling = ranks, falls

    class Bound(Conformance):
        __test__ = True
        name = method
        words = overrides
        ranks = ranking
        falls = falling

    return Bound
