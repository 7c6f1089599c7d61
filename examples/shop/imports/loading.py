"""The job of an import: one chunk, and the job of the next. Each line counts once, whatever kills the process.

What a chunk wrote, how far the import is, the next job and this one's acknowledgement commit together. So a run that is
killed leaves nothing behind and is repeated from where it began, and one whose worker was only thought to be dead cannot
commit any more. As each chunk has a job of its own, an import may lose its worker any number of times: a message is given
up when it has killed three workers, and these have done nothing wrong.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from shop.catalog import catalog, db, store
from shop.files import folder
from shop.imports import tables
from shop.imports.reading import Chunk, Reader
from shop.imports.tables import Import, error_table
from tenfold import Clock, Retry, Settings, Tx, injected

CHUNK_RECORDS = 2000
"""Written in one transaction. So many are in memory at a time."""


@catalog.job(retry=Retry(attempts=10), timeout=120)
async def import_chunk(
    import_id: str, tx: Tx = injected(), settings: Settings = injected(), clock: Clock = injected()
) -> None:
    """Load the next chunk of a file into the catalogue, and have the one after it loaded."""
    found = await db.read(consistency="strong").one(tables.by_id, Import, id=import_id)
    chunk = await asyncio.to_thread(_read, file_of(settings, import_id), found)
    if chunk.empty:
        now = datetime.fromtimestamp(clock.now(), UTC)
        await tx.execute(tables.end, id_=import_id, state="done", at=now)
        return
    await _write(tx, chunk, import_id)
    following = await import_chunk.enqueue(tx, import_id=import_id)
    await tx.execute(tables.follow, id_=import_id, job_id=await following.written(tx))


def _read(path: Path, found: Import) -> Chunk:
    return Reader(path, found.format).chunk(found.bytes_done, found.lines, CHUNK_RECORDS)


async def _write(tx: Tx, chunk: Chunk, import_id: str) -> None:
    await tx.execute(
        tables.advance,
        id_=import_id,
        to=chunk.end,
        lines_=chunk.lines,
        products_=len(chunk.products),
        errors_=len(chunk.errors),
    )
    if chunk.products:
        await store(tx, chunk.products)
    if chunk.errors:
        rows = [{"import_id": import_id, "line": line, "message": said} for line, said in chunk.errors]
        await tx.load(error_table, rows)


def file_of(settings: Settings, import_id: str) -> Path:
    """Files are named by the import: nothing that a client calls its file reaches our disk."""
    return folder(settings, "imports") / import_id
