"""Services found by SRV records of a real name server, and places that speak TLS."""
# Without postponed annotations: operations are local to their making.

import asyncio
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.callee import Callee, Got, reply
from support.certificates import Authority
from support.names import NameServer
from support.split import configured
from tenfold import App, Service, public
from tenfold._core import context as contexts
from tenfold._core.context import Context
from tenfold._core.sections import PeerSettings
from tenfold.errors import ConfigError, DependencyUnavailable
from tenfold.rpc.discovery import FRESH_S, SettledPlaces
from tenfold.testing.clock import TestClock

pytestmark = pytest.mark.anyio


def caller(folder: Path, **settings: Any) -> tuple[App, Any]:
    """An app that calls the service ``stock``, which is elsewhere."""
    stock = Service("stock", auth=public, calls=[])
    orders = Service("orders", auth=public, calls=[stock])

    @stock.internal
    async def who() -> str:
        raise AssertionError("it runs elsewhere")

    app = App("test", [orders, stock])
    app.serve_only("orders")
    return configured(app, folder, **settings), who


def answering(name: str) -> Callee:
    """What stands for an instance of the stock."""

    async def handle(_: Got) -> bytes:
        return reply(msgspec.msgpack.encode(name), Content_Type="application/msgpack")

    return Callee(handle)


def places_of(url: str, clock: TestClock) -> SettledPlaces:
    return SettledPlaces({"stock": PeerSettings(url=url)}, clock)


async def seen(places: SettledPlaces, wanted: Sequence[str]) -> None:
    """Until these are the places; calls meanwhile have the last ones."""
    async with asyncio.timeout(10):
        while sorted(await places.places("stock")) != sorted(wanted):  # noqa: ASYNC110 - it looks when it is asked
            await asyncio.sleep(0.01)


# ── SRV ──


async def test_calls_go_to_the_instances_of_the_best_priority(tmp_path: Path) -> None:
    one, two, spare = answering("one"), answering("two"), answering("spare")
    async with one.running(), two.running(), spare.running():
        records = [(0, one.port, "localhost"), (0, two.port, "localhost"), (10, spare.port, "localhost")]
        async with NameServer(stock_internal=records).running() as server:
            app, who = caller(tmp_path, services__stock__url="srv+http://stock.internal")
            async with app.lifespan():
                with contexts.use(Context(service="orders")):
                    answers = [await who() for _ in range(12)]
            assert set(answers) == {"one", "two"}
            assert server.asked == 1, "one look-up serves all calls of five seconds"


async def test_records_that_change_are_read_again_and_outlive_their_server() -> None:
    clock = TestClock(0.0)
    async with NameServer(stock_internal=[(0, 1, "a"), (0, 2, "b")]).running() as server:
        places = places_of("srv+http://stock.internal", clock)
        await seen(places, ["http://a:1", "http://b:2"])
        server.zone["stock.internal"] = [(0, 3, "c")]
        assert len(await places.places("stock")) == 2, "not before they are five seconds old"
        await clock.advance(FRESH_S)
        await seen(places, ["http://c:3"])

        server.silent = True
        await clock.advance(FRESH_S)
        asked = server.asked
        async with asyncio.timeout(10):
            while server.asked == asked:
                assert await places.places("stock") == ["http://c:3"]
                await asyncio.sleep(0.01)
        assert await places.places("stock") == ["http://c:3"]
        await places.stop()


async def test_a_name_without_records_is_said_in_a_sentence() -> None:
    async with NameServer().running():
        places = places_of("srv+http://mill.internal", TestClock(0.0))
        with pytest.raises(
            DependencyUnavailable, match=r"srv\+http://mill\.internal cannot be looked up: .*exist"
        ):
            await places.places("stock")


# ── TLS ──


async def test_whom_to_trust_is_said_by_a_file(tmp_path: Path) -> None:
    ours, other = (Authority(_made(tmp_path / name), time.time()) for name in ("ours", "other"))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issued = ours.issue("localhost")
    server.load_cert_chain(issued.certificate, issued.key)
    callee = answering("sealed")
    async with callee.running(ssl=server):

        async def ask(host: str, authority: Authority) -> str:
            url, trusted = f"https://{host}:{callee.port}", str(authority.path)
            app, who = caller(tmp_path, services__stock__url=url, services__stock__ca_file=trusted)
            async with app.lifespan():
                with contexts.use(Context(service="orders")):
                    return str(await who())

        assert await ask("localhost", ours) == "sealed"
        with pytest.raises(DependencyUnavailable, match="certificate verify failed"):
            await ask("localhost", other)
        with pytest.raises(DependencyUnavailable, match=r"not valid for '127\.0\.0\.1'"):
            await ask("127.0.0.1", ours)
    assert len(callee.got) == 1, "nothing is sent to whom is not trusted"


async def test_a_file_without_certificates_is_said_at_start(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for name in ("empty.pem", "none.pem"):
        app, _ = caller(
            tmp_path,
            services__stock__url="https://stock.internal",
            services__stock__ca_file=str(tmp_path / name),
        )
        with pytest.raises(ConfigError, match="has no certificates that can be read") as caught:
            await app.start()
        assert caught.value.where == "services.stock.ca_file"


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
