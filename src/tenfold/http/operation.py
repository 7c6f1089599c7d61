"""An operation: a typed async function with a route and policies."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, ParamSpec, TypeVar

from tenfold._core.container import describe
from tenfold.errors import DeclarationError, Problem
from tenfold.http.policies import IDEMPOTENT_METHODS, NEAREST, UNSET, Shared, check

__all__ = ["METHODS", "UNSET", "Operation", "Policies", "ResponseCache"]

P = ParamSpec("P")
R = TypeVar("R")

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class ResponseCache:
    """Keep the whole encoded response for ``ttl_s`` seconds; a hit runs neither decoding nor the handler.

    One entry per path and query string, per value of every header in ``vary``, and per principal unless the
    operation is public or ``public=True`` says that everybody sees the same. ``tags`` are invalidated through
    ``tx.invalidate(tag)``; ``{name}`` in a tag is replaced by the path parameter. For ``stale_s`` seconds after
    ``ttl_s`` the old response is served while a new one is made.
    """

    ttl_s: float = 60.0
    tags: tuple[str, ...] = ()
    vary: tuple[str, ...] = ()
    stale_s: float = 0.0
    public: bool = False

    def __post_init__(self) -> None:
        if self.ttl_s <= 0 or self.stale_s < 0:
            raise DeclarationError("ttl_s must be above 0 and stale_s not below.", where="ResponseCache")
        for name in ("tags", "vary"):
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, (value,))


@dataclass(slots=True)
class Policies(Shared):
    """What surrounds the function of an operation; everything has a default but ``auth``. The policies of
    :class:`~tenfold.http.policies.Shared` may stand on its service and app instead."""

    auth: Any = UNSET
    """``public``, ``authenticated``, a Principal class, ``roles(…)``, ``scopes(…)``, or a combination."""
    auth_from: str = ""
    """Who said ``auth``, where that was not the operation."""
    status: int | None = None
    """Status of a successful answer: 200, or 204 for handlers annotated ``-> None``."""
    cache: ResponseCache | None = None
    etag: bool = False
    """Add an ETag of the body and answer ``If-None-Match`` with 304."""
    unknown_fields: Literal["reject", "ignore"] = "reject"
    """What to do with members of a JSON body that the type does not have."""
    response_model: Any = None
    """Convert the result to this type before it is encoded; fields it does not have are left out."""
    errors: tuple[type[Problem], ...] = ()
    """Problems it may answer with, for the documentation."""
    tags: tuple[str, ...] = ()
    summary: str = ""
    description: str = ""
    deprecated: bool = False
    hidden: bool = False
    """Leave it out of the OpenAPI document."""


class Operation(Generic[P, R]):
    """A declared operation. Calling it calls the function: through the app's rpc once the app runs."""

    def __init__(
        self,
        fn: Callable[P, Awaitable[R] | R],
        *,
        service: str,
        method: str,
        path: str,
        policies: Policies | None = None,
        name: str = "",
    ) -> None:
        self.fn = fn
        self.service = service
        self.name = name or f"{service}.{fn.__name__}"
        self.method = method.upper()
        self.path = path
        self.policies = policies or Policies()
        self.routed = True
        """False: no route; other services may call it, clients may not."""
        self._caller: Callable[..., Awaitable[R]] | None = None
        self.__doc__ = fn.__doc__
        self.__name__ = fn.__name__
        self.__wrapped__ = fn
        self._check()

    @property
    def where(self) -> str:
        """The function with file and line, for messages."""
        return describe(self.fn)

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.fn)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the operation; as a call between services when an app has bound it."""
        if self._caller is not None:
            return await self._caller(*args, **kwargs)
        result: Any = self.fn(*args, **kwargs)
        value: R = await result if inspect.isawaitable(result) else result
        return value

    def bind(self, caller: Callable[..., Awaitable[R]] | None) -> None:
        """Make calls go through ``caller``; None makes them plain calls again."""
        self._caller = caller

    def __repr__(self) -> str:
        return f"<Operation {self.name}: {self.method} {self.path}>"

    def _check(self) -> None:
        if self.method not in METHODS:
            raise DeclarationError(f"{self.method!r} is not an HTTP method.", where=self.where)
        if not self.path.startswith("/"):
            raise DeclarationError(
                f"its path {self.path!r} does not begin with a slash.",
                where=self.where,
                remedy=f"Write '/{self.path}'.",
            )
        # Limits are read where the app is made, so that `tenfold check` finds the mistakes of all of them.
        check(self.policies, self.where, NEAREST)
        if self.policies.cache is not None and self.method != "GET":
            raise DeclarationError("only GET responses are cached.", where=self.where, remedy="Drop cache=.")
        if self.policies.idempotent and self.method in IDEMPOTENT_METHODS:
            raise DeclarationError(
                f"{self.method} is idempotent by itself.", where=self.where, remedy="Drop idempotent=."
            )
