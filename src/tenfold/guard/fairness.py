"""Whom a request counts for before its caller is known, so that the line at the door of a full instance can be fair
between tenants (:mod:`tenfold.guard.shedding.line`). Asked only of requests that have to wait.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenfold.security.principal import Principal

CALLERS_MAX = 10_000
"""Credentials that are remembered; an entry takes about 200 bytes."""

_CREDENTIALS = (b"authorization", b"x-api-key", b"cookie")


class Callers:
    """Which share each credential belonged to when it was last found good; the 10,000 used last are kept, as digests.

    A request counts for that share before anything of it is verified. Nobody gains by that: who sends the credential
    of another is refused by authentication, and who has a good one is its owner to us.
    """

    __slots__ = ("_most", "_shares")

    def __init__(self, most: int = CALLERS_MAX) -> None:
        self._most = most
        self._shares: OrderedDict[bytes, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._shares)

    def share_of(self, headers: Mapping[bytes, bytes], address: str) -> str:
        """The share of a request that was not authenticated yet: its tenant's, where the credential is known, else
        the address's (as limits count it)."""
        digest = _digest(headers)
        if digest is not None and (share := self._shares.get(digest)) is not None:
            self._shares.move_to_end(digest)
            return share
        return of_address(address)

    def learn(self, headers: Mapping[bytes, bytes], principal: Principal) -> None:
        """The credential of a request was found good."""
        digest = _digest(headers)
        if digest is None:
            return
        self._shares[digest] = of_principal(principal)
        self._shares.move_to_end(digest)
        if len(self._shares) > self._most:
            self._shares.popitem(last=False)


def _digest(headers: Mapping[bytes, bytes]) -> bytes | None:
    """What stands for the credential of a request, so that a copy of this memory gives none away."""
    for name in _CREDENTIALS:
        value = headers.get(name)
        if value is not None:
            return hashlib.blake2b(value, digest_size=16, person=name).digest()
    return None


def of_principal(principal: Principal) -> str:
    """The share of a caller: its tenant, or itself where it has none."""
    return principal.tenant or f"\0principal {principal.id}"


def of_address(address: str) -> str:
    """The share of a caller nobody knows. No tenant's name begins like this."""
    return f"\0address {address}"
