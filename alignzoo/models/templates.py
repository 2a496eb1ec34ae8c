"""Bounds the work of chat templates, which are programs that come with a model: their time, and the texts they make.

Jinja's sandbox keeps them from files and commands, and bounds one loop (``MAX_RANGE``), but not loops within loops.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from jinja2 import Template
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from alignzoo.system.errors import UserError

SECONDS = 10.0  #: that one conversation may take; the slowest of public templates take milliseconds
MEMORY = 2 * 2**30  #: bytes by which the process may grow meanwhile
LARGEST = 10**7  #: the longest text or list that one operation may make, and the largest number that a call may take
TICK = 0.25  #: seconds between two looks at what renders

#: In a text that is formatted: a width of eight digits, or one that is an argument.
_WIDTH = re.compile(r"%[-+ #0]*(?:\*|\d*\.?\d{8})|\{[^{}]*\d{8}")


class _Stopped(BaseException):
    """Raised within a template that is to end. Not an Exception, which something on the way may catch."""


class _Rendering:
    """One conversation that renders now."""

    def __init__(self) -> None:
        self.ticks, self.memory, self.is_stopped = 0, 0, False


class Watch:
    """Ends what takes too long, in whatever thread it renders, by an exception between two instructions of Python.

    Looks are counted, not seconds: a process that was stopped meanwhile (Ctrl-Z) has not used its time.
    """

    def __init__(self, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self.seconds, self.memory, self._tick = seconds, memory, min(TICK, seconds / 4)
        self.renders: dict[int, _Rendering] = {}
        self.lock, self.begun, self.thread = threading.Lock(), threading.Event(), threading.Thread()

    @contextlib.contextmanager
    def limit(self) -> Iterator[None]:
        """Raise a :class:`UserError` within the block where it goes beyond a bound; it may be entered anew inside."""
        thread = threading.get_ident()
        if thread in self.renders:
            yield
            return
        mine = self.renders[thread] = _Rendering()
        try:
            if not self.thread.is_alive():  # also after a fork
                self.thread = threading.Thread(target=self._look, daemon=True)
                self.thread.start()
            if not self.begun.is_set():  # to set it costs more than most of a template
                self.begun.set()
            yield
        except _Stopped:
            raise UserError(
                f"the model's chat template does not end: one conversation took {self.seconds:g} s, or "
                f"{self.memory / 2**30:g} GiB.\nName another with model.chat_template=FILE, or chatml."
            ) from None
        finally:
            del self.renders[thread]
            if mine.is_stopped:
                with self.lock:
                    _raise_in(thread, None)  # what has not been raised yet is not raised any more

    def _look(self) -> None:
        while self.begun.wait():
            time.sleep(self._tick)
            self.begun.clear()
            for thread, one in list(self.renders.items()):
                self._look_at(thread, one)
                self.begun.set()

    def _look_at(self, thread: int, one: _Rendering) -> None:
        import psutil

        one.ticks += 1
        used = psutil.Process().memory_info().rss if one.ticks > 1 else 0  # most are seen once at most
        one.memory = one.memory or used
        late = one.ticks * self._tick > self.seconds
        if (late or used > one.memory + self.memory) and not one.is_stopped:
            with self.lock:
                one.is_stopped = True
                if self.renders.get(thread) is one:
                    _raise_in(thread, _Stopped)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, whose templates end: in a text, or with an error."""

    intercepted_binops = frozenset(["*", "**", "%"])
    watch = Watch()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name in ("center", "format", "indent", "truncate", "wordwrap"):
            self.filters[name] = _bound_arguments(self.filters[name])

    def from_string(self, source: Any, *args: Any, **options: Any) -> Template:
        """Return the template; once it was stopped it is refused at once."""
        with self.watch.limit():  # what is constant is computed now
            template = super().from_string(source, *args, **options)
        root, refused = template.root_render_func, list[str]()

        def render(context: Any) -> Iterator[str]:
            if refused:
                raise UserError(refused[0])
            try:
                with self.watch.limit():
                    yield from root(context)
            except UserError as error:
                refused.append(str(error))
                raise

        template.root_render_func = render
        return template

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Refuse what would make a huge text, list or number: no exception could end that."""
        BINARY[operator](left, right)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, called: Any, /, *args: Any, **options: Any) -> Any:
        """Refuse huge numbers among the arguments."""
        if getattr(called, "__name__", "") in ("format", "format_map"):
            _refuse_widths(getattr(getattr(called, "__wrapped__", called), "__self__", None))  # the sandbox wraps it
        _refuse_huge(*args, *options.values())
        return super().call(context, called, *args, **options)


def _refuse_huge(*values: Any) -> None:
    for value in values:
        if isinstance(value, int) and abs(value) > LARGEST:
            raise SecurityError(f"it uses a number beyond {LARGEST:,}")


def _refuse_widths(text: Any, *values: Any) -> None:
    _refuse_huge(*values)
    if isinstance(text, str) and _WIDTH.search(text):
        raise SecurityError("it formats a text with a huge width")


def _bound_arguments(filter_: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(filter_)
    def bounded(*args: Any, **options: Any) -> Any:
        (_refuse_widths if filter_.__name__ == "do_format" else _refuse_huge)(*args, *options.values())
        return filter_(*args, **options)

    return bounded


def _check_product(left: Any, right: Any) -> None:
    for many, times in ((left, right), (right, left)):
        if isinstance(times, int) and hasattr(many, "__len__") and len(many) * times > LARGEST:
            raise SecurityError(f"it makes a text or list longer than {LARGEST:,}")


def _check_power(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > 1_000:
        raise SecurityError("it computes a power beyond 2**1000")


BINARY: dict[str, Callable[[Any, Any], None]] = {"*": _check_product, "**": _check_power, "%": _refuse_widths}


def bound_templates() -> None:
    """Let transformers render chat templates in a :class:`BoundedEnvironment`, wherever they are asked for."""
    from transformers.utils import chat_template_utils

    # patch: transformers chat_template_utils.ImmutableSandboxedEnvironment
    chat_template_utils.ImmutableSandboxedEnvironment = BoundedEnvironment


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error) if error else None)
