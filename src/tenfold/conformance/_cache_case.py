"""The fixtures and values of the cache suite: two instances of a backend on one store."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple, cast
from uuid import UUID

import msgspec
import pytest

from tenfold._core.clock import Clock, SystemClock
from tenfold._core.resolve import backend_class
from tenfold._core.sections import CacheSettings
from tenfold.cache.cache import Cache
from tenfold.cache.contract import CacheBackend, Capabilities
from tenfold.conformance.kit import Conformance

PATIENT: dict[str, Any] = {"timeout_s": 2.0}
"""Suites run on busy machines; how soon a slow store is given up is not what is judged here."""


class Colour(enum.Enum):
    RED = "red"


class Product(msgspec.Struct, frozen=True):
    id: int
    price: Decimal
    seen: datetime
    colour: Colour
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Size:
    width: int
    unit: str


class Pair(NamedTuple):
    a: int
    b: str


PRODUCT = Product(1, Decimal("9.90"), datetime(2026, 11, 22, tzinfo=UTC), Colour.RED, ("a", "b"))
VALUES: list[Any] = [
    0, True, 1.5, "text", "Zażółć 🦆", b"\x00\xff", [1, "two", None], {"a": {"b": [1]}}, (), (1, "x"), {1, 2},
    frozenset({"a"}), {1: "one"}, 2**63 - 1, Decimal("1.10"), datetime(2026, 1, 2, 3, 4), UUID(int=7),
    PRODUCT, [PRODUCT, PRODUCT], {"first": PRODUCT, "none": None, "n": 3}, (PRODUCT, 4), [PRODUCT, None],
    Size(3, "cm"), Pair(1, "b"), Colour.RED, [], {}, {"rows": [{"at": datetime(2026, 1, 1), "id": 1}]},
]  # fmt: skip


class Source:
    """Stands for the database: counts how often it is asked, and can be held back."""

    def __init__(self, value: Any = "v") -> None:
        self.value = value
        self.calls = 0
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self) -> Any:
        self.calls += 1
        value = self.value
        await self.open.wait()
        if isinstance(value, BaseException):
            raise value
        return value


class CacheCase(Conformance):
    """Fixtures. A third party overrides ``url``, and ``backend_type`` unless its scheme is registered."""

    backend_type: ClassVar[type[CacheBackend] | None] = None
    settings: ClassVar[dict[str, Any]] = {}
    """Settings of ``[cache]`` beside the URL."""

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls) -> str:
        """The URL of a store that the suite may fill."""
        raise NotImplementedError(f"{cls.__name__} needs a fixture `url` of scope class.")

    @classmethod
    def make_backend(cls, url: str, clock: Clock | None = None, **settings: Any) -> CacheBackend:
        """A backend that is not started."""
        type_ = cls.backend_type or backend_class("cache", url, where="url")
        given: dict[str, Any] = {**PATIENT, **cls.settings, **settings}
        chosen = CacheSettings(url=url, **given)
        return cast("CacheBackend", type_.from_url(url, chosen, clock or SystemClock()))

    @pytest.fixture(scope="class")
    @classmethod
    async def backends(
        cls, url: str, anyio_backend: str
    ) -> AsyncGenerator[tuple[CacheBackend, CacheBackend]]:
        """Two instances, as in two processes."""
        pair = (cls.make_backend(url), cls.make_backend(url))
        for backend in pair:
            await backend.start()
        yield pair
        for backend in pair:
            await backend.stop()

    @pytest.fixture
    async def pair(
        self, backends: tuple[CacheBackend, CacheBackend], request: pytest.FixtureRequest
    ) -> AsyncGenerator[tuple[Cache, Cache]]:
        """One cache as two processes have it, with nothing in it; 60 s without jitter."""
        made = self.make_pair(backends, request.node.name)
        yield made
        for cache in made:
            await cache.unbind()

    @staticmethod
    def make_pair(
        backends: tuple[CacheBackend, CacheBackend], name: str, **options: Any
    ) -> tuple[Cache, Cache]:
        """Two caches of one name."""
        given: dict[str, Any] = {"jitter": 0.0, **options}
        first, second = (Cache(name, **given) for _ in range(2))
        for cache, backend in zip((first, second), backends, strict=True):
            cache.bind(backend, SystemClock())
        return first, second

    @pytest.fixture
    def cache(self, pair: tuple[Cache, Cache]) -> Cache:
        return pair[0]

    @pytest.fixture
    def other(self, pair: tuple[Cache, Cache]) -> Cache:
        """The same cache in another process."""
        return pair[1]

    @pytest.fixture
    def declared(self, backends: tuple[CacheBackend, CacheBackend]) -> Capabilities:
        return backends[0].capabilities


async def settle(waiting: Any) -> None:
    """Wait for the end of an announced transaction to be told; where nobody has to wait, for a moment."""
    if waiting is not None:
        await waiting
    await asyncio.sleep(0.05)


async def change(cache: Cache, how: str) -> None:
    """Change what is cached under k, which has the tags t and is:old."""
    changes: dict[str, Callable[[], Any]] = {
        "tag": lambda: cache.invalidate("t"),
        "value's tag": lambda: cache.invalidate("is:old"),
        "key": lambda: cache.invalidate("k"),
        "delete": lambda: cache.delete("k"),
        "clear": cache.clear,
        "set": lambda: cache.set("k", "new"),
    }
    await changes[how]()
