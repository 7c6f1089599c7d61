"""Sessions of browsers: an opaque random id in a cookie, its hash in a table, expiry that slides with use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

import msgspec
import sqlalchemy as sa

from tenfold.security.tables import digest, insert_into, random_token, session

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.db.database import Database, Tx

COOKIE = "tenfold_session"

ENDS_AFTER_S = 90 * 86_400.0
"""A session ends so long after its log-in however much it is used."""

_TOUCH_FRACTION = 0.05
"""The expiry is written again once this part of the time is used up: one write in hundreds of requests."""

_INSERT = insert_into(session)
_FIND = sa.select(session.c.account_id, session.c.expires_at, session.c.ends_at).where(
    session.c.hash == sa.bindparam("hash_"), session.c.expires_at > sa.bindparam("now")
)
_TOUCH = (
    sa.update(session).where(session.c.hash == sa.bindparam("hash_")).values(expires_at=sa.bindparam("until"))
)
_DELETE = sa.delete(session).where(session.c.hash == sa.bindparam("hash_"))
_DELETE_ALL = sa.delete(session).where(session.c.account_id == sa.bindparam("account"))
_SWEEP = sa.delete(session).where(session.c.expires_at <= sa.bindparam("now"))


class CookieArgs(TypedDict):
    """Keyword arguments of ``Reply.set_cookie``."""

    name: str
    value: str
    max_age_s: int
    path: str
    secure: bool
    http_only: bool
    same_site: Literal["lax", "strict", "none"]


class _Found(msgspec.Struct):
    account_id: str
    expires_at: float
    ends_at: float


class Sessions:
    """Opens, finds and ends sessions. An unused one expires after ``ttl_s`` seconds.

    In production (``secure``) the cookie is bound to this host over HTTPS by its ``__Host-`` name.
    """

    def __init__(self, db: Database, clock: Clock, *, ttl_s: float, secure: bool) -> None:
        self._db, self._clock = db, clock
        self._ttl_s = ttl_s
        self._secure = secure
        self.cookie_name = f"__Host-{COOKIE}" if secure else COOKIE

    async def open(self, tx: Tx, account_id: str) -> str:
        """A new session's id, for the cookie. It is never one that the browser sent: fixation is impossible."""
        session_id = random_token(self._clock)
        now = self._clock.now()
        await tx.execute(
            _INSERT,
            {
                "hash": digest(session_id),
                "account_id": account_id,
                "created_at": now,
                "expires_at": now + min(self._ttl_s, ENDS_AFTER_S),
                "ends_at": now + ENDS_AFTER_S,
            },
        )
        return session_id

    async def find(self, session_id: str) -> str | None:
        """The account of a session that is good now, and its expiry moved on; None otherwise."""
        hash_, now = digest(session_id), self._clock.now()
        found = await self._db.read().maybe(_FIND, _Found, hash_=hash_, now=now)
        if found is None:
            return None
        until = min(now + self._ttl_s, found.ends_at)
        if until - found.expires_at > self._ttl_s * _TOUCH_FRACTION:
            async with self._db.tx() as tx:
                await tx.execute(_TOUCH, {"hash_": hash_, "until": until})
        return found.account_id

    async def end(self, tx: Tx, session_id: str) -> bool:
        """End one session; False when there was none."""
        return await tx.execute(_DELETE, {"hash_": digest(session_id)}) > 0

    async def end_all(self, tx: Tx, account_id: str) -> None:
        """End every session of an account."""
        await tx.execute(_DELETE_ALL, {"account": account_id})

    async def sweep(self, tx: Tx) -> None:
        """Delete what has expired."""
        await tx.execute(_SWEEP, {"now": self._clock.now()})

    def cookie(self, session_id: str) -> CookieArgs:
        """The cookie that carries a session; with an empty id, the one that makes the browser forget it.

        It lives in the browser as long as a session can; when the session expires is decided here.
        """
        return {
            "name": self.cookie_name,
            "value": session_id,
            "max_age_s": int(ENDS_AFTER_S) if session_id else 0,
            "path": "/",
            "secure": self._secure,
            "http_only": True,
            "same_site": "lax",
        }
