"""Running a plain function in a thread, for somebody who awaits it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")


def contained(fn: Callable[..., R], /, *args: object, **kwargs: object) -> R:
    """``fn(…)``, with a StopIteration raised as RuntimeError.

    No asyncio future can carry a StopIteration (it would end the generator that awaits it), and one that cannot
    be settled keeps its awaiter waiting for ever. ``next()`` without a default raises it easily.
    """
    try:
        return fn(*args, **kwargs)
    except StopIteration as error:
        raise RuntimeError("the function raised StopIteration; give next() a default.") from error
