"""Calls out over real sockets: what is sent, what comes back, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib
from typing import Any

import msgspec
import pytest

from support.callee import Callee, Got, calling, never, ok, reply, running
from support.proxy import Proxy
from support.smtp import self_signed
from tenfold import App, Service
from tenfold._core.context import Context, use
from tenfold.client import Answer, HttpClient
from tenfold.errors import (
    AddressRefused,
    BadAnswer,
    CallError,
    ConfigError,
    DeadlineExceeded,
    DependencyFailed,
    DependencyTimeout,
    DependencyUnavailable,
)

pytestmark = pytest.mark.anyio


class Charge(msgspec.Struct):
    id: str
    amount: int


def script(*answers: bytes) -> Any:
    """Each answer once, the last again and again."""
    left = list(answers)

    async def handle(_: Got) -> bytes:
        return left.pop(0) if len(left) > 1 else left[0]

    return handle


# ── there and back ──


async def test_a_typed_call_and_its_body_arrive_as_they_are() -> None:
    async with Callee(script(reply({"id": "c1", "amount": 5}))).running() as callee:
        async with calling(callee.url + "/v1", headers={"X-Plan": "gold"}) as client:
            made = await client.post(
                "/charges/{shop}", shop="a/b", query={"dry": True}, json=Charge("x", 5), type=Charge
            )
            again = await client.get("/charges/{id}", id="c1")
        assert made == Charge("c1", 5)
        assert isinstance(again, Answer)
        assert (again.status, again.json(Charge)) == (200, made)
        post, get = callee.got
        assert (post.method, post.target) == ("POST", "/v1/charges/a%2Fb?dry=true")
        assert (post.headers["content-type"], post.body) == ("application/json", b'{"id":"x","amount":5}')
        assert post.headers["host"] == f"127.0.0.1:{callee.port}"
        assert post.headers["x-plan"] == get.headers["x-plan"] == "gold"
        assert "content-length" not in get.headers
        assert callee.connections == 1


async def test_a_token_goes_to_the_base_and_comes_from_settings() -> None:
    service = Service("caller")
    client = service.http("other", "https://elsewhere.example")
    async with Callee().running() as callee:
        said = {"allow": ["127.0.0.1"], "url": callee.url, "token": "secret-token"}
        async with running(App("test", [service]), other=said):
            await client.get("/")
        assert callee.got[0].headers["authorization"] == "Bearer secret-token"


async def test_what_is_not_a_success_is_an_error_for_who_asked_for_a_type_and_an_answer_for_others() -> None:
    async with (
        Callee(script(reply({"why": "no such charge"}, 404))).running() as callee,
        calling(callee.url) as client,
    ):
        with pytest.raises(
            DependencyFailed, match=r"other: GET /charges/\{id\} answered 404: .*no such charge"
        ) as failed:
            await client.get("/charges/{id}", id=1, type=Charge)
        assert (failed.value.code, failed.value.dependency) == (404, "other")
        assert (await client.get("/charges/{id}", id=1)).status == 404


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"id":"a","amount":"5"}', r"that is not a Charge. At amount: Expected int, got str"),
        (b'{"id":"a"}', "missing required field amount"),
        (b"<html>", "malformed"),
        (b"", "not a Charge"),
        (b"[" * 100_000, "not a Charge"),
        (b'{"id":"\xff","amount":5}', "not a Charge"),
    ],
)
async def test_a_body_that_does_not_fit_is_a_sentence_with_its_place(body: bytes, said: str) -> None:
    async with Callee(script(reply(body))).running() as callee, calling(callee.url) as client:
        with pytest.raises(BadAnswer, match=said):
            await client.get("/", type=Charge)


@pytest.mark.parametrize("wrong", [{"headers": {"X": "a\r\nY: b"}}, {"headers": {"Host": "x"}}, {"json": object()}, {"json": 1, "content": b"x"}])  # fmt: skip
async def test_what_cannot_be_sent_is_a_sentence_and_nothing_is_sent(wrong: dict[str, Any]) -> None:
    async with Callee().running() as callee, calling(callee.url) as client:
        with pytest.raises(ValueError, match="other: POST /"):
            await client.post("/", **wrong)
        assert callee.got == []


# ── bounds ──


@pytest.mark.parametrize(
    "packed",
    [gzip.compress(b"x" * 1000, mtime=0), zlib.compress(b"x" * 1000), zlib.compress(b"x" * 1000)[2:-4]],
)
async def test_packed_bodies_are_unpacked(packed: bytes) -> None:
    kind = "gzip" if packed[:2] == b"\x1f\x8b" else "deflate"
    async with (
        Callee(script(reply(packed, content_encoding=kind))).running() as callee,
        calling(callee.url) as client,
    ):
        assert (await client.get("/")).content == b"x" * 1000
        assert callee.got[0].headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reply(b"x" * 100_001), "larger than 100,000 bytes"),
        (
            reply(gzip.compress(bytes(50_000_000), mtime=0), content_encoding="gzip"),
            "larger than 100,000 bytes",
        ),
        (reply(gzip.compress(b"x", mtime=0)[:-4], content_encoding="gzip"), "ends in the middle"),
        (reply(b"no gzip", content_encoding="gzip"), "is not what gzip makes"),
        (reply(gzip.compress(b"x", mtime=0) + b"more", content_encoding="gzip"), "goes on after the end"),
        (reply(b"x", content_encoding="br"), "which was not asked for"),
        (reply(b"x", content_encoding="gzip, gzip"), "which was not asked for"),
    ],
)
async def test_bodies_that_are_too_large_or_packed_wrongly_are_refused(answer: bytes, said: str) -> None:
    broken_then_well = Callee(script(answer, reply()))
    async with broken_then_well.running() as callee, calling(callee.url, answer_max_bytes=100_000) as client:
        with pytest.raises(BadAnswer, match=said):
            await client.get("/")
        assert (await client.get("/")).status == 200
        assert client.view()["in_flight"] == 0


async def test_a_download_comes_in_pieces_up_to_its_own_bound() -> None:
    packed = gzip.compress(bytes(3_000_000))
    large = Callee(script(reply(packed, content_encoding="gzip")))
    bounds = {"answer_max_bytes": 1000, "download_max_bytes": 3_000_000}
    async with large.running() as callee, calling(callee.url, **bounds) as client:
        async with client.stream("GET", "/file") as answer:
            sizes = [len(piece) async for piece in answer]
        assert (sum(sizes), max(sizes)) == (3_000_000, 65_536)
        client.change(download_max_bytes=2_999_999)
        with pytest.raises(BadAnswer, match="2,999,999 bytes"):
            async with client.stream("GET", "/file") as answer:
                async for _ in answer:
                    pass
        async with client.stream("GET", "/file") as answer:  # left unread
            assert client.view()["in_flight"] == 1
        assert client.view()["in_flight"] == 0


# ── faults on the way ──


async def test_a_blackhole_costs_no_more_than_the_time_out_or_the_deadline() -> None:
    async with Callee(never).running() as callee, calling(callee.url, timeout_s=0.1, attempts=1) as client:
        with pytest.raises(DependencyTimeout, match=r"within 0.1 s|sent nothing"):
            await client.get("/")
        now = asyncio.get_running_loop().time
        client.change(timeout_s=30.0)
        begun = now()
        soon = Context(deadline=client._bound.clock.monotonic() + 0.1)
        with use(soon), pytest.raises(DependencyTimeout):
            await client.get("/")
        assert now() - begun < 10
        assert int(callee.got[-1].headers["tenfold-timeout-ms"]) <= 100


async def test_after_the_deadline_no_call_is_made() -> None:
    async with Callee().running() as callee, calling(callee.url) as client:
        with (
            use(Context(deadline=client._bound.clock.monotonic() - 1)),
            pytest.raises(DeadlineExceeded, match="not made"),
        ):
            await client.get("/")
        assert callee.got == []


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_who_breaks_off_is_asked_again_only_where_that_is_harmless(method: str) -> None:
    async with (
        Callee(script(b"", reply())).running() as callee,
        calling(callee.url, retry_base_s=0) as client,
    ):
        if method == "POST":
            with pytest.raises(DependencyUnavailable, match="broke the connection off"):
                await client.post("/", json=1)
            await client.post("/", json=1)  # the script goes on
            callee.handle = script(b"", reply())
            assert (await client.post("/", json=1, idempotency_key="k1")).status == 200
            assert [got.headers.get("idempotency-key") for got in callee.got] == [None, None, "k1", "k1"]
        else:
            assert (await client.get("/")).status == 200
            assert len(callee.got) == 2


async def test_an_answer_that_is_cut_off_is_asked_for_again() -> None:
    async with Callee(script(reply(b"x" * 50_000))).running() as callee:
        with Proxy(callee.port) as proxy:
            async with calling(f"http://{proxy.address}", retry_base_s=0) as client:
                proxy.cut_after(10_000)
                assert len((await client.get("/")).content) == 50_000
                assert len(callee.got) == 2
                proxy.cut_after(10_000)
                with pytest.raises(DependencyUnavailable, match="broke the connection off"):
                    await client.post("/")


async def test_who_refuses_is_tried_again_even_with_a_post_since_nothing_was_sent() -> None:
    async with Callee().running() as callee:
        with Proxy(callee.port) as proxy:
            async with calling(f"http://{proxy.address}", retry_base_s=0) as client:
                with (
                    proxy.refusing(),
                    pytest.raises(DependencyUnavailable, match="could not be connected to"),
                ):
                    await client.post("/")
                assert client.view()["retry_budget"] == 0.1  # two second tries were paid for
                assert (await client.post("/")).status == 200


async def test_a_reset_of_an_idle_connection_does_not_break_the_next_call() -> None:
    async with Callee().running() as callee:
        with Proxy(callee.port) as proxy:
            async with calling(f"http://{proxy.address}", retry_base_s=0) as client:
                await client.get("/")
                proxy.reset()
                assert (await client.get("/")).status == 200


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 300_000 + b"\r\n\r\n",
        b"HTTP/1.1 999999 X\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_sentence(answer: bytes) -> None:
    async with Callee(script(answer)).running() as callee, calling(callee.url, attempts=1) as client:
        with pytest.raises(DependencyUnavailable, match="broke the connection off"):
            await client.get("/")


async def test_retry_after_is_honoured_and_told_on() -> None:
    busy = reply({}, 503, retry_after="7")
    async with Callee(script(busy)).running() as callee, calling(callee.url, timeout_s=2) as client:
        with pytest.raises(DependencyUnavailable) as refused:
            await client.get("/", type=Charge)
        assert (refused.value.reason, refused.value.retry_after_s, len(callee.got)) == ("status", 7, 1)


async def test_whoever_is_called_by_one_who_tries_again_does_not() -> None:
    async with (
        Callee(script(reply({}, 503))).running() as callee,
        calling(callee.url, retry_base_s=0) as client,
    ):
        with use(Context(retried=True)):
            assert (await client.get("/")).status == 503
        assert len(callee.got) == 1
        assert callee.got[0].headers["tenfold-retries"] == "caller"


# ── redirects and addresses ──


async def test_redirects_are_not_followed_unless_said_and_a_token_does_not_go_along() -> None:
    async with Callee().running() as target, Callee().running() as callee:
        callee.handle = script(reply(b"", 302, location=f"{target.url}/there"))
        async with calling(callee.url, headers={"X-Key": "k"}) as client:
            assert (await client.get("/")).status == 302
            assert target.got == []
            client.change(redirects_max=2)
            assert (await client.get("/", headers={"Authorization": "Bearer x"})).json() == {"ok": True}
            assert (await client.post("/")).status == 302
        [got] = target.got
        assert got.target == "/there"
        assert not {"x-key", "authorization"} & got.headers.keys()


async def test_a_redirect_to_where_calls_may_not_go_is_refused() -> None:
    async with Callee().running() as callee, calling(callee.url, redirects_max=3) as client:
        for location in (
            "http://127.0.0.2/",
            "http://169.254.169.254/latest",
            "http://localhost.:1/",
            "gopher://x/",
        ):
            callee.handle = script(reply(b"", 302, location=location))
            with pytest.raises((AddressRefused, DependencyUnavailable)):
                await client.get("/")
        callee.handle = script(reply(b"", 302, location="/again"))
        with pytest.raises(BadAnswer, match="more than 3 times"):
            await client.get("/")


async def test_this_machine_is_called_only_when_settings_allow_it() -> None:
    async with Callee().running() as callee, calling("", allow=["192.0.2.0/24"]) as client:
        for host in (
            "127.0.0.1",
            "localhost",
            "127.1",
            "2130706433",
            "0x7f000001",
            "[::ffff:127.0.0.1]",
            "0",
        ):
            with pytest.raises(AddressRefused, match=r"public|host"):
                await client.get(f"http://{host}:{callee.port}/")
        assert callee.connections == 0


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9", "http://localhost:9", "https://10.0.0.1/v1", "ftp://x", "https://a/?b=1"]
)
async def test_a_url_that_could_not_be_called_is_found_at_start(url: str) -> None:
    service = Service("caller")
    service.http("other", url)
    with pytest.raises(ConfigError, match=r"clients\.other\.url"):
        async with running(App("test", [service])):
            pass


async def test_settings_of_a_client_that_there_is_not_are_refused() -> None:
    service = Service("caller")
    service.http("payments", "https://a.example")
    with pytest.raises(ConfigError, match=r"no client 'paiments'.*payments"):
        async with running(App("test", [service]), paiments={"timeout_s": 1}):
            pass


async def test_certificates_are_verified_against_the_name(tmp_path: Any) -> None:
    import ssl

    for name, good in (("localhost", True), ("other.example", False)):
        certificate, key = self_signed(name)
        (tmp_path / "c.pem").write_bytes(certificate)
        (tmp_path / "k.pem").write_bytes(key)
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
        service = Service("caller")
        client = service.http("other", "https://localhost:1", attempts=1)
        async with Callee().running(ssl=server) as callee:
            said = {"allow": ["127.0.0.1", "::1"], "url": f"https://localhost:{callee.port}", "ca_file": str(tmp_path / "c.pem")}  # fmt: skip
            async with running(App("test", [service]), other=said):
                if good:
                    assert (await client.get("/")).status == 200
                else:
                    with pytest.raises(DependencyUnavailable, match=r"certificate|CERTIFICATE"):
                        await client.get("/")


# ── bulkhead, breaker, hedges ──


async def test_no_more_calls_are_under_way_than_said_and_the_rest_is_refused_at_once() -> None:
    async with (
        Callee(never).running() as callee,
        calling(callee.url, concurrency=3, waiting_max=2, wait_s=0.05, timeout_s=0.3, attempts=1) as client,
    ):
        results = await asyncio.gather(*(client.get("/") for _ in range(20)), return_exceptions=True)
        reasons = [getattr(error, "reason", "timeout") for error in results]
        assert (reasons.count("places"), reasons.count("timeout")) == (17, 3)
        assert callee.open_most == 3
        assert client.view()["in_flight"] == 0


async def test_a_breaker_opens_on_calls_that_never_end_and_closes_after_three_answers() -> None:
    async with Callee(never).running() as callee:
        options = {"timeout_s": 0.2, "attempts": 1, "breaker_open_max_s": 1.0, "hedge_share": 0.0}
        async with calling(callee.url, **options) as client:
            await asyncio.gather(*(client.get("/") for _ in range(12)), return_exceptions=True)
            with pytest.raises(DependencyUnavailable, match="circuit breaker") as refused:
                await client.get("/")
            assert (refused.value.reason, len(callee.got)) == ("breaker", 12)
            callee.handle = ok
            answers = 0
            while answers < 4:
                try:
                    answers += (await client.get("/")).ok
                except DependencyUnavailable:
                    await asyncio.sleep(0.02)
            assert client.view()["hosts"][f"127.0.0.1:{callee.port}"]["breaker"] == "closed"


async def test_people_can_hold_a_breaker_open() -> None:
    async with Callee().running() as callee, calling(callee.url) as client:
        client.force(f"127.0.0.1:{callee.port}", "open")
        with pytest.raises(DependencyUnavailable, match="circuit breaker"):
            await client.get("/")
        client.force(f"127.0.0.1:{callee.port}", None)
        assert (await client.get("/")).ok


async def test_a_slow_read_is_sent_once_more_and_the_first_answer_counts() -> None:
    async with Callee().running() as callee, calling(callee.url, hedge_share=0.5) as client:
        for _ in range(30):
            await client.get("/")
        callee.handle = _first_hangs()
        callee.got.clear()
        assert (await client.get("/", timeout_s=5.0)).ok
        assert len(callee.got) == 2
        view = client.view()
        assert (view["in_flight"], view["hosts"][f"127.0.0.1:{callee.port}"]["breaker"]) == (0, "closed")
        callee.handle, before = never, len(callee.got)
        with pytest.raises(DependencyTimeout):
            await client.post("/", timeout_s=0.1)
        assert len(callee.got) == before + 1


async def test_hedges_are_no_more_than_their_share() -> None:
    """Six of 200 reads are slow, and one in a hundred may be sent twice."""
    number = 0

    async def handle(_: Got) -> bytes:
        nonlocal number
        number += 1
        if number % 33 == 32:
            await asyncio.sleep(0.3)  # so long that a hedge comes before its answer on a busy machine too
        return reply({"ok": True})

    async with Callee(handle).running() as callee, calling(callee.url, hedge_share=0.01) as client:
        for _ in range(200):
            assert (await client.get("/")).ok
        assert 201 <= len(callee.got) <= 202
        assert 1 <= client._bound.hedges.spent <= 2


def _first_hangs() -> Any:
    seen: list[Got] = []

    async def handle(got: Got) -> bytes:
        seen.append(got)
        return await never(got) if len(seen) == 1 else reply({"ok": True})

    return handle


async def test_whatever_is_cancelled_no_place_or_connection_is_lost_and_nobody_gets_anothers_answer() -> None:
    """N = 400 calls, a third of them cancelled at a moment drawn by lot."""
    dice = random.Random(24)

    async def echo(got: Got) -> bytes:
        await asyncio.sleep(dice.random() * 0.01)
        return reply(got.target.encode())

    patient = {"concurrency": 8, "waiting_max": 1000, "wait_s": 30.0, "timeout_s": 30.0}
    async with Callee(echo).running() as callee, calling(callee.url, **patient) as client:

        async def one(number: int) -> None:
            await _check_echo(client, number)

        tasks = [asyncio.create_task(one(number)) for number in range(400)]
        for task in dice.sample(tasks, 130):
            await asyncio.sleep(0.001)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [task.exception() for task in tasks if not task.cancelled() and task.exception()] == []
        assert (client.view()["in_flight"], client.view()["waiting"]) == (0, 0)
        await asyncio.gather(*(one(number) for number in range(8)))
        assert callee.open_now <= 8


async def _check_echo(client: HttpClient, number: int) -> None:
    assert (await client.get("/{number}", number=number)).text == f"/{number}"


async def test_errors_are_all_of_one_family() -> None:
    for kind in (AddressRefused, BadAnswer, DependencyFailed, DependencyTimeout, DependencyUnavailable):
        assert issubclass(kind, CallError)
