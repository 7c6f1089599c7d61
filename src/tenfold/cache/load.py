"""How one key is loaded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from tenfold.cache.policy import Entry, Lifetime


class Unshared:
    """What a loader returns to say: this is for my caller only; do not store it, do not give it to others."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Found:
    """What a flight returns that needed no load: another process had stored the value."""

    __slots__ = ("entry",)

    def __init__(self, entry: Entry) -> None:
        self.entry = entry


class Load:
    """How to load one key: the loader, the life of its value, its tags."""

    __slots__ = ("key", "life", "loader", "strict", "tags", "tags_from")

    def __init__(
        self,
        key: str,
        loader: Callable[[], Awaitable[Any]],
        life: Lifetime,
        tags: Iterable[str] = (),
        tags_from: Callable[[Any], Iterable[str]] | None = None,
        *,
        strict: bool = False,
    ) -> None:
        self.key = key
        self.loader = loader
        self.life = life
        self.tags = as_tags(tags)
        self.tags_from = tags_from
        self.strict = strict

    def all_tags(self, value: Any) -> tuple[str, ...]:
        """The tags known beforehand and those that the loaded value tells."""
        if self.tags_from is None or value is None or isinstance(value, Unshared):
            return self.tags
        return (*self.tags, *as_tags(self.tags_from(value)))


def as_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags as a tuple; one text is one tag, not its letters."""
    return (tags,) if isinstance(tags, str) else tuple(tags)
