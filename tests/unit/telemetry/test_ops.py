from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.testclient import TestClient

from tenfold._core.clock import ManualClock
from tenfold.errors import ConfigError
from tenfold.telemetry import names
from tenfold.telemetry.health import Checks
from tenfold.telemetry.metrics import Registry
from tenfold.telemetry.ops import OpsApp, Pages, is_loopback, link
from tenfold.telemetry.process import LoopLag

LOCAL = "http://127.0.0.1:8001"


async def mailbox(scope: Any, receive: Any, send: Any) -> None:
    body = f"{scope['root_path']} {scope['path']} {link(scope, '/mailbox/1')}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})


class Ops:
    """An operations listener with a mailbox, and a client on this machine."""

    def __init__(self, token: str = "", host: str = "127.0.0.1", base_url: str = LOCAL) -> None:
        self.clock, self.registry, self.pages = ManualClock(), Registry(), Pages()
        self.checks = Checks(self.clock, registry=self.registry)
        self.pages.add("/mailbox", "Mailbox", "Mails written in development <here>.", mailbox)
        app = OpsApp(self.registry, self.checks, self.pages, token, self.clock, host=host)
        self.client = TestClient(app, base_url=base_url, raise_server_exceptions=True)


async def well() -> str:
    return "The database answers."


async def ill() -> str:
    raise ConnectionError("cannot reach postgres://app:hunter2@db/")


def test_the_index_links_every_page_and_needs_nothing_from_elsewhere() -> None:
    reply = Ops().client.get("/")
    for path in ("/metrics", "/health/live", "/health/ready", "/mailbox"):
        assert f'href="{path}"' in reply.text
    assert "&lt;here&gt;" in reply.text
    assert "http" not in reply.text.replace("http-equiv", "")
    assert "prefers-color-scheme: dark" in reply.text
    assert "default-src 'none'" in reply.headers["content-security-policy"]


def test_metrics_are_served_in_the_format_asked_for() -> None:
    ops = Ops()
    ops.registry.counter("orders_total", "Orders.").inc(2)
    assert "orders_total 2.0" in ops.client.get("/metrics").text
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    assert ops.client.get("/metrics", headers=accept).text.endswith("# EOF\n")


def test_ready_names_each_check_with_its_sentence() -> None:
    ops = Ops()
    ops.checks.add("database", well)
    reply = ops.client.get("/health/ready")
    assert reply.status_code == 200
    assert reply.json()["checks"][0]["sentence"] == "The database answers."


def test_ready_is_503_when_a_check_fails_and_its_sentence_is_redacted() -> None:
    ops = Ops()
    ops.checks.add("database", well)
    ops.checks.add("cache", ill)
    reply = ops.client.get("/health/ready")
    assert reply.status_code == 503
    assert reply.json()["sentence"] == "Not ready, because of: cache."
    assert "hunter2" not in reply.text
    assert ops.client.get("/health/live").status_code == 200


def test_ready_is_503_while_draining() -> None:
    ops = Ops()
    ops.checks.draining = True
    reply = ops.client.get("/health/ready")
    assert reply.status_code == 503
    assert "draining" in reply.json()["sentence"]


def test_checks_are_not_a_way_to_load_the_database() -> None:
    ops, asked = Ops(), 0

    async def count() -> str:
        nonlocal asked
        asked += 1
        return "ok"

    ops.checks.add("database", count)

    async def hammer() -> None:
        await asyncio.gather(*(ops.checks.ready() for _ in range(50)))
        await ops.checks.ready()
        assert asked == 1
        await ops.clock.advance(1.1)
        await ops.checks.ready()
        assert asked == 2

    asyncio.run(hammer())


def test_a_check_that_hangs_fails_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenfold.telemetry.health.CHECK_TIMEOUT_S", 0.01)
    checks = Checks(ManualClock())

    async def hang() -> str:
        await asyncio.Event().wait()
        return ""

    checks.add("database", hang)
    readiness = asyncio.run(checks.ready())
    assert not readiness.ready
    assert "No answer within" in readiness.checks[0].sentence


