"""Sessions of browsers: an opaque random id in a cookie, its hash in a store, expiry that slides with use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal, TypedDict

import msgspec

from tenfold.security.tables import digest, random_token

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.db.database import Tx

COOKIE = "tenfold_session"

ENDS_AFTER_S = 90 * 86_400.0
"""A session ends so long after its log-in however much it is used."""

_TOUCH_FRACTION = 0.05
"""The expiry is written again once this part of the time is used up: one write in hundreds of requests."""


def cookie_name(secure: bool) -> str:
    """The cookie of a session; in production (``secure``), one that is bound to its host over HTTPS."""
    return f"__Host-{COOKIE}" if secure else COOKIE


class CookieArgs(TypedDict):
    """Keyword arguments of ``Reply.set_cookie``."""

    name: str
    value: str
    max_age_s: int
    path: str
    secure: bool
    http_only: bool
    same_site: Literal["lax", "strict", "none"]


class SessionRecord(msgspec.Struct, frozen=True):
    """What a store keeps of a session. Times are seconds since the epoch, UTC."""

    hash: str
    """Of the id in the cookie: what is read in the store logs nobody in."""
    account_id: str
    created_at: float
    expires_at: float
    """Moves on with use."""
    ends_at: float
    """Does not."""


class SessionStore(ABC):
    """Where sessions live.

    - Order: none between sessions.
    - Loss: as durable as the store; who loses a session logs in again. A revocation is never lost alone.
    - Atomicity: where ``joins`` is True, a change is part of the transaction ``tx``, which is open on the accounts'
      database: it happens if and only if that commits. Otherwise it has happened when the method returns; a
      transaction that is rolled back afterwards leaves a session too few, or one that nobody knows the id of.
    - Consistency: what was revoked (and, where ``joins``, committed) is found by no :meth:`get` that starts
      afterwards, in any process; neither :meth:`touch` nor anything else brings it back.
    - Time: the caller's clock; sessions last weeks.
    - Errors: StoreUnavailable, those of the database. A revocation that raised may not have happened.
    """

    joins: bool

    @abstractmethod
    async def create(self, record: SessionRecord, *, tx: Tx) -> None:
        """Keep a new session until its ``expires_at``."""

    @abstractmethod
    async def get(self, hash_: str, now: float) -> SessionRecord | None:
        """The session, if it is there and expires after ``now``."""

    @abstractmethod
    async def touch(self, hash_: str, expires_at: float, *, now: float) -> bool:
        """Move its expiry; False, and nothing happens, when it is gone."""

    @abstractmethod
    async def revoke(self, hash_: str, *, tx: Tx) -> bool:
        """End one; False when there was none."""

    @abstractmethod
    async def revoke_all(self, account_id: str, *, tx: Tx) -> None:
        """End every session of an account."""

    @abstractmethod
    async def prune(self, now: float, *, tx: Tx) -> None:
        """Forget what has expired."""


class Sessions:
    """Opens, finds and ends sessions. An unused one expires after ``ttl_s`` seconds.

    In production (``secure``) the cookie is bound to this host over HTTPS by its ``__Host-`` name.
    """

    def __init__(self, store: SessionStore, clock: Clock, *, ttl_s: float, secure: bool) -> None:
        self._store, self._clock = store, clock
        self._ttl_s = ttl_s
        self._secure = secure
        self.cookie_name = cookie_name(secure)

    async def open(self, tx: Tx, account_id: str) -> str:
        """A new session's id, for the cookie. It is never one that the browser sent: fixation is impossible."""
        session_id = random_token(self._clock)
        now = self._clock.now()
        expires_at = now + min(self._ttl_s, ENDS_AFTER_S)
        record = SessionRecord(digest(session_id), account_id, now, expires_at, now + ENDS_AFTER_S)
        await self._store.create(record, tx=tx)
        return session_id

    async def find(self, session_id: str) -> str | None:
        """The account of a session that is good now, and its expiry moved on; None otherwise."""
        hash_, now = digest(session_id), self._clock.now()
        found = await self._store.get(hash_, now)
        if found is None:
            return None
        until = min(now + self._ttl_s, found.ends_at)
        if until - found.expires_at > self._ttl_s * _TOUCH_FRACTION:
            await self._store.touch(hash_, until, now=now)
        return found.account_id

    async def end(self, tx: Tx, session_id: str) -> bool:
        """End one session; False when there was none."""
        return await self._store.revoke(digest(session_id), tx=tx)

    async def end_all(self, tx: Tx, account_id: str) -> None:
        """End every session of an account."""
        await self._store.revoke_all(account_id, tx=tx)

    async def sweep(self, tx: Tx) -> None:
        """Delete what has expired."""
        await self._store.prune(self._clock.now(), tx=tx)

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
