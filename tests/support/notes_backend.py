"""A backend with a bit of everything, for the tests of what helps to test one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import sqlalchemy as sa
from msgspec import Struct

from tenfold import App, Depends, Mailer, Principal, Service, Tx, authenticated, injected, public
from tenfold._core.clock import Clock
from tenfold._core.sections import Settings
from tenfold.db.database import Database
from tenfold.security.authenticator import Authenticator


class Note(Struct):
    id: int
    text: str


class NewNote(Struct):
    text: str


class Written(Struct):
    id: int


class Nobody(Authenticator):
    """Recognises one token only."""

    async def authenticate(self, headers: Any, cookies: Any, /) -> Principal | None:
        return Principal(id="token", via="bearer") if headers.get("authorization") == "Bearer good" else None


async def greeting() -> str:
    return "hello"


@dataclass
class Backend:
    """The app, and what its background work did."""

    app: App
    database: Database
    ticks: list[float] = field(default_factory=list)
    attempts: list[float] = field(default_factory=list)


def build() -> Backend:
    service = Service("notes", auth=public)
    metadata = sa.MetaData()
    table = sa.Table(
        "notes",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("text", sa.String, nullable=False),
    )
    database = service.database(metadata)
    cache = service.cache()
    written = service.topic("written", Written)
    ignored = service.topic("ignored", Written)
    backend = Backend(App("notes", [service], auth=Nobody()), database)
    loud = sa.text("UPDATE notes SET text = upper(text) WHERE id = :id")

    @service.post("/notes", status=201)
    async def write(new: NewNote, tx: Tx) -> Note:
        id_ = await tx.scalar(sa.insert(table).returning(table.c.id), text=new.text)
        await written.publish(tx, Written(id_), key="k")
        await ignored.publish(tx, Written(id_))
        await shout.enqueue(tx, id_)
        return Note(id_, new.text)

    @service.post("/failing-notes")
    async def write_and_fail(new: NewNote, tx: Tx) -> None:
        await written.publish(tx, Written(1))
        await shout.enqueue(tx, 1)
        raise ValueError("after all that")

    @service.get("/notes")
    async def notes() -> list[Note]:
        return await database.read().all(sa.select(table), Note)

    @service.get("/count")
    async def count() -> int:
        async def load() -> int:
            return int(await database.read().scalar(sa.select(sa.func.count()).select_from(table)))

        return await cache.get_or_load("count", load)

    @service.get("/me", auth=authenticated)
    async def me(caller: Principal) -> str:
        return caller.id

    @service.get("/greeting")
    async def greet(word: Annotated[str, Depends(greeting)]) -> str:
        return word

    @service.get("/env")
    async def env(settings: Settings) -> dict[str, Any]:
        return {"env": settings.app.env, "timeout_s": settings.http.timeout_s}

    @service.get("/now")
    async def now(clock: Clock) -> float:
        return clock.now()

    @service.post("/later", status=202)
    async def later(tx: Tx, seconds: float) -> None:
        await shout.options(delay=seconds).enqueue(tx, 1)

    @service.post("/flaky", status=202)
    async def ask_flaky(tx: Tx) -> None:
        await flaky.enqueue(tx)

    @service.job()
    async def shout(id_: int, tx: Tx = injected()) -> None:
        await tx.execute(loud, id=id_)

    @service.job()
    async def flaky(clock: Clock = injected()) -> None:
        backend.attempts.append(clock.now())
        if len(backend.attempts) == 1:
            raise OSError("the first time never works")

    @service.on(written)
    async def announce(event: Written, mailer: Mailer = injected()) -> None:
        await mailer.send("ada@example.org", "Written", f"Note {event.id}", html="<p>hi</p>")

    @service.every("0 * * * *")
    async def hourly(clock: Clock = injected()) -> None:
        backend.ticks.append(clock.now())

    return backend
