"""An object with some of its methods replaced, and what a broken variant is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

_OWN = frozenset({"inner", "memory", "_changes"})


class Altered:
    """Everything is ``inner``'s, but for the methods that were changed: those get this object first."""

    def __init__(self, inner: Any, changes: Mapping[str, Callable[..., Any]]) -> None:
        self.inner = inner
        self.memory: dict[Any, Any] = {}
        """For what a change has to remember between two calls."""
        self._changes = changes

    def __getattr__(self, name: str) -> Any:
        change = self._changes.get(name)
        return getattr(self.inner, name) if change is None else partial(change, self)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            object.__setattr__(self, name, value)
        else:
            setattr(self.inner, name, value)

    def __len__(self) -> int:
        return len(self.inner)

    def __bool__(self) -> bool:
        return True


def alter(inner: Any, **changes: Callable[..., Any]) -> Any:
    """``inner`` with other methods; each gets the altered object (``it.inner`` is what it was) and the arguments."""
    return Altered(inner, changes)


def answer(value: Any) -> Callable[..., Any]:
    """A coroutine method that does nothing and answers ``value``."""

    async def method(it: Altered, *args: Any, **kw: Any) -> Any:
        return value

    return method


@dataclass(frozen=True)
class Broken:
    """One way not to keep a contract."""

    name: str
    """What is wrong, in a few words."""
    test: str
    """The test of the suite that must notice."""
    break_: Callable[[Any], Any]
    """Makes the broken backend of a sound one."""
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the test is parametrized with."""
    concerns: Callable[[Any], bool] = lambda capabilities: True
    """Whether a backend with these capabilities could be broken so."""
    timeout_s: float = 10.0
