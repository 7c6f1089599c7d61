"""Guessing passwords gets slower with every wrong one. The decision is pure; the table remembers.

Two limits act together: per account *and* address (a guesser from one place is stopped early, and cannot lock the
owner out elsewhere), and per account alone (many places guessing at one account), mild enough that nobody can be
locked out for long.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from tenfold._core.backoff import bound_s
from tenfold.errors import TooManyRequests, UniqueViolation
from tenfold.security.tables import attempt, insert_into

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.db.database import Database, Tx


@dataclass(frozen=True, slots=True)
class Curve:
    """``free`` failures cost nothing; each further one doubles the delay from ``base_s`` up to ``max_s``.

    A key without a failure for ``forget_s`` seconds starts afresh.
    """

    free: int
    base_s: float
    max_s: float
    forget_s: float

    def delay_s(self, failures: int) -> float:
        """How long the next attempt must wait after so many failures."""
        beyond = failures - self.free
        if beyond <= 0:
            return 0.0
        return bound_s(beyond, base_s=self.base_s, most_s=self.max_s)


PLACE = Curve(free=5, base_s=1.0, max_s=900.0, forget_s=86_400.0)
"""Per account and address."""

ACCOUNT = Curve(free=50, base_s=1.0, max_s=60.0, forget_s=3_600.0)
"""Per account, from anywhere."""

_INSERT = insert_into(attempt)
# Locked where the engine locks rows, so that parallel guesses do not overwrite each other's count.
_FIND = (
    sa.select(attempt.c.failures, attempt.c.last_at, attempt.c.blocked_until)
    .where(attempt.c.key == sa.bindparam("key_"))
    .with_for_update()
)
_UPDATE = (
    sa.update(attempt)
    .where(attempt.c.key == sa.bindparam("key_"))
    .values(failures=sa.bindparam("count"), last_at=sa.bindparam("now"), blocked_until=sa.bindparam("until"))
)
_DELETE = sa.delete(attempt).where(attempt.c.key == sa.bindparam("key_"))
_SWEEP = sa.delete(attempt).where(attempt.c.last_at <= sa.bindparam("before"))


class _State(msgspec.Struct):
    failures: int
    last_at: float
    blocked_until: float


class LoginThrottle:
    """Counts attempts before they are made and forgives them on success, so that parallel guesses count too."""

    def __init__(self, db: Database, clock: Clock, *, place: Curve = PLACE, account: Curve = ACCOUNT) -> None:
        self._db, self._clock = db, clock
        self._curves = {"place": place, "account": account}

    async def attempt(self, email_key: str, address: str) -> None:
        """Count an attempt, or raise :class:`TooManyRequests` with ``Retry-After`` while one must wait.

        Unknown accounts are counted like known ones: the answer tells nothing about them.
        """
        now = self._clock.now()
        keys = _keys(email_key, address)
        wait_s = 0.0
        async with self._db.tx() as tx:
            states = {name: await tx.maybe(_FIND, _State, key_=key) for name, key in keys.items()}
            for state in states.values():
                wait_s = max(wait_s, state.blocked_until - now if state else 0.0)
            # One that must wait is not counted: hammering from one place does not slow the account elsewhere.
            if wait_s <= 0:
                for name, key in keys.items():
                    await self._count(tx, key, self._curves[name], states[name])
        if wait_s > 0:
            seconds = math.ceil(wait_s)
            raise TooManyRequests(
                f"Too many failed log-ins; try again in {seconds} s.", headers={"Retry-After": str(seconds)}
            )

    async def forgive(self, tx: Tx, email_key: str, address: str) -> None:
        """The attempt succeeded: its keys start afresh."""
        for key in _keys(email_key, address).values():
            await tx.execute(_DELETE, {"key_": key})

    async def sweep(self, tx: Tx) -> None:
        """Delete what is forgotten anyway."""
        longest = max(curve.forget_s for curve in self._curves.values())
        await tx.execute(_SWEEP, {"before": self._clock.now() - longest})

    async def _count(self, tx: Tx, key: str, curve: Curve, state: _State | None) -> None:
        now = self._clock.now()
        if state is None:
            row = {"key": key, "failures": 1, "last_at": now, "blocked_until": now + curve.delay_s(1)}
            try:
                async with tx.savepoint():
                    await tx.execute(_INSERT, row)
            except UniqueViolation:  # another process counted its first at the same moment
                await self._count(tx, key, curve, await tx.one(_FIND, _State, key_=key))
            return
        count = 1 if now - state.last_at > curve.forget_s else state.failures + 1
        until = now + curve.delay_s(count)
        await tx.execute(_UPDATE, {"key_": key, "count": count, "now": now, "until": until})


def _keys(email_key: str, address: str) -> dict[str, str]:
    """Hashed: a list of who failed to log in from where is nobody's business."""
    return {
        "place": hashlib.sha256(f"place\0{email_key}\0{address}".encode(errors="surrogatepass")).hexdigest(),
        "account": hashlib.sha256(f"account\0{email_key}".encode(errors="surrogatepass")).hexdigest(),
    }
