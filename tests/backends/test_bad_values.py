"""What a client may send and no column can keep is the client's error on every database, not ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from tenfold import App, Service, Tx, public
from tenfold.testing.client import Client

pytestmark = pytest.mark.anyio

metadata = sa.MetaData()
thing = sa.Table(
    "bad_values",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(10), nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("total", sa.BigInteger, nullable=False),
)
insert = sa.insert(thing)


class Thing(msgspec.Struct):
    name: str = "x"
    count: int = 1
    total: int = 1


service = Service("bad", auth=public)
service.database(metadata)


@service.post("/things", status=204)
async def add(new: Thing, tx: Tx) -> None:
    await tx.execute(insert, name=new.name, count=new.count, total=new.total)


@pytest.fixture(params=["sqlite", "postgres_url", "mariadb_url"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = "sqlite:///app.db" if request.param == "sqlite" else request.getfixturevalue(request.param)
    return found


async def test_bad_values_are_refused_as_the_clients(tmp_path: Path, url: str) -> None:
    app = App("bad", [service])
    app.configure(environ={}, app__data_dir=str(tmp_path), database__url=url)
    await app.start(worker=False)
    bad: list[dict[str, Any]] = [
        {"name": "a\0b"}, {"name": "y" * 11}, {"count": 2**31}, {"count": -(2**31) - 1}, {"total": 2**63},
    ]  # fmt: skip
    try:
        client = Client(app)
        for json in bad:
            answer = await client.post("/things", json=json)
            assert answer.status == 422, (json, answer.status, answer.text)
            assert str(next(iter(json.values()))) not in answer.text
        (
            await client.post("/things", json={"name": "é" * 10, "count": 2**31 - 1, "total": 2**63 - 1})
        ).expect(204)
    finally:
        await app.stop()
