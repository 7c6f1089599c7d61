"""Import products from a file: upload it, watch how far it is, fetch the report of what could not be used."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from shop.catalog import catalog, db
from shop.imports import tables
from shop.imports.loading import file_of, import_chunk
from shop.imports.reading import RECORD_MAX_BYTES, WrongHeader, header
from shop.imports.tables import Format, Import, State
from shop.pages import Page, PageNumber, PerPage, offset, paged
from tenfold import Clock, Event, EventStream, File, Settings, Stream, Upload, public, roles
from tenfold.errors import FieldError, InvalidInput, NotFound

__all__ = ["catalog"]

BYTES_MAX = 134_217_728
LOOK_S = 0.2
ImportId = Annotated[str, Meta(min_length=1, max_length=36)]
PAGE = Path(__file__).parent / "page"


class Progress(Struct, frozen=True):
    """How far an import is, as its page shows it."""

    state: State
    share: float
    lines: int
    products: int
    errors: int


@catalog.post(
    "/imports",
    auth=roles("admin"),
    status=202,
    body_max_bytes=BYTES_MAX,
    timeout_s=120.0,
    errors=(InvalidInput,),
)
async def start_import(
    products: Upload,
    settings: Settings,
    clock: Clock,
    format: Format | None = None,  # noqa: A002 - as in the URL
) -> Import:
    """Import products from a file (form field ``products``), new ones and known ones.

    CSV (UTF-8, RFC 4180) has a first line that names the columns sku, name, category and price, in pounds. Lines
    of JSON are products as the API shows them, prices in pence. Without ``format``, the name of the file tells.
    """
    kind = format or ("jsonl" if products.filename.lower().endswith((".jsonl", ".ndjson")) else "csv")
    await _check_first_line(products, kind)
    id_ = clock.uuid()
    await products.save(file_of(settings, id_))
    now = datetime.fromtimestamp(clock.now(), UTC)
    new = Import(id_, products.filename, kind, "running", products.size, 0, 0, 0, 0, now, None)
    async with db.tx() as tx:
        job = await import_chunk.enqueue(tx, import_id=id_)
        await tx.execute(tables.add, msgspec.structs.asdict(new) | {"job_id": await job.written(tx)})
    return new


@catalog.get("/imports", auth=roles("admin"), errors=(NotFound,))
async def list_imports(page: PageNumber = 1, per_page: PerPage = 24) -> Page[Import]:
    """Imports, newest first."""
    async with db.read() as reader:
        total = await reader.scalar(tables.count)
        items = await reader.all(tables.newest, Import, limit=per_page, offset=offset(page, per_page))
    return paged(items, total=total, page=page, per_page=per_page, path="/imports")


@catalog.get("/imports/{import_id}", auth=roles("admin"), errors=(NotFound,))
async def get_import(import_id: ImportId) -> Import:
    """How far an import is."""
    found = await db.read().maybe(tables.by_id, Import, id=import_id)
    if found is None:
        raise NotFound(f"There is no import {import_id!r}.")
    if found.state == "running":
        job = import_chunk.handle(await db.read().scalar(tables.job_of, id=import_id))
        if (await job.status()).state in ("dead", "cancelled"):
            found.state = "failed"
    return found


@catalog.get("/imports/{import_id}/progress", auth=roles("admin"), errors=(NotFound,))
async def watch_import(import_id: ImportId, clock: Clock) -> EventStream[Progress]:
    """How far an import is, as server-sent events until it has ended."""
    return EventStream(_progress(await get_import(import_id), clock))


@catalog.get("/imports/{import_id}/errors.csv", auth=roles("admin"), errors=(NotFound,))
async def download_errors(import_id: ImportId) -> Stream:
    """The lines that could not be used, with what is wrong with each."""
    await get_import(import_id)
    headers = {"Content-Disposition": f'attachment; filename="errors-{import_id}.csv"'}
    return Stream(_errors(import_id), "text/csv; charset=utf-8", headers=headers)


@catalog.get("/import", auth=public, hidden=True)
async def show_page() -> File:
    """A page to try it with."""
    policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'none'"
    return File(PAGE / "index.html", headers={"Content-Security-Policy": policy})


@catalog.get("/import/{name}", auth=public, hidden=True)
async def show_part(name: str) -> File:
    """The page's script and style."""
    return File(name, root=PAGE)


async def _check_first_line(products: Upload, kind: Format) -> None:
    """What is wrong with the whole file is said at once, not by a job later."""
    message = ""
    if products.size == 0:
        message = "The file is empty."
    elif kind == "csv":
        with products.open() as file:
            line = await asyncio.to_thread(file.readline, RECORD_MAX_BYTES)
        try:
            header(line)
        except WrongHeader as error:
            message = str(error)
    if message:
        raise InvalidInput(errors=[FieldError(in_="body", path="products", message=message)])


async def _progress(first: Import, clock: Clock) -> AsyncIterator[Event]:
    """An event whenever something has changed."""
    told: Progress | None = None
    found = first
    while True:
        share = found.bytes_done / found.bytes_total if found.bytes_total else 1.0
        now = Progress(found.state, share, found.lines, found.products, found.errors)
        if now != told:
            yield Event(now, event="progress")
            told = now
        if found.state != "running":
            return
        await clock.sleep(LOOK_S)
        found = await get_import(first.id)


async def _errors(import_id: str) -> AsyncIterator[str]:
    yield "line,message\r\n"
    async with db.read() as reader:
        async for line, message in reader.stream(tables.errors_of, tuple, id=import_id):
            text = io.StringIO(newline="")
            csv.writer(text).writerow((line, message))
            yield text.getvalue()
