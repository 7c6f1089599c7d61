"""An app in which everything that the dashboard shows has happened: jobs that died, events in quarantine, hot keys, a
missing index, a limit at work. Secrets that must never be shown are everywhere, see :data:`CANARIES`."""

from __future__ import annotations

import asyncio
import base64
import time
from urllib.parse import quote

import msgspec
import sqlalchemy as sa

from tenfold import App, Cache, Context, JobContext, Mailer, Request, Retry, Service, public
from tenfold.telemetry.log import get_logger

CANARIES = {
    "setting": "s3tting+canary/0001",
    "url": "url-p4ssword-canary-2",
    "header": "he4der-canary-000003",
    "cookie": "cook1e-canary-000004",
    "query": "qu3ry-canary-000005",
    "argument": "argum3nt-canary-0006",
    "event": "ev3nt-canary-0000007",
    "exception": "exc3ption-canary-008",
    "field": "f1eld-canary-0000009",
}


def forms(secret: str) -> set[str]:
    """A secret as it is, and as others would write it."""
    raw = secret.encode()
    return {
        secret, quote(secret, safe=""), raw.hex(), base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode(),
        msgspec.json.encode(secret).decode().strip('"'),
    }  # fmt: skip


log = get_logger("demo.work")
metadata = sa.MetaData()
parts = sa.Table(
    "parts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("shelf", sa.String(20), nullable=False),
    sa.Column("weight", sa.Float, nullable=False),
)
OF_SHELF = sa.select(parts.c.id, parts.c.weight).where(parts.c.shelf == sa.bindparam("shelf"))
ONE = sa.select(parts.c.weight).where(parts.c.id == sa.bindparam("id"))


class DemoSettings(msgspec.Struct):
    api_key: str = CANARIES["setting"]
    endpoint: str = f"https://ann:{CANARIES['url']}@partner.example/v1"
    colour: str = "green"


class Counted(msgspec.Struct):
    shelf: str
    password: str = ""


demo = Service("demo", auth=public, settings=DemoSettings)
db = demo.database(metadata)
cache: Cache = demo.cache(ttl_s=60, stale_s=30)
counted = demo.topic("counted", Counted)
payments = demo.http("payments", "https://payments.example")


@cache.cached(key="shelf:{shelf}")
async def shelf_of(shelf: str) -> list[int]:
    return [row[0] for row in await db.read().all(OF_SHELF, tuple, shelf=shelf)]


@demo.get("/shelves/{shelf}", limit="600/minute", concurrency=20)
async def get_shelf(shelf: str) -> list[int]:
    return await shelf_of(shelf)


@demo.get("/weights")
async def get_weights(shelf: str) -> float:
    """One statement for every row of another: what the finder is for."""
    ids = [row[0] for row in await db.read().all(OF_SHELF, tuple, shelf=shelf)]
    return sum([await db.read().scalar(ONE, id=each) for each in ids[:15]])


@demo.get("/burn", priority="sheddable")
async def burn(ms: int = 50) -> int:
    """Computes for a while, to be found by the profiler."""
    end, rounds = time.monotonic() + ms / 1000, 0
    while time.monotonic() < end:
        rounds += sum(range(100))
    return rounds


@demo.get("/fail")
async def fail(request: Request, key: str = "", note: str = "") -> str:
    given = request.headers.get("x-api-key") or ""
    log.warning("a caller gave a key", api_key=given, token=key, shelf="A-1")
    raise RuntimeError(f"Cannot sign in with password={CANARIES['exception']} and Bearer {given} {note}")


@demo.job(retry=Retry(attempts=1))
async def count_shelf(shelf: str, token: str = "") -> None:
    if shelf.startswith("broken"):
        raise OSError(f"The scale of {shelf} does not answer, password={CANARIES['exception']}")


@demo.job(timeout=3600)
async def recount(shelves: int, job: JobContext) -> None:
    """Runs for as long as the tests look at it."""
    for done in range(shelves):
        await job.progress(done + 1, shelves, "shelves")
        await asyncio.sleep(0.5)


@demo.on(counted, retry=Retry(attempts=1))
async def report(event: Counted) -> None:
    if event.shelf.startswith("broken"):
        raise ValueError(f"{event.shelf} was counted by nobody, token={CANARIES['exception']}")


@demo.every("0 3 * * *", timezone="Europe/London")
async def nightly(context: Context) -> None:
    """Counts everything."""


@demo.every(60)
async def sweep() -> None:
    """Puts everything back."""


@demo.on_start
async def prepare(mailer: Mailer) -> None:
    if await db.read().scalar(sa.select(sa.func.count()).select_from(parts)):
        return
    async with db.tx() as tx:
        rows = [{"id": n, "shelf": f"A-{n % 300}", "weight": n / 10} for n in range(3_000)]
        await tx.execute(sa.insert(parts), rows)
        for n in range(3):
            await count_shelf.enqueue(tx, shelf=f"broken-{n}", token=CANARIES["argument"])
        await count_shelf.enqueue(tx, shelf="A-1")
        await recount.enqueue(tx, shelves=4_000)
        await counted.publish(tx, Counted("broken-7", CANARIES["event"]))
    await mailer.send(
        "ann@example.com", "Your <parts> are counted", "All 3,000 of them.",
        html="<h1>Counted</h1><p>All <b>3,000</b> of them.</p>",
    )  # fmt: skip


app = App("demo", [demo])
