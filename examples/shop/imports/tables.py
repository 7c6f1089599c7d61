"""The catalogue's imports: how far each is, and the lines that could not be used.

They are tables of the catalogue, because how far an import is commits together with the products of the chunk.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import sqlalchemy as sa
from msgspec import Struct

from shop.catalog import metadata
from shop.columns import Utc

Format = Literal["csv", "jsonl"]
State = Literal["running", "done", "failed"]

import_table = sa.Table(
    "imports",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("filename", sa.String(200), nullable=False),
    sa.Column("format", sa.String(8), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("job_id", sa.BigInteger, nullable=False),
    sa.Column("bytes_total", sa.BigInteger, nullable=False),
    sa.Column("bytes_done", sa.BigInteger, nullable=False),
    sa.Column("lines", sa.Integer, nullable=False),
    sa.Column("products", sa.Integer, nullable=False),
    sa.Column("errors", sa.Integer, nullable=False),
    sa.Column("asked_at", Utc, nullable=False),
    sa.Column("ended_at", Utc),
)
error_table = sa.Table(
    "import_errors",
    metadata,
    sa.Column("import_id", sa.ForeignKey("imports.id"), primary_key=True),
    sa.Column("line", sa.Integer, primary_key=True),
    sa.Column("message", sa.String(300), nullable=False),
)


class Import(Struct):
    """An import and how far it is. ``lines`` were looked at; of them, ``products`` were written and ``errors``
    are in the report."""

    id: str
    filename: str
    format: Format
    state: State
    bytes_total: int
    bytes_done: int
    lines: int
    products: int
    errors: int
    asked_at: datetime
    ended_at: datetime | None


by_id = sa.select(*(import_table.c[name] for name in Import.__struct_fields__)).where(
    import_table.c.id == sa.bindparam("id")
)
job_of = sa.select(import_table.c.job_id).where(import_table.c.id == sa.bindparam("id"))
newest = (
    sa.select(*(import_table.c[name] for name in Import.__struct_fields__))
    .order_by(import_table.c.asked_at.desc(), import_table.c.id)
    .limit(sa.bindparam("limit"))
    .offset(sa.bindparam("offset"))
)
count = sa.select(sa.func.count()).select_from(import_table)
errors_of = (
    sa.select(error_table.c.line, error_table.c.message)
    .where(error_table.c.import_id == sa.bindparam("id"))
    .order_by(error_table.c.line)
)
add = sa.insert(import_table)
advance = (
    sa.update(import_table)
    .where(import_table.c.id == sa.bindparam("id_"))
    .values(
        bytes_done=sa.bindparam("to"),
        lines=import_table.c.lines + sa.bindparam("lines_"),
        products=import_table.c.products + sa.bindparam("products_"),
        errors=import_table.c.errors + sa.bindparam("errors_"),
    )
)
follow = (
    sa.update(import_table)
    .where(import_table.c.id == sa.bindparam("id_"))
    .values(job_id=sa.bindparam("job_id"))
)
end = (
    sa.update(import_table)
    .where(import_table.c.id == sa.bindparam("id_"))
    .values(state=sa.bindparam("state"), ended_at=sa.bindparam("at"))
)
