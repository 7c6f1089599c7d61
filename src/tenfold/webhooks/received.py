"""What the handler of an incoming webhook may take instead of the bare body."""

from __future__ import annotations

from typing import Generic, TypeVar

from msgspec import Struct

T = TypeVar("T")


class Received(Struct, Generic[T], frozen=True, kw_only=True):
    """A verified webhook: ``async def paid(hook: Received[Payment], tx: Tx) -> None``."""

    id: str
    """The sender's id of it, the same in every attempt."""
    kind: str
    """What happened, as the sender calls it (``payment.succeeded``); empty when it does not say."""
    at: float
    """When it was taken in, in seconds since the epoch."""
    data: T
    """The body, whole."""
