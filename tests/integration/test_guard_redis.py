"""An app whose guards are in Redis: sessions, keys and limits work there, and their loss hurts as little as declared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.servers import Redis, free_port, running
from tenfold import Accounts, App, Reply, Service, Tx, authenticated, public
from tenfold.conformance.kit import until
from tenfold.errors import ConfigError, StoreUnavailable
from tenfold.security.principal import Principal

pytestmark = pytest.mark.anyio

metadata = sa.MetaData()
note = sa.Table(
    "note", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("text", sa.String(50))
)
PASSWORD = "correct horse battery"


@pytest.fixture
def redis() -> Iterator[Redis]:
    with running(Redis()) as server:
        yield server


def app_of() -> App:
    service = Service("notes", auth=public)
    db = service.database(metadata)
    accounts = Accounts(db)

    @service.post("/notes", idempotent="required")
    async def add(text: str, tx: Tx) -> int:
        await tx.execute(sa.insert(note), text=text)
        return int(await tx.scalar(sa.select(sa.func.count()).select_from(note)))

    @service.get("/limited", limit="2/hour per address")
    async def limited() -> str:
        return "counted"

    @service.post("/login")
    async def login() -> Reply[None]:
        known = await accounts.login_session("ann@example.com", PASSWORD)
        return Reply(None, 204).set_cookie(**known.cookie)

    @service.get("/me", auth=authenticated)
    async def me(principal: Principal) -> str:
        return principal.id

    @service.on_start
    async def register() -> None:
        await accounts.register("ann@example.com", PASSWORD)

    return App("notes", [service], auth=accounts)


async def test_the_app_behaves_as_with_the_database_and_leaves_no_trace_in_it(redis: Redis) -> None:
    app = app_of()
    async with app.test(guard__url=redis.url()) as t:
        key = {"idempotency-key": "k1"}
        first, again = [await t.client.post("/notes?text=a", headers=key) for _ in range(2)]
        assert (first.json(), again.json()) == (1, 1)
        assert again.headers["idempotency-replayed"] == "true"
        assert (await t.client.post("/notes?text=b", headers=key)).status == 422
        assert [(await t.client.get("/limited")).status for _ in range(3)] == [200, 200, 429]
        assert (await t.client.post("/login")).status == 204
        me = await t.client.get("/me")
        assert me.status == 200
        accounts = app.auth
        assert isinstance(accounts, Accounts)
        await accounts.logout_everywhere(me.json())
        assert (await t.client.get("/me")).status == 401
        for table in ("tenfold_idempotency", "tenfold_limit", "tenfold_session"):
            rows = sa.text(f"SELECT count(*) FROM {table}")
            assert await accounts.database.read().scalar(rows) == 0


async def test_without_its_store_what_needs_it_answers_503_and_the_rest_goes_on(redis: Redis) -> None:
    app = app_of()
    async with app.test(guard__url=redis.url(), guard__timeout_s=0.1) as t:
        assert (await t.client.get("/limited")).status == 200
        redis.kill()
        refused = await t.client.post("/notes?text=a", headers={"idempotency-key": "k"})
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert [(await t.client.get("/limited")).status for _ in range(3)] == [200, 200, 429]
        redis.start()

        async def back() -> bool:
            await t.clock.advance(3)  # the pause between two tries
            return (await t.client.post("/notes?text=a", headers={"idempotency-key": "k"})).status == 200

        await until(back, "the return of the store")
        assert (await t.client.post("/notes?text=a", headers={"idempotency-key": "k"})).json() == 1


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://127.0.0.1:{free}", r"guard\.url: redis 127\.0\.0\.1:\d+/0 cannot be reached"),
        ("redis://nobody:wrong@{address}", r"guard\.url: .*refuses the login"),
        ("redis://{address}/99", r"guard\.url: .*no such database"),
        ("redis://{address}/x", r"guard\.url: the database is no number"),
        ("rediss://{address}", r"guard\.url"),
        ("redi://{address}", r"guard\.url: no guard backend speaks 'redi'\..*Did you mean 'redis'"),
        ("sqlite:///x.db", r"guard\.url: no guard backend speaks 'sqlite'\. Known are: memory, redis"),
        ("memory:x", r"guard\.url: the memory backend takes no address"),
    ],
)
async def test_what_is_wrong_with_the_url_is_said_at_start(
    url: str, words: str, redis_server: Redis, tmp_path: Path
) -> None:
    app = app_of()
    where = url.format(free=free_port(), address=redis_server.address)
    app.configure(environ={}, app__data_dir=str(tmp_path), guard__url=where)
    with pytest.raises((ConfigError, StoreUnavailable), match=words):
        await app.start(worker=False)
    assert not app.started
