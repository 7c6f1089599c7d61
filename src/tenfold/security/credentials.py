"""The authenticator of :class:`~tenfold.security.accounts.Accounts`: bearer tokens, API keys, session cookies."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from tenfold._core.origin import Headers
from tenfold.errors import InvalidToken, NotBound
from tenfold.security.apikeys import ApiKeys
from tenfold.security.authenticator import Authenticator
from tenfold.security.directory import Directory
from tenfold.security.principal import Principal
from tenfold.security.refresh import RefreshTokens
from tenfold.security.sessions import COOKIE, Sessions
from tenfold.security.tokens import KEY_BYTES, Tokens, Verified, VerifiedTokens


class Owner(msgspec.Struct, frozen=True):
    """Whose a bearer token is, until when (seconds since the epoch), and the log-in that it belongs to."""

    principal: Principal
    exp: float
    sid: str


class LookUp(Protocol):
    """Knows whose credentials are. Each raises InvalidToken or ExpiredToken."""

    @property
    def verified(self) -> VerifiedTokens: ...

    @property
    def cookie_name(self) -> str: ...

    async def bearer(self, token: str) -> Owner: ...

    async def api_key(self, key: str) -> Principal: ...

    async def session(self, session_id: str) -> Principal | None:
        """None for one that is no longer good."""
        ...


class Stores(msgspec.Struct, frozen=True):
    """Where credentials are looked up: in the accounts' own database."""

    directory: Directory
    tokens: Tokens
    verified: VerifiedTokens
    refresh: RefreshTokens
    sessions: Sessions
    keys: ApiKeys

    @property
    def cookie_name(self) -> str:
        return self.sessions.cookie_name

    async def bearer(self, token: str) -> Owner:
        claims = self.tokens.verify(token)
        if not await self.refresh.is_live(claims.sid):
            raise InvalidToken("The log-in of this token has ended.")
        return Owner(await self.directory.holder(claims.sub, "bearer"), claims.exp, claims.sid)

    async def api_key(self, key: str) -> Principal:
        owner = await self.keys.find(key)
        return await self.directory.holder(owner.account_id, "api-key", owner.scopes)

    async def session(self, session_id: str) -> Principal | None:
        account_id = await self.sessions.find(session_id)
        if account_id is None:
            return None
        try:
            return await self.directory.holder(account_id, "session")
        except InvalidToken:
            return None


class AccountAuthenticator(Authenticator):
    """Recognises accounts by, in this order:

    ``Authorization: Bearer <access token>``: verified once, then for 30 s from memory; its log-in and account are
    looked up again after that. ``Authorization: ApiKey <key>`` or ``X-API-Key: <key>``, and the session cookie:
    looked up on every request. A cookie that is no longer good counts as none, because browsers send it by
    themselves, also with the request that logs in again.
    """

    carriers = ("authorization", "x-api-key", "cookie")

    def __init__(self) -> None:
        self._stores: LookUp | None = None
        self._verified: Mapping[bytes, Verified] = {}
        self._now: Callable[[], float] = time.time

    def bind(self, stores: LookUp | None) -> None:
        """Called at start, and with None at the end: by the accounts, or where their service runs in another process."""
        self._stores = stores
        self._verified = {} if stores is None else stores.verified.entries
        self._now = time.time if stores is None else stores.verified.now

    async def authenticate(self, headers: Headers, cookies: Mapping[str, str], /) -> Principal | None:
        authorization, api_key = headers.get("authorization"), headers.get("x-api-key")
        if authorization is not None and api_key is not None:
            raise InvalidToken("The request has two credentials, Authorization and X-API-Key; send one.")
        if authorization is not None:
            return await self._authorization(authorization)
        stores = self._bound()
        if api_key is not None:
            return await stores.api_key(api_key)
        session_id = cookies.get(stores.cookie_name)
        return await stores.session(session_id) if session_id else None

    def fast(self, authorization: bytes, /) -> Principal | None:
        # VerifiedTokens.get, written out: this runs for every request with a token.
        try:
            header, principal, until, _ = self._verified[authorization[-KEY_BYTES:]]
        except KeyError:
            return None
        return principal if header == authorization and until > self._now() else None

    def schemes(self) -> dict[str, dict[str, Any]]:
        return {
            "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "session": {"type": "apiKey", "in": "cookie", "name": self._cookie_name()},
        }

    async def _authorization(self, value: str) -> Principal:
        scheme, _, credential = value.partition(" ")
        credential = credential.strip()
        match scheme.lower():  # RFC 9110 § 11.1: schemes have no case
            case "bearer":
                stores = self._bound()
                return stores.verified.get(credential) or await self._bearer(stores, credential)
            case "apikey":
                return await self._bound().api_key(credential)
            case _:
                raise InvalidToken("This kind of Authorization is not known here; use Bearer or ApiKey.")

    async def _bearer(self, stores: LookUp, token: str) -> Principal:
        stamp = stores.verified.stamp
        owner = await stores.bearer(token)
        # A revocation while we looked would be forgotten by remembering what was read before it.
        if stamp == stores.verified.stamp:
            stores.verified.put(token, owner.principal, owner.exp, owner.sid)
        return owner.principal

    def _cookie_name(self) -> str:
        # The API's description can be wanted without a running app; the prefix is known only with its settings.
        return self._stores.cookie_name if self._stores is not None else COOKIE

    @property
    def look_up(self) -> LookUp:
        """What it asks, past what it remembers: for the other processes, which remember for themselves. Raises NotBound."""
        return self._bound()

    def _bound(self) -> LookUp:
        if self._stores is None:
            raise NotBound(
                "The accounts were used before their app started; pass them as App(…, auth=accounts)."
            )
        return self._stores
