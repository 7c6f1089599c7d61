"""An app that serves some of its services: what is here, what is elsewhere, and what settings say of both."""
# Without postponed annotations: handlers are local to their tests.

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from tenfold import App, Service, Tx, injected, public
from tenfold.errors import ConfigError, DeclarationError

pytestmark = pytest.mark.anyio


class Own(msgspec.Struct, frozen=True):
    greeting: str = "hello"


class Placed(msgspec.Struct):
    id: int


def duo() -> App:
    return App("duo", [Service("orders", auth=public, settings=Own), Service("stock", auth=public)])


def test_services_that_are_not_named_are_elsewhere_and_without_names_none_is() -> None:
    app = duo()
    app.serve_only("stock")
    assert [service.name for service in app.services] == ["stock"]
    assert [service.name for service in app.elsewhere] == ["orders"]
    app.serve_only()
    assert {service.name for service in app.services} == {"orders", "stock"}
    assert not app.elsewhere


def test_a_service_that_there_is_not_is_named_with_the_nearest_one() -> None:
    with pytest.raises(
        ConfigError, match=r"--service: there is no service 'oders'\. Did you mean 'orders'\?"
    ):
        duo().serve_only("oders")


def test_where_a_service_is_stands_beside_its_own_settings(tmp_path: Path) -> None:
    app, file = duo(), tmp_path / "tenfold.toml"
    file.write_text('[services.orders]\nurl = "http://a:1"\ngreeting = "hi"\n')
    loaded = app.configure(file, environ={"TENFOLD_SERVICES_STOCK_URL": "http://b:2"})
    assert {name: peer.url for name, peer in app.settings.peers.items()} == {
        "orders": "http://a:1",
        "stock": "http://b:2",
    }
    assert app.settings.services == {"orders": Own("hi")}
    rows = {path: source for path, _, source in loaded.rows()}
    assert rows["services.orders.url"] == str(file)
    assert rows["services.stock.url"] == "TENFOLD_SERVICES_STOCK_URL"


def test_settings_of_a_service_may_not_be_named_like_its_place() -> None:
    class Clashing(msgspec.Struct):
        url: str = ""

    with pytest.raises(DeclarationError, match=r"\[services\.orders\] url means already"):
        Service("orders", settings=Clashing)


async def test_events_and_jobs_reach_services_elsewhere_through_a_database_that_both_use(
    tmp_path: Path,
) -> None:
    def made() -> tuple[App, Any, Any, list[Any], asyncio.Event]:
        handled: list[Any] = []
        both = asyncio.Event()
        orders, stock = Service("orders", auth=public), Service("stock", auth=public)
        db = orders.database(sa.MetaData())
        stock.database(sa.MetaData())
        placed = orders.topic("placed", Placed)

        def note(what: Any) -> None:
            handled.append(what)
            if len(handled) == 2:
                both.set()

        @stock.on(placed)
        async def reserve(event: Placed, tx: Tx = injected()) -> None:
            note(("event", event.id))

        @stock.job()
        async def count(number: int) -> None:
            note(("job", number))

        async def place() -> None:
            async with db.tx() as tx:
                await placed.publish(tx, Placed(7))
                await count.enqueue(tx, number=8)

        return App("duo", [orders, stock]), place, db, handled, both

    settings = {"app__env": "test", "app__data_dir": str(tmp_path), "database__url": "sqlite:///one.db"}
    here, place, _, nothing, _ = made()
    there, _, _, handled, both = made()
    here.serve_only("orders")
    there.serve_only("stock")
    here.configure(environ={}, worker__enabled=False, **settings)
    there.configure(environ={}, worker__enabled=True, worker__poll_s=0.05, **settings)
    async with here.lifespan(), there.lifespan(), asyncio.timeout(30):
        await place()
        await both.wait()
    assert sorted(handled) == [("event", 7), ("job", 8)]
    assert nothing == []
