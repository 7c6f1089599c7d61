"""Fifty operations of five services, twenty jobs, events, caches, schedules and mail: what the pages of the dashboard are
measured with (see page_rounds.py)."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from tenfold import App, Mailer, Reader, Service, Tx, public

SERVICES = ("catalog", "orders", "accounts", "billing", "shipping")
OPERATIONS_EACH, JOBS_EACH = 10, 4
ROWS = 10_000


class Changed(msgspec.Struct):
    id: int


def service_of(name: str) -> Service:
    """One of the five; they are alike."""
    service = Service(name, auth=public)
    things = sa.Table(
        f"{name}_things",
        metadata := sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
    )
    db, cache, changed = service.database(metadata), service.cache(), service.topic("changed", Changed)
    of_owner = sa.select(sa.func.count()).select_from(things).where(things.c.owner == sa.bindparam("owner"))

    @cache.cached(key="owner:{owner}")
    async def count(owner: str) -> int:
        return await db.read().scalar(of_owner, owner=owner)

    def operation(number: int) -> None:
        async def read(owner: str, reader: Reader) -> int:
            await reader.scalar(of_owner, owner=owner)
            return await count(owner)

        read.__name__ = f"op{number}"
        service.get(f"/{name}/{number}/{{owner}}")(read)

    def job(number: int) -> None:
        async def work(number: int, tx: Tx) -> None: ...

        work.__name__ = f"job{number}"
        service.job()(work)

    for number in range(OPERATIONS_EACH):
        operation(number)
    for number in range(JOBS_EACH):
        job(number)

    @service.on(changed)
    async def follow(event: Changed) -> None: ...

    @service.every(3600)
    async def sweep() -> None: ...

    @service.on_start
    async def fill(mailer: Mailer) -> None:
        async with db.tx() as tx:
            if await tx.scalar(sa.select(sa.func.count()).select_from(things)):
                return
            await tx.load(things, ({"id": one, "owner": f"o{one % 997}"} for one in range(1, ROWS + 1)))
        await mailer.send("ann@example.com", "Hello", f"A letter of {name}.")

    return service


app = App("pages", [service_of(name) for name in SERVICES])
