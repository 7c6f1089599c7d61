"""Accounts: registration, log-in, tokens, sessions, API keys, in the app's own database.

    accounts = Accounts(db, principals={"customer": Customer, "clerk": Clerk})
    app = App("shop", [orders], auth=accounts)

    @orders.post("/login", auth=public)
    async def login(form: Login, request: Request) -> TokenPair:
        return await accounts.login(form.email, form.password, address=request.client)

Nobody learns from an answer or its timing whether an address is registered, except from :meth:`Accounts.register`:
a form that must not tell either answers the same in both cases, and mails the owner.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tenfold._core.clock import Clock
from tenfold._core.context import current
from tenfold._core.sections import Settings
from tenfold._core.tasks import end_tasks
from tenfold.db.ambient import AMBIENT
from tenfold.errors import (
    Conflict,
    DeclarationError,
    NotBound,
    TransactionMisuse,
    Unauthorized,
    UniqueViolation,
)
from tenfold.security.apikeys import ApiKeyInfo, ApiKeys, NewApiKey
from tenfold.security.credentials import AccountAuthenticator, Stores
from tenfold.security.directory import Directory, Row, check_principals, email_key, joined, lookup_key
from tenfold.security.keys import secret_key
from tenfold.security.logins import SessionLogin, TokenPair
from tenfold.security.passwords import DEFAULT_COST, Cost, Passwords, check_new
from tenfold.security.principal import Principal
from tenfold.security.refresh import RefreshTokens, ReusedToken, Rotated
from tenfold.security.sessions import CookieArgs, Sessions, SessionStore
from tenfold.security.sql_sessions import SqlSessions
from tenfold.security.throttle import LoginThrottle
from tenfold.security.tokens import Algorithm, Tokens, VerifiedTokens

if TYPE_CHECKING:
    from tenfold.db.database import Database, Tx

log = logging.getLogger("tenfold.security")

SWEEP_EVERY_S = 3_600.0


class _Parts(Stores, frozen=True):
    """What exists once the app has started."""

    passwords: Passwords
    throttle: LoginThrottle
    clock: Clock
    access_ttl_s: float


class Accounts:
    """The accounts of one app, in the tables ``tenfold_…`` of ``db``.

    ``principals`` maps the kinds of accounts to the classes that stand for them in operations; the first is the
    default. ``algorithm`` signs access tokens; ``password_cost`` sets how much work a password hash is.
    """

    def __init__(
        self,
        db: Database,
        principals: Mapping[str, type[Principal]] | None = None,
        *,
        algorithm: Algorithm = "HS256",
        password_cost: Cost = DEFAULT_COST,
    ) -> None:
        self._db = db
        self._principals = check_principals(principals or {"user": Principal})
        self._algorithm: Algorithm = algorithm
        self._cost = password_cost
        self._parts: _Parts | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self.authenticator = AccountAuthenticator()

    # ── life ──

    async def bind(
        self,
        settings: Settings,
        *,
        data_dir: Path,
        clock: Clock,
        name: str = "app",
        sessions: SessionStore | None = None,
    ) -> None:
        """Called by the app once its database has started; ``name`` issues and receives the tokens, ``sessions`` says
        where sessions live (default: in the database).

        Raises :class:`ConfigError` when production has no secret key.
        """
        auth, secure = settings.auth, settings.app.env == "production"
        secret = secret_key(settings.app, data_dir, clock)
        self._parts = _Parts(
            directory=Directory(self._db, self._principals),
            passwords=Passwords(auth.hash_threads, self._cost),
            throttle=LoginThrottle(self._db, clock),
            tokens=Tokens(secret, clock, issuer=name, algorithm=self._algorithm),
            verified=VerifiedTokens(clock),
            refresh=RefreshTokens(self._db, clock, ttl_s=auth.refresh_ttl_s),
            sessions=Sessions(
                sessions or SqlSessions(self._db), clock, ttl_s=auth.session_ttl_s, secure=secure
            ),
            keys=ApiKeys(self._db, clock),
            clock=clock,
            access_ttl_s=auth.access_ttl_s,
        )
        self.authenticator.bind(self._parts)
        self._sweeper = asyncio.create_task(self._sweep_often(clock), name="tenfold-accounts-sweep")

    async def stop(self) -> None:
        """Called by the app at its end."""
        await end_tasks(self._sweeper)
        if self._parts is not None:
            self._parts.passwords.close()
        self.authenticator.bind(None)
        self._parts = self._sweeper = None

    # ── accounts ──

    async def register(
        self,
        email: str,
        password: str,
        *,
        kind: str = "",
        roles: Iterable[str] = (),
        tenant: str | None = None,
        tx: Tx | None = None,
    ) -> Principal:
        """A new account. With ``tx`` it is created in that transaction, beside rows of your own.

        Raises :class:`InvalidInput` (no e-mail address, weak password), :class:`Conflict` (address taken).
        """
        parts = self._bound()
        key = email_key(email)
        check_new(password, email=email)
        row = Row(
            id=parts.clock.uuid(),
            email=email.strip(),
            email_key=key,
            kind=self._kind(kind),
            password_hash=await parts.passwords.hash(password),
            roles=joined("roles", roles),
            tenant=tenant,
            created_at=parts.clock.now(),
            disabled_at=None,
        )
        try:
            await self._insert(parts, row, tx)
        except UniqueViolation:
            raise Conflict("There is an account with this e-mail address.") from None
        return parts.directory.principal(row, via="password")

    async def get(self, account_id: str) -> Principal:
        """The account as a principal. Raises :class:`NotFound` when there is none, or it is disabled."""
        return await self._bound().directory.get(account_id)

    async def verify_password(self, email: str, password: str, *, address: str = "") -> Principal:
        """Whose address and password these are; ``address`` is the client's, for slowing down guesses.

        Raises :class:`Unauthorized`, the same for every reason, or :class:`TooManyRequests` after several failures.
        """
        parts = self._bound()
        key = lookup_key(email)
        row = await self._verify(parts, key, password, address)
        async with self._db.tx() as tx:
            await parts.throttle.forgive(tx, key, address)
        return parts.directory.principal(row, via="password")

    async def change_password(self, account_id: str, old: str, new: str, *, address: str = "") -> None:
        """Set a new password and end every session and token of the account (API keys stay).

        Raises like :meth:`verify_password`, and :class:`InvalidInput` for a weak new password.
        """
        parts = self._bound()
        row = await parts.directory.row(account_id)
        check_new(new, email=row.email, field="new_password")
        await self._verify(parts, row.email_key, old, address)
        hashed = await parts.passwords.hash(new)
        async with self._db.tx() as tx:
            await parts.throttle.forgive(tx, row.email_key, address)
            await parts.directory.set_password(tx, account_id, hashed)
            await self._end_all(parts, tx, account_id)
        parts.verified.forget(account=account_id)
        log.info("the password of account %s was changed", account_id)

    async def set_roles(self, account_id: str, roles: Iterable[str]) -> None:
        """Replace the account's roles. Tokens in use have them at once here, in other processes within 30 s."""
        parts = self._bound()
        text = joined("roles", roles)
        async with self._db.tx() as tx:
            await parts.directory.set_roles(tx, account_id, text)
        parts.verified.forget(account=account_id)

    async def disable(self, account_id: str) -> None:
        """Lock the account: no log-in, and every session, token and API key stops working."""
        parts = self._bound()
        async with self._db.tx() as tx:
            await parts.directory.set_disabled(tx, account_id, parts.clock.now())
            await self._end_all(parts, tx, account_id)
        parts.verified.forget(account=account_id)
        log.info("account %s was disabled", account_id)

    async def enable(self, account_id: str) -> None:
        """Undo :meth:`disable`; sessions and tokens stay ended, API keys work again."""
        parts = self._bound()
        async with self._db.tx() as tx:
            await parts.directory.set_disabled(tx, account_id, None)

    # ── logging in and out ──

    async def login(self, email: str, password: str, *, address: str = "") -> TokenPair:
        """An access token and a refresh token. Raises like :meth:`verify_password`."""
        parts = self._bound()
        key = lookup_key(email)
        row = await self._verify(parts, key, password, address)
        async with self._db.tx() as tx:
            await parts.throttle.forgive(tx, key, address)
            begun = await parts.refresh.begin(tx, row.id)
        return self._pair(parts, begun)

    async def login_session(self, email: str, password: str, *, address: str = "") -> SessionLogin:
        """A session and the cookie that carries it. Raises like :meth:`verify_password`."""
        parts = self._bound()
        key = lookup_key(email)
        row = await self._verify(parts, key, password, address)
        async with self._db.tx() as tx:
            await parts.throttle.forgive(tx, key, address)
            session_id = await parts.sessions.open(tx, row.id)
        principal = parts.directory.principal(row, via="session")
        return SessionLogin(principal=principal, cookie=parts.sessions.cookie(session_id))

    async def refresh(self, refresh_token: str) -> TokenPair:
        """Exchange a refresh token for a new pair. A token used twice ends the whole log-in.

        Raises :class:`InvalidToken` or :class:`ExpiredToken`.
        """
        parts = self._bound()
        self._outside_of_operations()
        try:
            rotated = await parts.refresh.rotate(refresh_token)
        except ReusedToken as error:
            parts.verified.forget(sid=error.family_id)
            raise
        return self._pair(parts, rotated)

    async def logout(self, credential: str) -> CookieArgs:
        """End the log-in of a refresh token or session id; says nothing about whether there was one.

        The result is the cookie that makes a browser forget: ``reply.set_cookie(**cookie)``.
        """
        parts = self._bound()
        async with self._db.tx() as tx:
            ended = await parts.sessions.end(tx, credential)
            sid = None if ended else await parts.refresh.revoke(tx, credential)
        if sid is not None:
            parts.verified.forget(sid=sid)
        return parts.sessions.cookie("")

    async def logout_everywhere(self, account_id: str) -> None:
        """End every session and token of the account; API keys stay."""
        parts = self._bound()
        async with self._db.tx() as tx:
            await self._end_all(parts, tx, account_id)
        parts.verified.forget(account=account_id)

    @property
    def database(self) -> Database:
        """Where the accounts are."""
        return self._db

    @property
    def session_cookie(self) -> str:
        """The name of the session cookie."""
        return self._bound().sessions.cookie_name

    # ── API keys ──

    async def create_api_key(
        self, account_id: str, name: str, *, scopes: Iterable[str] | None = None, ttl_s: float | None = None
    ) -> NewApiKey:
        """A key for programs; its secret is in the result and nowhere else.

        With ``scopes`` it is restricted to operations whose policy names them; without, it may do all that the
        account may. Raises :class:`NotFound` (no such account), :class:`InvalidInput`.
        """
        parts = self._bound()
        await parts.directory.get(account_id)
        return await parts.keys.create(account_id, name, scopes, ttl_s)

    async def list_api_keys(self, account_id: str) -> list[ApiKeyInfo]:
        """The keys of the account, oldest first, without their secrets."""
        return await self._bound().keys.list(account_id)

    async def revoke_api_key(self, account_id: str, key_id: str) -> None:
        """Delete a key of this account; it stops working at once. Raises :class:`NotFound`."""
        await self._bound().keys.revoke(account_id, key_id)

    # ── within ──

    async def sweep(self) -> None:
        """Delete expired rows; runs by itself every hour."""
        parts = self._bound()
        async with self._db.tx() as tx:
            await parts.sessions.sweep(tx)
            await parts.refresh.sweep(tx)
            await parts.throttle.sweep(tx)

    async def _sweep_often(self, clock: Clock) -> None:
        while True:
            await clock.sleep(SWEEP_EVERY_S * (1 + 0.1 * clock.random.random()))  # not all instances at once
            try:
                await self.sweep()
            except Exception:
                log.exception("expired sessions and tokens could not be deleted; trying again later")

    async def _verify(self, parts: _Parts, key: str, password: str, address: str) -> Row:
        """The account, when the password is its own. The attempt is counted before it is made."""
        self._outside_of_operations()
        await parts.throttle.attempt(key, address)
        row = await parts.directory.by_email(key)
        usable = row is not None and row.disabled_at is None
        verified = await parts.passwords.verify(row.password_hash if row and usable else None, password)
        if row is None or not verified.ok:
            log.info("a log-in failed (account %s)", row.id if row else "unknown")
            raise Unauthorized("The e-mail address or the password is wrong.")
        if verified.renewed is not None:
            async with self._db.tx() as tx:
                await parts.directory.renew_password(tx, row.id, row.password_hash, verified.renewed)
        return row

    def _outside_of_operations(self) -> None:
        """Counting an attempt, or revoking a stolen token, must stand when the operation fails."""
        state = current().state
        if state is not None and AMBIENT in state:
            raise TransactionMisuse(
                "A log-in inside of an idempotent operation would forget failed attempts and store tokens in its "
                "reply; remove idempotent=… from the operation."
            )

    def _pair(self, parts: _Parts, rotated: Rotated) -> TokenPair:
        access = parts.tokens.issue(rotated.account_id, parts.access_ttl_s, sid=rotated.family_id)
        return TokenPair(access_token=access, refresh_token=rotated.token, expires_in=int(parts.access_ttl_s))

    async def _end_all(self, parts: _Parts, tx: Tx, account_id: str) -> None:
        await parts.sessions.end_all(tx, account_id)
        await parts.refresh.revoke_all(tx, account_id)

    async def _insert(self, parts: _Parts, row: Row, tx: Tx | None) -> None:
        if tx is None:
            async with self._db.tx() as own:
                await parts.directory.insert(own, row)
        else:
            async with tx.savepoint():  # so that the caller can handle a Conflict and go on
                await parts.directory.insert(tx, row)

    def _kind(self, kind: str) -> str:
        if kind and kind not in self._principals:
            raise DeclarationError(
                f"no kind {kind!r} of accounts was declared.",
                where="Accounts",
                remedy=f"There are: {', '.join(self._principals)}.",
            )
        return kind or next(iter(self._principals))

    def _bound(self) -> _Parts:
        if self._parts is None:
            raise NotBound(
                "The accounts were used before their app started, or by code of a service that runs without theirs: "
                "pass them as App(…, auth=accounts), and call an operation of their service."
            )
        return self._parts
