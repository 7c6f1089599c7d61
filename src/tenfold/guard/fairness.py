"""Fairness between tenants in front of a server that has not room for everybody: who a request counts for before its
caller is known, who of those that wait is next, who has to go when the line is full, and who had more than its share.

All of it is used under pressure only, and pure: what waits, and for how long, is :mod:`tenfold.guard.admission`'s.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

from tenfold._core.fairness import FairLine, Holdings, WeightOf

if TYPE_CHECKING:
    from tenfold.security.principal import Principal

T = TypeVar("T")

CALLERS_MAX = 10_000
"""Credentials that are remembered; an entry takes about 200 bytes."""
LEAD_MAX = 8.0
"""Turns that a tenant may have had beyond its share before it is refused after authentication. It has to be above
what a tenant of good manners brings in one moment, by credentials that were not known yet."""

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


class BoundedLine(Generic[T]):
    """A fair line with room for ``most``. A full one is kept fair by who has to go: the newest or the oldest of the
    share that has the most in line for its weight, so that a flood displaces itself, and one who comes alone always
    finds room while somebody has more than one place."""

    __slots__ = ("_holdings", "_line", "most")

    def __init__(self, most: int, weight_of: WeightOf | None = None) -> None:
        self.most = most
        self._line: FairLine[tuple[str, T]] = FairLine(weight_of)
        self._holdings = Holdings(weight_of)

    def __len__(self) -> int:
        return self._line.size

    def __iter__(self) -> Iterator[T]:
        return (item for _, item in self._line)

    def offer(self, share: str, item: T, *, newest_goes: bool = True) -> T | None:
        """Stand in line. Who has to go for that, if it is full: one of another's, or ``item`` itself, which then does
        not stand there."""
        gone = None
        if self._line.size >= self.most:
            gone = self._displaced(share, newest=newest_goes)
            if gone is None:
                return item
        self._line.push(share, (share, item))
        self._holdings.add(share)
        return gone

    def pop(self, *, newest: bool = False) -> T:
        """Whose turn it is. Raises IndexError when nobody waits."""
        share, item = self._line.pop(newest=newest)
        self._holdings.remove(share)
        return item

    def discard(self, share: str, item: T) -> bool:
        """Leave without a turn; False when it did not stand there."""
        found = self._line.discard(share, (share, item))
        if found:
            self._holdings.remove(share)
        return found

    def settle(self, guessed: str, share: str) -> bool:
        """One who was let in as ``guessed`` turns out to belong to ``share``, which is charged for it. False when that
        share had more than its own by now: it is to be refused, for others wait."""
        if guessed == share:
            return True  # the line was fair to it
        self._line.charge(share)
        return self._line.lead(share) <= LEAD_MAX

    def _displaced(self, share: str, *, newest: bool) -> T | None:
        heaviest = self._holdings.heaviest()
        if heaviest is None or self._holdings.level(heaviest) <= self._holdings.level(share, 1):
            return None
        _, item = self._line.take_out(heaviest, newest=newest)
        self._holdings.remove(heaviest)
        return item
