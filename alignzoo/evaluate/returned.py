"""Checks what a plugin's reward or judge returned, and waits for one that is asynchronous."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import threading
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, TypeVar

from alignzoo.system.errors import UserError

T = TypeVar("T")

SHOWN = 60  #: characters of what was returned that an error shows


def read_list(name: str, returned: Any, count: int, what: str) -> list[Any]:
    """Return ``returned`` as a list of ``count`` items, of ``what`` in the plural.

    Args:
        name: who returned it, as ``reward=length``.
        returned: a list, tuple, array, tensor or generator.
        count: how many items there must be.
        what: what they are: ``scores``.

    Raises:
        UserError: it is something else, or has another length.
    """
    if inspect.iscoroutine(returned):
        returned.close()  # or Python would warn that it was never awaited
    try:
        found = list(returned) if isinstance(returned, Iterable) and not _is_one_value(returned) else None
    except TypeError:  # of a tensor without a dimension
        found = None
    if found is None:
        raise UserError(f"{name} returned {_describe(returned)}: it must return a list of {count} {what}.")
    if len(found) != count:
        raise UserError(
            f"{name} returned {len(found)} {what} for {count} {'completions' if what == 'scores' else 'pairs'}."
        )
    return found


def read_number(value: Any) -> float | None:
    """Return a finite number as a float; None for anything else, such as text and None."""
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # RuntimeError: of a tensor of several numbers
        return None
    return number if math.isfinite(number) else None


def wait_for(awaitable: Awaitable[T]) -> T:
    """Return what ``awaitable`` yields, run in the event loop of :func:`event_loop`."""
    return asyncio.run_coroutine_threadsafe(_await(awaitable), event_loop()).result()


async def join_from_another_loop(awaitable: Awaitable[T]) -> T:
    """Return what ``awaitable`` yields, run in the event loop of :func:`event_loop`, to a coroutine of another loop."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_await(awaitable), event_loop()))


@functools.cache
def event_loop() -> asyncio.AbstractEventLoop:
    """Return the loop in which all asynchronous rewards of this process run, in a thread of its own.

    One for training and measuring: a client that a reward keeps belongs to the loop in which it was first used.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="alignzoo-rewards", daemon=True).start()
    return loop


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _is_one_value(value: Any) -> bool:
    return isinstance(value, str | bytes | Mapping)


def _describe(value: Any) -> str:
    if value is None:
        return "None"
    kind = {"str": "the text", "dict": "the mapping"}.get(type(value).__name__, f"the {type(value).__name__}")
    return kind if kind in ("the coroutine", "the async_generator") else f"{kind} {repr(value)[:SHOWN]}"
