"""What a flow needs to know of a function to run it as a step: its dependencies and the type of its result."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, get_args, get_origin
from weakref import WeakKeyDictionary

from tenfold._core.container import describe, hints_of
from tenfold._core.threads import contained
from tenfold.db.database import Tx
from tenfold.queue.arguments import Codec
from tenfold.queue.handler import GIVEN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tenfold._core.container import Container, Plan


class StepPlan:
    """One function. ``in_tx``: it takes a transaction, which its record is committed with."""

    __slots__ = ("codec", "in_tx", "plan", "where")

    def __init__(self, container: Container, fn: Callable[..., Any]) -> None:
        self.where = describe(fn)
        self.plan: Plan = container.plan(_inner(fn), given=GIVEN)
        self.in_tx = self.plan.uses(Tx)
        self.codec = Codec(returned_type(_inner(fn)), f"{self.where}, its result")

    async def call(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], given: Mapping[Any, Any]
    ) -> Any:
        """Run it with its dependencies; a plain function runs in a thread."""
        if not self.plan:
            return await _invoke(fn, args, kwargs)
        async with AsyncExitStack() as stack:
            return await _invoke(fn, args, kwargs | await self.plan.resolve(given, stack))


class StepPlans:
    """The plans of functions, each made once."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._plans: WeakKeyDictionary[Callable[..., Any], StepPlan] = WeakKeyDictionary()

    def of(self, fn: Callable[..., Any]) -> StepPlan:
        """The plan of ``fn``. Raises DeclarationError for what cannot be a step."""
        found = self._plans.get(fn)
        if found is None:
            found = self._plans[fn] = StepPlan(self._container, fn)
        return found


def returned_type(fn: Callable[..., Any]) -> Any:
    """What the function is declared to return, awaited."""
    hint = hints_of(fn).get("return", Any)
    origin = get_origin(hint)
    return (
        get_args(hint)[-1] if origin is not None and getattr(origin, "__name__", "") == "Coroutine" else hint
    )


async def _invoke(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if inspect.iscoroutinefunction(_inner(fn)):
        return await fn(*args, **kwargs)
    value = await asyncio.to_thread(contained, fn, *args, **kwargs)
    return await value if inspect.isawaitable(value) else value


def _inner(fn: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(fn, partial):
        fn = fn.func
    return fn
