"""Refresh tokens that rotate: each is good once, and using one twice ends the whole log-in.

A thief and the rightful owner of a stolen token will both use it; whoever comes second gives the theft away, and
the family of tokens is revoked (RFC 9700 § 4.14.2). The order of the two does not matter.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from tenfold.errors import ExpiredToken, InvalidToken
from tenfold.security.tables import digest, family, insert_into, random_token, refresh

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.db.database import Database, Tx

log = logging.getLogger("tenfold.security")

_INSERT_FAMILY = insert_into(family)
_INSERT = insert_into(refresh)
_USE = (
    sa.update(refresh)
    .where(refresh.c.hash == sa.bindparam("hash_"), refresh.c.used_at.is_(None))
    .values(used_at=sa.bindparam("now"))
)
_FIND = (
    sa.select(
        refresh.c.family_id,
        family.c.account_id,
        refresh.c.expires_at,
        refresh.c.used_at,
        family.c.revoked_at,
    )
    .join(family, family.c.id == refresh.c.family_id)
    .where(refresh.c.hash == sa.bindparam("hash_"))
)
_EXTEND = sa.update(family).where(family.c.id == sa.bindparam("id_")).values(expires_at=sa.bindparam("until"))
_REVOKE = (
    sa.update(family)
    .where(family.c.id == sa.bindparam("id_"), family.c.revoked_at.is_(None))
    .values(revoked_at=sa.bindparam("now"))
)
_REVOKE_ALL = (
    sa.update(family)
    .where(family.c.account_id == sa.bindparam("account"), family.c.revoked_at.is_(None))
    .values(revoked_at=sa.bindparam("now"))
)
_IS_LIVE = sa.select(family.c.account_id).where(
    family.c.id == sa.bindparam("id_"), family.c.revoked_at.is_(None)
)
_SWEEP = (
    sa.delete(refresh).where(refresh.c.expires_at <= sa.bindparam("now")),
    sa.delete(family).where(family.c.expires_at <= sa.bindparam("now")),
)


_INVALID = "The refresh token is not valid."


class _Found(msgspec.Struct):
    family_id: str
    account_id: str
    expires_at: float
    used_at: float | None
    revoked_at: float | None


class Rotated(msgspec.Struct, frozen=True):
    """Who used a refresh token, and the one that takes its place."""

    account_id: str
    family_id: str
    token: str

    def __repr__(self) -> str:
        return f"Rotated(account_id={self.account_id!r}, family_id={self.family_id!r}, token='••••••')"


class ReusedToken(InvalidToken):
    """A refresh token was used twice; its family is revoked. To the client it is an invalid token like any."""

    def __init__(self, family_id: str) -> None:
        self.family_id = family_id
        super().__init__(_INVALID)


class RefreshTokens:
    """Issues and rotates refresh tokens; one that is not used for ``ttl_s`` seconds expires."""

    def __init__(self, db: Database, clock: Clock, *, ttl_s: float) -> None:
        self._db, self._clock, self._ttl_s = db, clock, ttl_s

    async def begin(self, tx: Tx, account_id: str) -> Rotated:
        """A new family and its first token."""
        now, family_id = self._clock.now(), self._clock.uuid()
        await tx.execute(
            _INSERT_FAMILY,
            {
                "id": family_id,
                "account_id": account_id,
                "created_at": now,
                "expires_at": now + self._ttl_s,
                "revoked_at": None,
            },
        )
        return Rotated(account_id, family_id, await self._add(tx, family_id))

    async def rotate(self, token: str) -> Rotated:
        """Exchange ``token`` for its successor.

        Raises :class:`InvalidToken` for one that is unknown, revoked or used before (which revokes its family),
        :class:`ExpiredToken` for one that is too old. Of concurrent uses exactly one succeeds.
        """
        async with self._db.tx() as tx:
            outcome = await self._rotate(tx, token)
        # Raised after the transaction: it must not roll back the revocation.
        if isinstance(outcome, InvalidToken):
            raise outcome
        return outcome

    async def _rotate(self, tx: Tx, token: str) -> Rotated | InvalidToken:
        now = self._clock.now()
        # Marked before it is looked at: two transactions cannot both find it unused.
        fresh = await tx.execute(_USE, {"hash_": digest(token), "now": now})
        found = await tx.maybe(_FIND, _Found, hash_=digest(token))
        if found is None or found.revoked_at is not None:
            return InvalidToken(_INVALID)
        if not fresh:
            # Whoever is second, thief or owner, ends the log-in for both.
            await tx.execute(_REVOKE, {"id_": found.family_id, "now": now})
            log.warning(
                "a refresh token of account %s was used twice; the log-in is revoked", found.account_id
            )
            return ReusedToken(found.family_id)
        if found.expires_at <= now:
            return ExpiredToken("The refresh token has expired; log in again.")
        await tx.execute(_EXTEND, {"id_": found.family_id, "until": now + self._ttl_s})
        return Rotated(found.account_id, found.family_id, await self._add(tx, found.family_id))

    async def revoke(self, tx: Tx, token: str) -> str | None:
        """End the log-in that ``token`` belongs to; its family, or None when the token is unknown."""
        found = await tx.maybe(_FIND, _Found, hash_=digest(token))
        if found is None:
            return None
        await tx.execute(_REVOKE, {"id_": found.family_id, "now": self._clock.now()})
        return found.family_id

    async def revoke_all(self, tx: Tx, account_id: str) -> None:
        """End every log-in of an account."""
        await tx.execute(_REVOKE_ALL, {"account": account_id, "now": self._clock.now()})

    async def is_live(self, family_id: str) -> bool:
        """Whether the log-in goes on."""
        return await self._db.read(consistency="strong").maybe(_IS_LIVE, str, id_=family_id) is not None

    async def sweep(self, tx: Tx) -> None:
        """Delete what has expired."""
        for statement in _SWEEP:
            await tx.execute(statement, {"now": self._clock.now()})

    async def _add(self, tx: Tx, family_id: str) -> str:
        token = random_token(self._clock)
        await tx.execute(
            _INSERT,
            {
                "hash": digest(token),
                "family_id": family_id,
                "expires_at": self._clock.now() + self._ttl_s,
                "used_at": None,
            },
        )
        return token
