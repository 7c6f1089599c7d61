"""Who is asking: the one object that authentication makes and everything else reads."""

from __future__ import annotations

from functools import lru_cache

import msgspec


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """An authenticated caller. Subclass it for each kind of caller an app knows::

        class Customer(Principal): ...

        @orders.get("/orders", auth=Customer)
        async def my_orders(customer: Customer) -> list[Order]: ...

    The authenticator decides which class it makes; fields that a subclass adds need defaults. Principals are
    immutable and may be kept and shared: one object may stand for many requests with the same credential.
    """

    id: str
    """Stable identity of the caller, unique within the app."""
    kind: str = "user"
    """The name under which the app registered this class, for example ``customer``."""
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    """What the *credential* may be used for, next to what the caller may do."""
    restricted: bool = False
    """The credential is good for its scopes only: policies that name no scope refuse it."""
    tenant: str | None = None
    email: str | None = None
    via: str = ""
    """How the caller was recognised: ``bearer``, ``session``, ``api-key``, or what an authenticator says."""


@lru_cache(1024)
def service_principal(service: str, tenant: str | None = None) -> Principal:
    """Who calls when nobody asked for the work: a job, a subscriber, a schedule or a start hook of ``service``."""
    return Principal(id=f"service:{service}", kind="service", tenant=tenant, via="service")
