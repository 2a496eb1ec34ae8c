"""Finds a loss and an equation that are one function: comparing them would prove nothing."""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

from alignzoo.plugin.answer_loss import AnswerLoss
from alignzoo.plugin.method import Method
from alignzoo.plugin.pair_loss import PairLoss


def find_shared(method: type[Method]) -> str | None:
    """Return what the method's loss and equation share, in the words of who wrote the plugin, or None.

    Functions of the method's class and module count, also where others call them; those of libraries do not.
    """
    if not issubclass(method, PairLoss | AnswerLoss):
        return None
    loss, equation = _unwrap(method.loss), _unwrap(method.equation)
    if loss.__code__ == equation.__code__:
        return "its loss and its equation are one function"
    shared = sorted({f.__qualname__ for f in _reach(loss, method)} & {f.__qualname__ for f in _reach(equation, method)})
    return f"its loss and its equation share {shared[0]}" if shared else None


def _unwrap(function: Any) -> FunctionType:
    found: FunctionType = getattr(function, "__func__", function)
    return found


def _reach(function: FunctionType, method: type[Method]) -> set[FunctionType]:
    """Return the function, and those of its method and its module that it comes to call."""
    found: set[FunctionType] = set()
    open_ = [function]
    while open_:
        one = open_.pop()
        if one not in found:
            found.add(one)
            open_ += [other for name in _read_names(one.__code__) if (other := _find(name, one, method)) is not None]
    return found


def _read_names(code: CodeType) -> Iterator[str]:
    """Yield the names that a function and those within it refer to."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _read_names(constant)


def _find(name: str, function: FunctionType, method: type[Method]) -> FunctionType | None:
    """Return what ``name`` is if it is a function that the plugin wrote."""
    written = [
        vars(cls)[name]
        for cls in method.__mro__
        if name in vars(cls) and cls not in (*PairLoss.__mro__, *AnswerLoss.__mro__)
    ]
    found = getattr(written[0], "__func__", written[0]) if written else function.__globals__.get(name)
    if not isinstance(found, FunctionType):
        return None
    same_package = found.__module__.partition(".")[0] == function.__module__.partition(".")[0]
    return found if written or same_package else None
