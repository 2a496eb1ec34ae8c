"""Checks an environment without a model: played by chance, twice, in a new object and in a used one."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from alignzoo.evaluate.returned import read_number
from alignzoo.plugin.environment import Environment, find_actions
from alignzoo.plugin.registry import registry
from alignzoo.system.errors import UserError
from alignzoo.testing.finding import NotConforming

MOVES = 20  #: actions of a game, where it is not over before
GAMES = 20  #: games of each row

#: JSON's types of an argument -> values to try.
VALUES: Mapping[str, Sequence[Any]] = {
    "integer": range(-1, 101),
    "number": [-1.5, 0.0, 1.0, 42.5],
    "boolean": [True, False],
    "string": ["", "a", "north", "42"],
}


class Played(NamedTuple):
    """What a game showed, move by move, and how it ended."""

    seen: list[str]
    reward: float
    success: bool


class EnvironmentConformance:
    """The checks. Subclass it, or call :func:`environment_conformance`; ``rows`` are rows to begin with."""

    __test__ = False
    name: ClassVar[str]
    rows: ClassVar[Sequence[Mapping[str, Any]]]

    def test_is_registered_with_its_options(self) -> None:
        """It is found through the package's entry point, and its YAML makes one."""
        find_factory(self.name)

    def test_every_action_can_be_told_to_a_model(self) -> None:
        """Signature and docstring of each action give a schema."""
        check_schemas(self.name)

    def test_plays_the_same_game_again(self) -> None:
        """What follows depends on the row and the actions alone, in a new object and in one that was used."""
        check_repetition(self.name, self.rows)

    def test_nothing_changes_once_it_is_over(self) -> None:
        """``over`` is true only where no further action changes reward or success."""
        check_end(self.name, self.rows)


def environment_conformance(environment: str, *examples: Mapping[str, Any]) -> type[EnvironmentConformance]:
    """Return the tests of the environment of that name, to be bound to a name that begins with ``Test``.

    Args:
        environment: its name, as after ``environment=``.
        examples: rows with the columns that :meth:`alignzoo.Environment.reset` reads.
    """

    class Bound(EnvironmentConformance):
        __test__ = True
        name = environment
        rows = examples

    return Bound


def find_factory(name: str) -> Callable[[], Environment]:
    """Return what makes environments with the options of the YAML.

    Raises:
        NotConforming: no plugin adds it, or it has no YAML with keys that it takes.
    """
    from alignzoo.config.check import check
    from alignzoo.config.compose import compose
    from alignzoo.evaluate.toolbox import make_factory

    try:
        registry().environment(name)
        cfg = compose(["method=grpo", f"environment={name}"])
        check(cfg)
        factory = make_factory(cfg)
        factory()
    except UserError as error:
        fix = (
            "return the class from alignzoo_environments in a module that pyproject.toml names, and write "
            f"environment/{name}.yaml with the constructor's keys in a package of alignzoo_config_packages."
        )
        raise NotConforming(name, str(error), fix) from None
    return factory


def check_schemas(name: str) -> None:
    """Refuse an action of which a model cannot be told."""
    from alignzoo.evaluate.toolbox import check_function

    environment = find_factory(name)()
    for action in find_actions(type(environment)):
        try:
            check_function(getattr(environment, action), "its action")
        except UserError as error:
            wrong, _, fix = str(error).partition("\n")
            raise NotConforming(name, wrong, fix or "write a function that is not asynchronous.") from None


def check_repetition(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Play each row several times by the same chance: each time nothing may differ."""
    make = find_factory(name)
    used = make()
    for row in rows:
        for seed in range(GAMES):
            games = [play(name, environment, row, seed) for environment in (make(), used, used)]
            if games[1:] != games[:-1]:
                fix = "let reset set all that the actions change, and draw chance from a generator that the row seeds."
                raise NotConforming(name, f"the same actions in the row {dict(row)} give other games: {games}", fix)


def check_end(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Play on behind the end: neither reward nor success may change."""
    make = find_factory(name)
    for row in rows:
        for seed in range(GAMES):
            environment = make()
            ended = play(name, environment, row, seed)
            if not environment.over:
                continue
            for number in range(MOVES):
                _act(environment, random.Random(number))
            now = (environment.reward, environment.success, environment.over)
            if now != (ended.reward, ended.success, True):
                fix = "let each action return at once where the environment is over."
                raise NotConforming(name, f"in the row {dict(row)} actions behind its end change it", fix)


def play(name: str, environment: Environment, row: Mapping[str, Any], seed: int) -> Played:
    """Return a game of actions by chance.

    Raises:
        NotConforming: what it returns is not what :class:`alignzoo.Environment` says.
    """
    first = environment.reset(prompt=[{"role": "user", "content": ""}], **row)
    if first is not None and not isinstance(first, str):
        raise NotConforming(name, f"reset returned {first!r}", "return a text, or None.")
    chance, seen = random.Random(seed), [str(first)]
    while len(seen) <= MOVES and not environment.over:
        seen.append(_act(environment, chance))
    reward = read_number(environment.reward)
    if reward is None or not isinstance(environment.success, bool):
        wrong = f"its reward is {environment.reward!r}, its success {environment.success!r}"
        raise NotConforming(name, wrong, "return a finite number from reward, and true or false from success.")
    return Played(seen, reward, environment.success)


def _act(environment: Environment, chance: random.Random) -> str:
    """Take one action by chance; what it raises, the model would read."""
    from transformers.utils import get_json_schema

    action = getattr(environment, chance.choice(find_actions(type(environment))))
    parameters = get_json_schema(action)["function"]["parameters"]["properties"]
    given = {key: chance.choice(VALUES.get(str(about.get("type")), [""])) for key, about in parameters.items()}
    try:
        return str(action(**given))
    except Exception as error:
        return str(error)
