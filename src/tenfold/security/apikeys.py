"""API keys for programs: ``tfk_<id>_<secret>``. The secret is shown once; only its hash is kept."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from tenfold.errors import ExpiredToken, FieldError, InvalidInput, InvalidToken, NotFound
from tenfold.security.tables import api_key, digest, insert_into, names, random_token

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.db.database import Database

PREFIX = "tfk"
"""Lets scanners for leaked secrets recognise a key."""

_FORM = re.compile(rf"{PREFIX}_([0-9a-f]{{16}})_([A-Za-z0-9_-]{{43}})")
_NAME_MAX = 255
_USED_EVERY_S = 60.0
"""How exact ``used_at`` is: a busy key costs one write a minute."""

_INSERT = insert_into(api_key)
_FIND = sa.select(
    api_key.c.hash, api_key.c.account_id, api_key.c.scopes, api_key.c.expires_at, api_key.c.used_at
).where(api_key.c.id == sa.bindparam("id_"))
_LIST = (
    sa.select(
        api_key.c.id,
        api_key.c.name,
        api_key.c.scopes,
        api_key.c.created_at,
        api_key.c.expires_at,
        api_key.c.used_at,
    )
    .where(api_key.c.account_id == sa.bindparam("account"))
    .order_by(api_key.c.created_at, api_key.c.id)
)
_USED = sa.update(api_key).where(api_key.c.id == sa.bindparam("id_")).values(used_at=sa.bindparam("now"))
_DELETE = sa.delete(api_key).where(
    api_key.c.id == sa.bindparam("id_"), api_key.c.account_id == sa.bindparam("account")
)


class NewApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key just made: the only time that ``key`` can be read. Its ``repr`` hides it."""

    id: str
    name: str
    key: str

    def __repr__(self) -> str:
        return f"NewApiKey(id={self.id!r}, name={self.name!r}, key='••••••')"


class ApiKeyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What may be shown of a key. Times are seconds since the epoch; ``used_at`` is exact to a minute."""

    id: str
    name: str
    scopes: list[str] | None
    created_at: float
    expires_at: float | None
    used_at: float | None


class KeyOwner(msgspec.Struct, frozen=True):
    """Whose key it is; ``scopes`` None: it may do all that the account may."""

    account_id: str
    scopes: frozenset[str] | None


class _Found(msgspec.Struct):
    hash: str
    account_id: str
    scopes: str | None
    expires_at: float | None
    used_at: float | None


class _Listed(msgspec.Struct):
    id: str
    name: str
    scopes: str | None
    created_at: float
    expires_at: float | None
    used_at: float | None


class ApiKeys:
    """Makes, recognises and revokes API keys."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock

    async def create(
        self, account_id: str, name: str, scopes: Iterable[str] | None, ttl_s: float | None
    ) -> NewApiKey:
        """A new key. Raises :class:`InvalidInput` for a name or scope that cannot be one."""
        wanted = _check(name, scopes)
        key_id, now = self._clock.random.randbytes(8).hex(), self._clock.now()
        key = f"{PREFIX}_{key_id}_{random_token(self._clock)}"
        row = {
            "id": key_id,
            "hash": digest(key),
            "account_id": account_id,
            "name": name,
            "scopes": wanted,
            "created_at": now,
            "expires_at": None if ttl_s is None else now + ttl_s,
            "used_at": None,
        }
        async with self._db.tx() as tx:
            await tx.execute(_INSERT, row)
        return NewApiKey(id=key_id, name=name, key=key)

    async def find(self, key: str) -> KeyOwner:
        """Whose key it is. Raises :class:`InvalidToken`, or :class:`ExpiredToken` for the right key too late."""
        form = _FORM.fullmatch(key)
        found = await self._db.read(consistency="strong").maybe(_FIND, _Found, id_=form[1]) if form else None
        if form is None or found is None or not hmac.compare_digest(found.hash, digest(key)):
            raise InvalidToken("The API key is not valid.")
        now = self._clock.now()
        if found.expires_at is not None and found.expires_at <= now:
            raise ExpiredToken("The API key has expired.")
        if found.used_at is None or now - found.used_at > _USED_EVERY_S:
            async with self._db.tx() as tx:
                await tx.execute(_USED, {"id_": form[1], "now": now})
        return KeyOwner(found.account_id, None if found.scopes is None else names(found.scopes))

    async def list(self, account_id: str) -> list[ApiKeyInfo]:
        """The keys of an account, oldest first."""
        return [
            ApiKeyInfo(
                id=row.id,
                name=row.name,
                scopes=None if row.scopes is None else sorted(names(row.scopes)),
                created_at=row.created_at,
                expires_at=row.expires_at,
                used_at=row.used_at,
            )
            for row in await self._db.read(consistency="strong").all(_LIST, _Listed, account=account_id)
        ]

    async def revoke(self, account_id: str, key_id: str) -> None:
        """Delete a key of this account. Raises :class:`NotFound`, also for a key of another account."""
        async with self._db.tx() as tx:
            if not await tx.execute(_DELETE, {"id_": key_id, "account": account_id}):
                raise NotFound("There is no such API key.")


def _check(name: str, scopes: Iterable[str] | None) -> str | None:
    """The scopes as stored; the name must be printable."""
    if not name.strip() or len(name) > _NAME_MAX or not name.isprintable():
        raise InvalidInput(
            errors=[FieldError("body", "name", f"A key needs a name of 1 to {_NAME_MAX} characters.")]
        )
    if scopes is None:
        return None
    wanted = sorted(set(scopes))
    if (
        isinstance(scopes, str)
        or not wanted
        or not all(scope and scope.split() == [scope] for scope in wanted)
    ):
        raise InvalidInput(
            errors=[FieldError("body", "scopes", "Scopes are a list of names without blanks.")]
        )
    return " ".join(wanted)