def test_the_token_is_asked_of_everything_but_health() -> None:
    ops = Ops(token="s3cret-token", base_url="http://ops.internal:9000", host="0.0.0.0")
    for path in ("/", "/metrics", "/mailbox"):
        assert ops.client.get(path).status_code == 401
        assert ops.client.get(path, headers={"authorization": "Bearer wrong"}).status_code == 401
        assert ops.client.get(f"{path}?token=wrong").status_code == 401
        assert ops.client.get(path, headers={"authorization": "Bearer s3cret-token"}).status_code == 200
    assert ops.client.get("/health/ready").status_code == 200


def test_a_token_in_the_query_is_carried_on_by_the_links_and_stored_nowhere() -> None:
    ops = Ops(token="s3cret/token")
    reply = ops.client.get("/?token=s3cret/token")
    assert 'href="/metrics?token=s3cret%2Ftoken"' in reply.text
    assert "set-cookie" not in reply.headers
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert "token=" not in ops.client.get("/", headers={"authorization": "Bearer s3cret/token"}).text


def test_a_page_gets_everything_below_its_path() -> None:
    ops = Ops(token="s3cret")
    assert ops.client.get("/mailbox/7?token=s3cret").text == "/mailbox /mailbox/7 /mailbox/1?token=s3cret"
    assert Ops().client.get("/mailbox").text == "/mailbox /mailbox /mailbox/1"
    assert Ops().client.get("/mailboxes").status_code == 404


def test_without_a_token_a_foreign_name_that_points_here_is_refused() -> None:
    """DNS rebinding: a web page's own name resolves to 127.0.0.1; its Host gives it away."""
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8001"):
        assert Ops(base_url=f"http://{host}").client.get("/metrics").status_code == 403
    for host in ("localhost:8001", "[::1]:8001", "127.0.0.1"):
        assert Ops(base_url=f"http://{host}").client.get("/metrics").status_code == 200


def test_an_open_listener_without_a_token_does_not_start() -> None:
    with pytest.raises(ConfigError, match=r"ops\.token"):
        Ops(host="0.0.0.0")


def test_what_is_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "")))


def test_an_unknown_page_names_the_known_and_a_wrong_method_the_right() -> None:
    reply = Ops().client.get("/metric")
    assert reply.status_code == 404
    assert "/metrics" in reply.text
    wrong = Ops().client.post("/metrics")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD")
    assert Ops().client.head("/metrics").content == b""


def test_it_has_a_life_as_asgi_servers_expect() -> None:
    with Ops().client as client:
        assert client.get("/health/live").json() == {"live": True}


def test_health_is_a_metric() -> None:
    ops = Ops()
    ops.checks.add("database", well)
    ops.checks.add("cache", ill)
    ops.client.get("/health/ready")
    text = ops.client.get("/metrics").text
    assert 'tenfold_health{check="database"} 1.0' in text
    assert 'tenfold_health{check="cache"} 0.0' in text


class OversleepingClock(ManualClock):
    """A loop that was held for 0.06 s each of the first three times it was asked to sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.slept, self.enough = 0, asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        if self.slept == 3:
            self.enough.set()
            await asyncio.Event().wait()
        self.slept += 1
        await self.advance(seconds + 0.06)


def test_loop_lag_is_how_late_a_sleep_ends() -> None:
    async def work() -> Registry:
        registry = Registry()
        clock = OversleepingClock()
        lag = LoopLag(registry, clock)
        await lag.start()
        await clock.enough.wait()
        await lag.stop()
        return registry

    (histogram,) = [f for f in asyncio.run(work()).collect() if f.name == names.LOOP_LAG]
    buckets = {s.labels["le"]: s.value for s in histogram.samples if s.suffix == "_bucket"}
    assert buckets["0.05"] == 0
    assert buckets["0.1"] == 3
