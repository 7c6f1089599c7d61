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
from tenfold.telemetry.ops import OpsApp, Pages
from tenfold.telemetry.ops_access import Role, Visitor, is_loopback
from tenfold.telemetry.process import LoopLag

LOCAL = "http://127.0.0.1:8001"


async def mailbox(scope: Any, receive: Any, send: Any) -> None:
    body = f"{scope['root_path']} {scope['path']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})


class Ops:
    """An operations listener with a mailbox, and a client on this machine."""

    def __init__(
        self, token: str = "", host: str = "127.0.0.1", base_url: str = LOCAL, read: str = ""
    ) -> None:
        self.clock, self.registry, self.pages = ManualClock(), Registry(), Pages()
        self.checks = Checks(self.clock, registry=self.registry)
        self.pages.add("/mailbox", "Mailbox", "Mails written in development <here>.", mailbox)
        app = self.app = OpsApp(
            self.registry, self.checks, self.pages, token, self.clock, host=host, read_token=read
        )
        self.client = TestClient(app, base_url=base_url, raise_server_exceptions=True)


async def well() -> str:
    return "The database answers."


async def ill() -> str:
    raise ConnectionError("cannot reach postgres://app:hunter2@db/")


def test_without_a_dashboard_the_list_names_every_page() -> None:
    reply = Ops().client.get("/")
    for path in ("/metrics", "/health/live", "/health/ready", "/mailbox"):
        assert f"{path} " in reply.text
    assert "Mails written in development <here>." in reply.text
    assert reply.headers["content-type"].startswith("text/plain")


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


def test_who_has_the_token_for_readers_changes_nothing() -> None:
    ops = Ops(token="s3cret-token", read="readers-token")
    reads = {"authorization": "Bearer readers-token"}
    assert ops.client.get("/metrics", headers=reads).status_code == 200
    assert ops.client.get("/mailbox", headers=reads).status_code == 200
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert ops.client.request(method, "/mailbox", headers=reads).status_code == 403
    assert ops.client.put("/mailbox", headers={"authorization": "Bearer s3cret-token"}).status_code == 200


def test_a_token_for_readers_alone_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match=r"ops\.token"):
        Ops(read="readers-token")


def test_a_sign_in_is_believed_by_every_instance_until_it_ends_or_a_token_changes() -> None:
    ops = Ops(token="s3cret", read="readers")
    given = ops.app.doors.cookie(Visitor("ann", Role.READ), path="", secure=False)
    assert "HttpOnly" in given
    cookie = {"cookie": given.partition(";")[0]}
    assert ops.client.get("/metrics", headers=cookie).status_code == 200
    assert ops.client.put("/mailbox", headers=cookie).status_code == 403
    assert Ops(token="s3cret", read="readers").client.get("/metrics", headers=cookie).status_code == 200
    assert Ops(token="other", read="readers").client.get("/metrics", headers=cookie).status_code == 401
    asyncio.run(ops.clock.advance(12 * 3600 + 1))
    assert ops.client.get("/metrics", headers=cookie).status_code == 401


def test_a_forged_sign_in_is_none() -> None:
    ops = Ops(token="s3cret")
    value = ops.app.doors.cookie(Visitor("ann", Role.OPERATE), path="", secure=False).partition(";")[0]
    mutants = [
        value[:n] + ("A" if value[n] != "A" else "B") + value[n + 1 :] for n in range(11, len(value) - 1)
    ]
    for mutant in [*mutants, "tenfold_ops=", "tenfold_ops=.", "tenfold_ops=e30.e30", "tenfold_ops=\x7f"]:
        visitor = ops.app.doors.visitor({"headers": [(b"cookie", mutant.encode())]})
        assert visitor is None or mutant == value, mutant


def test_a_page_gets_everything_below_its_path() -> None:
    ops = Ops(token="s3cret")
    assert ops.client.get("/mailbox/7?token=s3cret").text == "/mailbox /mailbox/7"
    assert Ops().client.get("/mailbox").text == "/mailbox /mailbox"
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
