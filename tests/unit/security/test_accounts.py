"""Accounts on a real database: registering, logging in and out, tokens, sessions, keys, guessing."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tenfold._core.clock import ManualClock, SystemClock
from tenfold._core.context import Context, use
from tenfold._core.sections import AppSettings, AuthSettings, DatabaseSettings, Settings
from tenfold.db.ambient import Ambient
from tenfold.db.backends.sqlite import Backend
from tenfold.db.database import Database
from tenfold.db.schema import framework
from tenfold.errors import (
    ConfigError,
    Conflict,
    DeclarationError,
    ExpiredToken,
    InvalidInput,
    InvalidToken,
    NotBound,
    NotFound,
    TooManyRequests,
    TransactionMisuse,
    Unauthorized,
)
from tenfold.security import tables
from tenfold.security.accounts import Accounts
from tenfold.security.passwords import Cost
from tenfold.security.policy import as_policy, scopes
from tenfold.security.principal import Principal

CHEAP = Cost(memory_kib=64, iterations=1, lanes=1)
PASSWORD = "correct horse battery"
EMAIL = "Ann@Example.org"


class Customer(Principal): ...


class Clerk(Principal): ...


@dataclass
class World:
    accounts: Accounts
    db: Database
    clock: ManualClock
    folder: Path

    async def who(self, *, cookies: dict[str, str] | None = None, **headers: str) -> Principal | None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.accounts.authenticator.authenticate(named, cookies or {})

    async def bearer(self, token: str) -> Principal | None:
        return await self.who(authorization=f"Bearer {token}")

    async def rows(self, table: sa.Table) -> int:
        return int(await self.db.read().scalar(sa.select(sa.func.count()).select_from(table)))


@asynccontextmanager
async def world(folder: Path, *, settings: Settings | None = None, **options: Any) -> AsyncIterator[World]:
    system = SystemClock()
    backend = Backend.from_url("sqlite:///app.db", settings=DatabaseSettings(), data_dir=folder, clock=system)
    await backend.start()
    engine = backend.sync_engine()
    framework.create_all(engine)
    engine.dispose()
    db = Database("app", sa.MetaData())
    db.bind(backend)
    clock = ManualClock()
    options = {"password_cost": CHEAP, "principals": {"customer": Customer, "clerk": Clerk}, **options}
    accounts = Accounts(db, **options)
    await accounts.bind(settings or Settings(), data_dir=folder, clock=clock, name="shop")
    try:
        yield World(accounts, db, clock, folder)
    finally:
        await accounts.stop()
        db.unbind()
        await backend.stop()


def in_world(**options: Any) -> Callable[[Callable[[World], Awaitable[None]]], Callable[[Path], None]]:
    """Run an async test with an empty database of its own."""

    def decorate(test: Callable[[World], Awaitable[None]]) -> Callable[[Path], None]:
        async def run(folder: Path) -> None:
            async with world(folder, **options) as w:
                await test(w)

        @functools.wraps(test)
        def wrapper(tmp_path: Path) -> None:
            asyncio.run(run(tmp_path))

        del wrapper.__wrapped__  # type: ignore[attr-defined]  # pytest would ask for the parameters of the inner one
        return wrapper

    return decorate


# ── registering ──


@in_world()
async def test_an_account_becomes_the_class_of_its_kind(w: World) -> None:
    ann = await w.accounts.register(EMAIL, PASSWORD)
    bob = await w.accounts.register("bob@example.org", PASSWORD, kind="clerk", roles=["b", "a"], tenant="t")
    assert type(ann) is Customer
    assert (ann.email, ann.kind, ann.roles) == (EMAIL, "customer", frozenset())
    assert type(bob) is Clerk
    again = await w.accounts.get(bob.id)
    assert (again.roles, again.tenant) == (frozenset({"a", "b"}), "t")


@in_world()
async def test_an_address_is_taken_however_it_is_written(w: World) -> None:
    await w.accounts.register(EMAIL, PASSWORD)
    for same in ("ann@example.org", " ANN@EXAMPLE.ORG "):
        with pytest.raises(Conflict):
            await w.accounts.register(same, PASSWORD)
    assert await w.rows(tables.account) == 1


@in_world()
async def test_a_wrong_address_password_role_or_kind_is_refused(w: World) -> None:
    for email, password, options in (
        ("nobody", PASSWORD, {}),
        (EMAIL, "short", {}),
        (EMAIL, EMAIL, {}),
        (EMAIL, PASSWORD, {"roles": ["two words"]}),
        (EMAIL, PASSWORD, {"roles": [""]}),
    ):
        with pytest.raises(InvalidInput):
            await w.accounts.register(email, password, **options)
    with pytest.raises(DeclarationError, match="no kind 'admin'"):
        await w.accounts.register(EMAIL, PASSWORD, kind="admin")
    assert await w.rows(tables.account) == 0


@in_world()
async def test_an_account_can_be_part_of_a_transaction(w: World) -> None:
    async def fails() -> None:
        async with w.db.tx() as tx:
            await w.accounts.register(EMAIL, PASSWORD, tx=tx)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fails()
    assert await w.rows(tables.account) == 0
    async with w.db.tx() as tx:
        await w.accounts.register(EMAIL, PASSWORD, tx=tx)
        with pytest.raises(Conflict):
            await w.accounts.register(EMAIL, PASSWORD, tx=tx)
        await w.accounts.register("bob@example.org", PASSWORD, tx=tx)
    assert await w.rows(tables.account) == 2, "the conflict did not spoil the transaction"


# ── passwords ──


@in_world()
async def test_every_reason_for_a_failed_log_in_looks_the_same(w: World) -> None:
    await w.accounts.register(EMAIL, PASSWORD)
    gone = await w.accounts.register("gone@example.org", PASSWORD)
    await w.accounts.disable(gone.id)
    documents = []
    for email, password in (
        (EMAIL, "wrong password"),
        ("unknown@example.org", PASSWORD),
        ("gone@example.org", PASSWORD),
        ("not an address", PASSWORD),
        ("", ""),
        ("x" * 10_000 + "\ud800", PASSWORD),
    ):
        with pytest.raises(Unauthorized) as refused:
            await w.accounts.verify_password(email, password)
        documents.append((type(refused.value), refused.value.document(), refused.value.headers))
    assert all(document == documents[0] for document in documents)


@in_world()
async def test_a_stronger_cost_renews_the_stored_hash_at_the_next_log_in(w: World) -> None:
    await w.accounts.register(EMAIL, PASSWORD)
    stored = sa.select(tables.account.c.password_hash)
    before = await w.db.read().scalar(stored)
    await w.accounts.verify_password(EMAIL, PASSWORD)
    assert await w.db.read().scalar(stored) == before
    stronger = Accounts(w.db, {"customer": Customer}, password_cost=Cost(128, 1, 1))
    await stronger.bind(Settings(), data_dir=w.folder, clock=w.clock, name="shop")
    await stronger.login(EMAIL, PASSWORD)
    await stronger.stop()
    after = await w.db.read().scalar(stored)
    assert "m=128," in after
    await w.accounts.verify_password(EMAIL, PASSWORD)


@in_world()
async def test_a_changed_password_ends_everything_but_api_keys(w: World) -> None:
    ann = await w.accounts.register(EMAIL, PASSWORD)
    pair = await w.accounts.login(EMAIL, PASSWORD)
    session = await w.accounts.login_session(EMAIL, PASSWORD)
    cookies = {session.cookie["name"]: session.cookie["value"]}
    key = await w.accounts.create_api_key(ann.id, "ci")
    assert await w.bearer(pair.access_token)
    with pytest.raises(Unauthorized):
        await w.accounts.change_password(ann.id, "wrong password", "another good one")
    with pytest.raises(InvalidInput, match="new_password"):
        await w.accounts.change_password(ann.id, PASSWORD, "short")
    assert await w.bearer(pair.access_token), "a failed change changes nothing"
    await w.accounts.change_password(ann.id, PASSWORD, "another good one")
    assert w.accounts.authenticator.fast(b"Bearer " + pair.access_token.encode()) is None
    with pytest.raises(InvalidToken):
        await w.bearer(pair.access_token)
    with pytest.raises(InvalidToken):
        await w.accounts.refresh(pair.refresh_token)
    assert await w.who(cookies=cookies) is None
    assert await w.who(x_api_key=key.key)
    with pytest.raises(Unauthorized):
        await w.accounts.login(EMAIL, PASSWORD)
    await w.accounts.login(EMAIL, "another good one")


# ── bearer tokens ──


@in_world()
async def test_an_access_token_names_its_account_until_it_expires(w: World) -> None:
    ann = await w.accounts.register(EMAIL, PASSWORD, roles=["admin"])
    pair = await w.accounts.login(EMAIL, PASSWORD)
    assert (pair.expires_in, pair.token_type) == (900, "Bearer")
    assert w.accounts.authenticator.fast(b"Bearer " + pair.access_token.encode()) is None
    found = await w.bearer(pair.access_token)
    assert type(found) is Customer
    assert (found.id, found.roles, found.via, found.restricted) == (ann.id, {"admin"}, "bearer", False)
    assert w.accounts.authenticator.fast(b"Bearer " + pair.access_token.encode()) is found
    assert w.accounts.authenticator.fast(b"bearer " + pair.access_token.encode()) is None, "ends alike"
    assert await w.who(authorization=f"bearer  {pair.access_token}") is found
    w.clock.jump(900)
    assert w.accounts.authenticator.fast(b"Bearer " + pair.access_token.encode()) is None
    with pytest.raises(ExpiredToken):
        await w.bearer(pair.access_token)


@in_world()
async def test_changed_roles_and_a_disabled_account_are_seen_at_once(w: World) -> None:
    ann = await w.accounts.register(EMAIL, PASSWORD)
    pair = await w.accounts.login(EMAIL, PASSWORD)
    await w.bearer(pair.access_token)
    await w.accounts.set_roles(ann.id, ["admin"])
    found = await w.bearer(pair.access_token)
    assert found is not None
    assert found.roles == {"admin"}
    await w.accounts.disable(ann.id)
    with pytest.raises(InvalidToken):
        await w.bearer(pair.access_token)
    with pytest.raises(NotFound):
        await w.accounts.get(ann.id)
    await w.accounts.enable(ann.id)
    with pytest.raises(InvalidToken):
        await w.bearer(pair.access_token)
    await w.accounts.login(EMAIL, PASSWORD)


@in_world()
async def test_a_revocation_elsewhere_is_noticed_after_half_a_minute(w: World) -> None:
    ann = await w.accounts.register(EMAIL, PASSWORD)
    pair = await w.accounts.login(EMAIL, PASSWORD)
    await w.bearer(pair.access_token)
    elsewhere = Accounts(w.db, {"customer": Customer}, password_cost=CHEAP)
    await elsewhere.bind(Settings(), data_dir=w.folder, clock=w.clock, name="shop")
    assert await elsewhere.authenticator.authenticate({"authorization": f"Bearer {pair.access_token}"}, {})
    await elsewhere.logout_everywhere(ann.id)
    await elsewhere.stop()
    w.clock.jump(29.9)
    assert await w.bearer(pair.access_token)
    w.clock.jump(0.1)
    with pytest.raises(InvalidToken):
        await w.bearer(pair.access_token)


@in_world()
async def test_a_revocation_during_the_look_up_is_not_forgotten(w: World) -> None:
    ann = await w.accounts.register(EMAIL, PASSWORD)
    pair = await w.accounts.login(EMAIL, PASSWORD)
    parts = w.accounts._bound()
    holder = parts.directory.holder

    async def slow(*args: Any) -> Principal:
        found = await holder(*args)
        await w.accounts.set_roles(ann.id, ["fired"])
        return found

    parts.directory.holder = slow  # type: ignore[method-assign]
    await w.bearer(pair.access_token)
    parts.directory.holder = holder  # type: ignore[method-assign]
    assert w.accounts.authenticator.fast(b"Bearer " + pair.access_token.encode()) is None
    found = await w.bearer(pair.access_token)
    assert found is not None
    assert found.roles == {"fired"}


# ── refreshing ──


@in_world()
async def test_a_refresh_token_is_good_once_and_its_reuse_ends_the_log_in(w: World) -> None:
    await w.accounts.register(EMAIL, PASSWORD)
    other = await w.accounts.login(EMAIL, PASSWORD)
    first = await w.accounts.login(EMAIL, PASSWORD)
    second = await w.accounts.refresh(first.refresh_token)
    third = await w.accounts.refresh(second.refresh_token)
    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3
    await w.bearer(third.access_token)
    with pytest.raises(InvalidToken):
        await w.accounts.refresh(first.refresh_token)  # the thief, or the owner after the thief
    with pytest.raises(InvalidToken):
        await w.accounts.refresh(third.refresh_token)
    with pytest.raises(InvalidToken):
        await w.bearer(third.access_token)
    assert await w.accounts.refresh(other.refresh_token), "another log-in of the account goes on"


@in_world()
async def test_of_concurrent_uses_exactly_one_succeeds(w: World) -> None:
    await w.accounts.register(EMAIL, PASSWORD)
    pair = await w.accounts.login(EMAIL, PASSWORD)
    results = await asyncio.gather(
        *(w.accounts.refresh(pair.refresh_token) for _ in range(20)), return_exceptions=True
    )
    good = [r for r in results if not isinstance(r, BaseException)]
    assert len(good) == 1
    assert all(isinstance(r, InvalidToken) for r in results if r is not good[0])
    with pytest.raises(InvalidToken):
        await w.accounts.refresh(good[0].refresh_token)


@in_world(settings=Settings(auth=AuthSettings(refresh_ttl_s=100)))
async def test_an_unused_refresh_token_expires_and_rows_are_swept(w: World) -> None:
    await w.accounts.register(EMAIL, PASSWORD)
    pair = await w.accounts.login(EMAIL, PASSWORD)
    await w.accounts.login_session(EMAIL, PASSWORD)
    with pytest.raises(Unauthorized):
        await w.accounts.login(EMAIL, "wrong password")
    w.clock.jump(99)
    pair = await w.accounts.refresh(pair.refresh_token)
    w.clock.jump(100)
    with pytest.raises(ExpiredToken):
        await w.accounts.refresh(pair.refresh_token)
    every = (tables.refresh, tables.family, tables.session, tables.attempt)
    assert [await w.rows(table) for table in every] == [2, 1, 1, 2]
    w.clock.jump(15 * 86_400)
    await w.accounts.sweep()
    assert [await w.rows(table) for table in every] == [0, 0, 0, 0]


@in_world()
async def test_expired_rows_are_swept_every_hour_by_themselves(w: World) -> None:
    await w.accounts.register(EMAIL, PASSWORD)
    await w.accounts.login_session(EMAIL, PASSWORD)
    w.clock.jump(15 * 86_400)
    await w.clock.advance(4_000)
    for _ in range(200):
        if not await w.rows(tables.session):
            break
        await asyncio.sleep(0.01)
    assert await w.rows(tables.session) == 0


# ── sessions ──


@in_world()
async def test_a_session_slides_with_use_and_ends_without(w: World) -> None:
    await w.accounts.register(EMAIL, PASSWORD)
    login = await w.accounts.login_session(EMAIL, PASSWORD)
    cookies = {login.cookie["name"]: login.cookie["value"]}
    for _ in range(4):
        w.clock.jump(13 * 86_400)
        found = await w.who(cookies=cookies)
        assert found is not None
        assert (type(found), found.via) == (Customer, "session")
    w.clock.jump(14 * 86_400)
    assert await w.who(cookies=cookies) is None


@in_world()
async def test_a_session_ends_after_ninety_days_however_much_it_is_used(w: World) -> None:
    await w.accounts.register(EMAIL, PASSWORD)
    login = await w.accounts.login_session(EMAIL, PASSWORD)
    cookies = {login.cookie["name"]: login.cookie["value"]}
    days = 0
    while await w.who(cookies=cookies):
        days += 5
        w.clock.jump(5 * 86_400)
    assert days == 90


@in_world()
async def test_using_a_session_writes_rarely(w: World) -> None:
    await w.accounts.register(EMAIL, PASSWORD)
    login = await w.accounts.login_session(EMAIL, PASSWORD)
    cookies = {login.cookie["name"]: login.cookie["value"]}
    expiry, seen = sa.select(tables.session.c.expires_at), set()
    for _ in range(100):
        w.clock.jump(600)
        await w.who(cookies=cookies)
        seen.add(await w.db.read().scalar(expiry))
    assert len(seen) <= 2


@pytest.mark.parametrize("env", ["production", "development"])
def test_the_cookie_is_bound_as_tightly_as_the_environment_allows(tmp_path: Path, env: Any) -> None:
    key = "q8JbV0nS1x-3kdyR7mWzTf5uLpEo2cHa"

    async def run() -> None:
        async with world(tmp_path, settings=Settings(app=AppSettings(env=env, secret_key=key))) as w:
            await w.accounts.register(EMAIL, PASSWORD)
            cookie = (await w.accounts.login_session(EMAIL, PASSWORD)).cookie
            production = env == "production"
            assert cookie["name"] == ("__Host-tenfold_session" if production else "tenfold_session")
            assert (cookie["secure"], cookie["http_only"], cookie["same_site"]) == (production, True, "lax")
            assert (cookie["path"], cookie["max_age_s"]) == ("/", 90 * 86_400)
            assert len(cookie["value"]) == 43
            gone = await w.accounts.logout(cookie["value"])
            assert (gone["name"], gone["value"], gone["max_age_s"]) == (cookie["name"], "", 0)
            assert await w.who(cookies={cookie["name"]: cookie["value"]}) is None

    asyncio.run(run())


@in_world()
async def test_logging_out_ends_that_log_in_only_and_tells_nothing(w: World) -> None:
    await w.accounts.register(EMAIL, PASSWORD)
    stays = await w.accounts.login(EMAIL, PASSWORD)
    goes = await w.accounts.login(EMAIL, PASSWORD)
    await w.bearer(goes.access_token)
    known = await w.accounts.logout(goes.refresh_token)
    assert known == await w.accounts.logout("nothing that exists")
    with pytest.raises(InvalidToken):
        await w.bearer(goes.access_token)
    assert await w.bearer(stays.access_token)


# ── API keys ──


@in_world()
async def test_an_api_key_works_by_either_header_until_it_is_revoked(w: World) -> None:
    ann = await w.accounts.register(EMAIL, PASSWORD, roles=["admin"])
    bob = await w.accounts.register("bob@example.org", PASSWORD)
    key = await w.accounts.create_api_key(ann.id, "ci")
    found = await w.who(x_api_key=key.key)
    assert found is not None
    assert (found.id, found.via, found.restricted, found.roles) == (ann.id, "api-key", False, {"admin"})
    assert await w.who(authorization=f"ApiKey {key.key}") == found
    with pytest.raises(NotFound):
        await w.accounts.revoke_api_key(bob.id, key.id)
    await w.accounts.revoke_api_key(ann.id, key.id)
    with pytest.raises(InvalidToken):
        await w.who(x_api_key=key.key)
    with pytest.raises(NotFound):
        await w.accounts.create_api_key("nobody", "ci")


@in_world()
async def test_a_restricted_key_opens_only_what_names_its_scopes(w: World) -> None:
    ann = await w.accounts.register(EMAIL, PASSWORD)
    key = await w.accounts.create_api_key(ann.id, "ci", scopes=["orders:read", "a"])
    found = await w.who(x_api_key=key.key)
    (as_policy(Customer) & scopes("orders:read")).check(found)
    for policy in (Customer, scopes("orders:write"), as_policy(Customer) | scopes("orders:write")):
        with pytest.raises(Exception, match=r"limited to scopes|is for"):
            as_policy(policy).check(found)


@in_world()
async def test_keys_are_listed_without_their_secret_and_expire(w: World) -> None:
    ann = await w.accounts.register(EMAIL, PASSWORD)
    short = await w.accounts.create_api_key(ann.id, "short", ttl_s=60)
    await w.accounts.create_api_key(ann.id, "long", scopes=["b", "a"])
    w.clock.jump(30)
    await w.who(x_api_key=short.key)
    listed = {key.name: key for key in await w.accounts.list_api_keys(ann.id)}
    assert listed["long"].scopes == ["a", "b"]
    assert listed["long"].used_at is None
    assert listed["short"].used_at == w.clock.now()
    assert short.key.rpartition("_")[2] not in repr(listed)
    w.clock.jump(30)
    with pytest.raises(ExpiredToken):
        await w.who(x_api_key=short.key)


@in_world()
async def test_no_other_key_is_accepted(w: World) -> None:
    ann = await w.accounts.register(EMAIL, PASSWORD)
    key = (await w.accounts.create_api_key(ann.id, "ci")).key
    other = (await w.accounts.create_api_key(ann.id, "other")).key
    mixed = key[:20] + other[20:]
    wrong = [
        key[:-1],
        key + "A",
        key.upper(),
        mixed,
        "",
        "tfk__",
        "x",
        key.replace("tfk", "tfl"),
        key + "\n",
        "é" * 64,
    ]
    wrong += [key[:i] + ("A" if key[i] != "A" else "B") + key[i + 1 :] for i in range(len(key))]
    for mutant in wrong:
        with pytest.raises(InvalidToken):
            await w.who(x_api_key=mutant)
    assert await w.who(x_api_key=key)


@in_world()
async def test_names_and_scopes_of_keys_are_checked(w: World) -> None:
    ann = await w.accounts.register(EMAIL, PASSWORD)
    for name, wanted in (
        ("", None),
        ("x" * 256, None),
        ("a\nb", None),
        ("ok", []),
        ("ok", ["a b"]),
        ("ok", "read"),
    ):
        with pytest.raises(InvalidInput):
            await w.accounts.create_api_key(ann.id, name, scopes=wanted)


# ── what a request may carry ──


@in_world()
async def test_no_credential_is_nobody_and_a_bad_one_is_an_error(w: World) -> None:
    await w.accounts.register(EMAIL, PASSWORD)
    token = (await w.accounts.login(EMAIL, PASSWORD)).access_token
    assert await w.who() is None
    assert await w.who(cookies={"other": "x"}) is None
    for authorization in (
        "",
        "Bearer",
        "Bearer ",
        f"Basic {token}",
        token,
        f"Bearer {token} x",
        "Digest a=b",
    ):
        with pytest.raises(InvalidToken):
            await w.who(authorization=authorization)
    with pytest.raises(InvalidToken, match="two credentials"):
        await w.who(authorization=f"Bearer {token}", x_api_key="x")
    refresh = (await w.accounts.login(EMAIL, PASSWORD)).refresh_token
    with pytest.raises(InvalidToken):
        await w.bearer(refresh)


@in_world()
async def test_a_stale_cookie_does_not_keep_anybody_from_logging_in_again(w: World) -> None:
    ann = await w.accounts.register(EMAIL, PASSWORD)
    login = await w.accounts.login_session(EMAIL, PASSWORD)
    cookies = {login.cookie["name"]: login.cookie["value"]}
    assert await w.who(cookies={login.cookie["name"]: "forged"}) is None
    await w.accounts.disable(ann.id)
    assert await w.who(cookies=cookies) is None


# ── guessing ──


@in_world()
async def test_guesses_get_slower_and_a_success_starts_afresh(w: World) -> None:
    await w.accounts.register(EMAIL, PASSWORD)

    async def fail(email: str = EMAIL, address: str = "1.2.3.4") -> None:
        with pytest.raises(Unauthorized):
            await w.accounts.login(email, "wrong password", address=address)

    for _ in range(6):
        await fail()
    waits = []
    for _ in range(4):
        with pytest.raises(TooManyRequests) as refused:
            await w.accounts.login(EMAIL, PASSWORD, address="1.2.3.4")
        waits.append(int(refused.value.headers["Retry-After"]))
        await fail(address="5.6.7.8" if len(waits) == 1 else "9.9.9.9")
        w.clock.jump(waits[-1])
        await fail()
    assert waits == [1, 2, 4, 8]
    w.clock.jump(16)
    await w.accounts.login(EMAIL, PASSWORD, address="1.2.3.4")
    for _ in range(6):
        await fail()


@in_world()
async def test_unknown_accounts_are_slowed_down_alike(w: World) -> None:
    for _ in range(6):
        with pytest.raises(Unauthorized):
            await w.accounts.login("unknown@example.org", "wrong password", address="1.2.3.4")
    with pytest.raises(TooManyRequests):
        await w.accounts.login("Unknown@example.org", "wrong password", address="1.2.3.4")


@in_world(settings=Settings(auth=AuthSettings(hash_threads=2)))
async def test_parallel_guesses_are_counted_before_they_are_made(w: World) -> None:
    await w.accounts.register(EMAIL, PASSWORD)
    results = await asyncio.gather(
        *(w.accounts.login(EMAIL, f"wrong password {i}", address="1.2.3.4") for i in range(60)),
        return_exceptions=True,
    )
    assert sum(type(r) is Unauthorized for r in results) == 6
    assert sum(isinstance(r, TooManyRequests) for r in results) == 54


@in_world()
async def test_guesses_from_many_places_at_one_account_are_slowed_too(w: World) -> None:
    await w.accounts.register(EMAIL, PASSWORD)
    for i in range(51):
        with pytest.raises(Unauthorized):
            await w.accounts.login(EMAIL, "wrong password", address=f"10.0.0.{i}")
    with pytest.raises(TooManyRequests) as refused:
        await w.accounts.login(EMAIL, PASSWORD, address="10.0.1.1")
    assert int(refused.value.headers["Retry-After"]) <= 60, "the owner is not locked out for long"


@in_world()
async def test_a_log_in_cannot_be_part_of_an_idempotent_operation(w: World) -> None:
    await w.accounts.register(EMAIL, PASSWORD)
    context = Context()
    ambient = Ambient(w.db)
    ambient.install(context)
    with use(context):
        with pytest.raises(TransactionMisuse, match="remove idempotent"):
            await w.accounts.login(EMAIL, PASSWORD)
        with pytest.raises(TransactionMisuse, match="remove idempotent"):
            await w.accounts.refresh("x")
    await ambient.finish(commit=False)


# ── secrets ──


def test_no_secret_reaches_the_log_a_repr_or_the_disk(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shown: list[str] = []
    secrets: list[str] = [PASSWORD, "another good one", "a wrong guess"]

    async def run() -> None:
        async with world(tmp_path) as w:
            ann = await w.accounts.register(EMAIL, PASSWORD)
            pair = await w.accounts.login(EMAIL, PASSWORD, address="1.2.3.4")
            rotated = await w.accounts.refresh(pair.refresh_token)
            session = await w.accounts.login_session(EMAIL, PASSWORD)
            key = await w.accounts.create_api_key(ann.id, "ci")
            await w.who(x_api_key=key.key)
            secrets.extend(
                [pair.access_token, pair.refresh_token, rotated.access_token, rotated.refresh_token]
            )
            secrets.extend([session.cookie["value"], key.key, key.key.split("_", 2)[2]])
            for attempt in (
                w.accounts.login(EMAIL, "a wrong guess"),
                w.accounts.refresh(pair.refresh_token),
                w.bearer(rotated.access_token + "x"),
                w.who(x_api_key=key.key + "x"),
                w.accounts.change_password(ann.id, "a wrong guess", "another good one"),
            ):
                with pytest.raises(Exception) as refused:
                    await attempt
                shown.extend([str(refused.value), repr(refused.value), repr(vars(refused.value))])
            await w.accounts.change_password(ann.id, PASSWORD, "another good one")
            shown.extend(map(repr, (ann, pair, rotated, session, key, w.accounts, w.accounts._parts)))
            shown.append(repr(await w.accounts._bound().directory.row(ann.id)))

    with caplog.at_level(logging.DEBUG):
        asyncio.run(run())
    secret_key = (tmp_path / "secret_key").read_text()
    shown.append(caplog.text)
    assert "used twice" in caplog.text, "the log is captured"
    for secret in [*secrets, secret_key]:
        assert not any(secret in text for text in shown), secret
    disk = b"".join(f.read_bytes() for f in tmp_path.iterdir() if f.name != "secret_key")
    assert b"$argon2id$" in disk, "the database is there"
    for secret in [*secrets, secret_key]:
        assert secret.encode() not in disk, secret
    assert EMAIL.casefold() not in caplog.text.casefold()


# ── declaring and starting ──


def test_accounts_say_what_is_wrong_with_their_declaration() -> None:
    class Needy(Principal):
        level: int

    db = Database("app", sa.MetaData())
    with pytest.raises(DeclarationError, match="not a subclass of Principal"):
        Accounts(db, {"x": int})  # type: ignore[dict-item]
    with pytest.raises(DeclarationError, match="Give the fields that it adds defaults"):
        Accounts(db, {"x": Needy})


def test_unbound_accounts_and_a_missing_secret_are_sentences(tmp_path: Path) -> None:
    async def run() -> None:
        accounts = Accounts(Database("app", sa.MetaData()))
        with pytest.raises(NotBound, match="before their app started"):
            await accounts.login(EMAIL, PASSWORD)
        with pytest.raises(NotBound):
            await accounts.authenticator.authenticate({}, {})
        assert accounts.authenticator.fast(b"Bearer token") is None
        assert set(accounts.authenticator.schemes()) == {"bearer", "apiKey", "session"}
        with pytest.raises(ConfigError, match="TENFOLD_APP_SECRET_KEY"):
            await accounts.bind(
                Settings(app=AppSettings(env="production")), data_dir=tmp_path, clock=ManualClock()
            )

    asyncio.run(run())
