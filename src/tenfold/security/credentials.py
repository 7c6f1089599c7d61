"""The authenticator of :class:`~tenfold.security.accounts.Accounts`: bearer tokens, API keys, session cookies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tenfold.errors import InvalidToken, NotBound
from tenfold.security.apikeys import ApiKeys
from tenfold.security.authenticator import Authenticator
from tenfold.security.directory import Directory
from tenfold.security.origin import Headers
from tenfold.security.principal import Principal
from tenfold.security.refresh import RefreshTokens
from tenfold.security.sessions import COOKIE, Sessions
from tenfold.security.tokens import Tokens, VerifiedTokens


class Stores(msgspec.Struct, frozen=True):
    """Where credentials are looked up."""

    directory: Directory
    tokens: Tokens
    verified: VerifiedTokens
    refresh: RefreshTokens
    sessions: Sessions
    keys: ApiKeys


class AccountAuthenticator(Authenticator):
    """Recognises accounts by, in this order:

    ``Authorization: Bearer <access token>``: verified once, then for 30 s from memory; its log-in and account are
    looked up again after that. ``Authorization: ApiKey <key>`` or ``X-API-Key: <key>``, and the session cookie:
    looked up on every request. A cookie that is no longer good counts as none, because browsers send it by
    themselves, also with the request that logs in again.
    """

    def __init__(self) -> None:
        self._stores: Stores | None = None
        self._remembered: Callable[[str], Principal | None] = _nothing

    def bind(self, stores: Stores | None) -> None:
        """Called by the accounts at start, and with None at the end."""
        self._stores = stores
        self._remembered = stores.verified.get if stores is not None else _nothing

    async def authenticate(self, headers: Headers, cookies: Mapping[str, str], /) -> Principal | None:
        authorization, api_key = headers.get("authorization"), headers.get("x-api-key")
        if authorization is not None and api_key is not None:
            raise InvalidToken("The request has two credentials, Authorization and X-API-Key; send one.")
        if authorization is not None:
            return await self._authorization(authorization)
        stores = self._bound()
        if api_key is not None:
            return await self._api_key(stores, api_key)
        session_id = cookies.get(stores.sessions.cookie_name)
        return await self._session(stores, session_id) if session_id else None

    def fast(self, token: str, /) -> Principal | None:
        return self._remembered(token)

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
                return self._remembered(credential) or await self._bearer(self._bound(), credential)
            case "apikey":
                return await self._api_key(self._bound(), credential)
            case _:
                raise InvalidToken("This kind of Authorization is not known here; use Bearer or ApiKey.")

    async def _bearer(self, stores: Stores, token: str) -> Principal:
        stamp = stores.verified.stamp
        claims = stores.tokens.verify(token)
        if not await stores.refresh.is_live(claims.sid):
            raise InvalidToken("The log-in of this token has ended.")
        principal = await stores.directory.holder(claims.sub, "bearer")
        # A revocation while we looked would be forgotten by remembering what was read before it.
        if stamp == stores.verified.stamp:
            stores.verified.put(token, principal, claims.exp, claims.sid)
        return principal

    async def _api_key(self, stores: Stores, key: str) -> Principal:
        owner = await stores.keys.find(key)
        return await stores.directory.holder(owner.account_id, "api-key", owner.scopes)

    async def _session(self, stores: Stores, session_id: str) -> Principal | None:
        account_id = await stores.sessions.find(session_id)
        if account_id is None:
            return None
        try:
            return await stores.directory.holder(account_id, "session")
        except InvalidToken:
            return None

    def _cookie_name(self) -> str:
        # The API's description can be wanted without a running app; the prefix is known only with its settings.
        return self._stores.sessions.cookie_name if self._stores is not None else COOKIE

    def _bound(self) -> Stores:
        if self._stores is None:
            raise NotBound(
                "The accounts were used before their app started; pass them as App(…, auth=accounts)."
            )
        return self._stores


def _nothing(_: str) -> Principal | None:
    return None
