"""Services of one PostgreSQL database, kept apart by the server itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.servers import Postgres
from tenfold._core.clock import SystemClock
from tenfold._core.sections import DatabaseSettings
from tenfold.cli import main, target
from tenfold.cli.run import own_role
from tenfold.db import Database, migrations, ownership
from tenfold.db.backends.postgresql import Backend
from tenfold.errors import DatabaseUnavailable

orders_meta, catalog_meta = sa.MetaData(), sa.MetaData()
orders_table = sa.Table(
    "orders", orders_meta, sa.Column("id", sa.Integer, primary_key=True), sa.Column("note", sa.Text)
)
products_table = sa.Table("products", catalog_meta, sa.Column("id", sa.Integer, primary_key=True))


@asynccontextmanager
async def opened(folder: Path, url: str, *services: str) -> AsyncGenerator[list[Database]]:
    """The databases of these services, on the URL's role."""
    made = {"orders": orders_meta, "catalog": catalog_meta}
    databases = [Database(service, made[service]) for service in services]
    backend = Backend.from_url(url, settings=DatabaseSettings(), data_dir=folder, clock=SystemClock())
    await backend.start()
    for database in databases:
        database.bind(backend)
    try:
        yield databases
    finally:
        await backend.stop()


async def test_a_service_reaches_its_own_tables_and_no_others(
    tmp_path: Path, postgres: Postgres, postgres_url: str
) -> None:
    apps = f"app{postgres_url[-6:]}"  # roles belong to the whole server
    async with opened(tmp_path, postgres_url, "orders", "catalog") as both:
        await migrations.upgrade(both, create_without_scripts=True)
        backend, services = both[0].backend, ownership.owned(apps, both)
        plan = await ownership.plan(backend, services)
        assert [step.creates for step in plan if step.creates] == [f"{apps}_orders", f"{apps}_catalog"]
        await ownership.apply(backend, [step.sql.replace("{password}", "'secret'") for step in plan])
        assert await ownership.plan(backend, services) == []
        said = await ownership.check(backend, services[:1], services[1:])
        assert (
            said == "the role of this process can reach tables of catalog, which it does not serve: products."
        )
    database = postgres_url.rpartition("/")[2]
    try:
        url = postgres_url.replace("tenfold:tenfold@", f"{apps}_orders:secret@")
        async with opened(tmp_path, url, "orders", "catalog") as (orders, catalog):
            await migrations.prepare([orders], "check")  # the framework's tables and its own are open to it
            async with orders.tx() as tx:
                await tx.execute(sa.insert(orders_table).values(note="kept"))
            with pytest.raises(DatabaseUnavailable, match="permission denied for table products"):
                await catalog.read().all(sa.select(products_table.c.id), int)
            assert await ownership.check(orders.backend, services[:1], services[1:]) == ""
            await asyncio.to_thread(
                postgres.sql, f"GRANT UPDATE (id) ON products TO {apps}_orders", database=database
            )
            assert "products" in await ownership.check(orders.backend, services[:1], services[1:])
    finally:
        for role in (f"{apps}_orders", f"{apps}_catalog"):
            await asyncio.to_thread(
                postgres.sql, f"DROP OWNED BY {role}", f"DROP ROLE {role}", database=database
            )


APP = """
import sqlalchemy as sa
from tenfold import App, Service, public

metas = sa.MetaData(), sa.MetaData()
sa.Table("orders", metas[0], sa.Column("id", sa.Integer, primary_key=True))
sa.Table("products", metas[1], sa.Column("id", sa.Integer, primary_key=True))
orders, catalog = Service("orders", auth=public, calls=[]), Service("catalog", auth=public, calls=[])
orders.database(metas[0]), catalog.database(metas[1])
app = App("NAME", [orders, catalog])
"""


def test_the_command_prints_the_plan_and_applies_it_with_passwords_nobody_sees(
    tmp_path: Path,
    postgres: Postgres,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = f"cli{postgres_url[-6:]}"
    (tmp_path / f"{name}.py").write_text(APP.replace("NAME", name))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TENFOLD_DATABASE_URL", postgres_url)
    here = ["--app", f"{name}:app"]
    assert main(["migrate", f"{name}:app"]) == 0
    try:
        capsys.readouterr()
        assert main(["identity", "database", *here]) == 0
        said = capsys.readouterr()
        assert f"CREATE ROLE {name}_orders LOGIN" in said.out
        assert "PASSWORD '••••••'" in said.out
        assert "Nothing was changed" in said.err
        assert main(["identity", "database", "--apply", *here]) == 0
        kept = tmp_path / "data" / "identity" / "orders" / "database.url"
        url = kept.read_text().strip()
        assert kept.stat().st_mode & 0o777 == 0o600
        assert url.partition("@")[0].rpartition(":")[2] not in capsys.readouterr().out
        app = target.load(f"{name}:app", None)
        app.serve_only("orders")
        app.configure(identity__folder="identity")
        assert own_role(app) == {"database__url": url, "database__replicas": []}
        app.serve_only()
        assert own_role(app) == {}, "who serves everything stays who it is"
    finally:
        database = postgres_url.rpartition("/")[2]
        for service in ("orders", "catalog"):
            postgres.sql(f"DROP OWNED BY {name}_{service}", f"DROP ROLE {name}_{service}", database=database)
