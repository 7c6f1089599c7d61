"""Calls out in tests, and what handlers and jobs see of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from tenfold import App, Service, public
from tenfold.client import HttpClient
from tenfold.errors import DeclarationError, DependencyFailed, NotBound

pytestmark = pytest.mark.anyio


class Charge(msgspec.Struct):
    id: str
    amount: int


shop = Service("shop", auth=public)
db = shop.database(sa.MetaData())
payments = shop.http("payments", "https://pay.example/v1")


@shop.get("/charges/{number}")
async def charge(number: str) -> Charge:
    return await payments.get("/charges/{id}", id=number, type=Charge)


@shop.post("/later")
async def later() -> None:
    async with db.tx() as tx:
        await settle.enqueue(tx, "c9")


@shop.job()
async def settle(number: str) -> None:
    await payments.post("/charges/{id}/settle", id=number, idempotency_key=number)


app = App("shop", [shop])
GOOD = {"id": "c1", "amount": 5}


async def test_a_call_of_a_handler_is_answered_by_the_test_and_recorded() -> None:
    async with app.test() as t:
        other = t.fake(payments)
        other.answer("GET", "/charges/{id}", json=GOOD)
        answer = await t.client.get(
            "/charges/c1", headers={"tenfold-timeout-ms": "5000", "tenfold-priority": "sheddable"}
        )
        assert answer.json() == GOOD
        [sent] = other.sent
        assert (sent.method, sent.path, sent.url) == (
            "GET",
            "/charges/c1",
            "https://pay.example/v1/charges/c1",
        )
        assert int(sent.headers["tenfold-timeout-ms"]) <= 5000
        assert "traceparent" in sent.headers


async def test_what_was_said_last_comes_first_for_as_often_as_it_was_said() -> None:
    async with app.test() as t:
        other = t.fake(payments)
        other.answer("GET", "/charges/{id}", json=GOOD)
        other.fail("GET", "/charges/{id}", "broken", times=2)
        assert (await t.client.get("/charges/c1")).status == 200
        assert len(other.sent) == 3


@pytest.mark.parametrize(("how", "status"), [("unreachable", 503), ("broken", 503), ("silent", 504)])
async def test_what_goes_wrong_there_is_told_to_the_client_in_its_own_words(how: Any, status: int) -> None:
    async with app.test() as t:
        t.fake(payments).fail("GET", "/charges/{id}", how)
        answer = await t.client.get("/charges/c1")
        assert answer.status == status
        assert "pay.example" not in answer.text


async def test_a_call_that_the_test_did_not_foresee_fails_it() -> None:
    async with app.test() as t:
        with pytest.raises(
            AssertionError, match=r"payments was about to call GET https://pay\.example/v1/charges/c1"
        ):
            await t.client.get("/charges/c1")
        other = t.fake(payments)
        other.answer("GET", "/else", json={})
        with pytest.raises(
            AssertionError, match=r"GET /charges/c1, and the test has no answer.*It has GET /else"
        ):
            await t.client.get("/charges/c1")


async def test_a_job_calls_as_well() -> None:
    async with app.test() as t:
        other = t.fake(payments)
        other.answer("POST", "/charges/{id}/settle", status=204)
        (await t.client.post("/later")).expect(204)
        assert [(sent.path, sent.headers["idempotency-key"]) for sent in other.sent] == [
            ("/charges/c9/settle", "c9")
        ]


async def test_whoever_is_called_by_one_who_tries_again_does_not() -> None:
    async with app.test() as t:
        other = t.fake(payments)
        other.answer("GET", "/charges/{id}", status=503)
        assert (await t.client.get("/charges/c1")).status == 503
        assert len(other.sent) == 3
        assert (await t.client.get("/charges/c1", headers={"tenfold-retries": "caller"})).status == 503
        assert len(other.sent) == 4


async def test_breakers_and_budgets_are_as_new_in_the_next_test() -> None:
    async with app.test() as t:
        t.fake(payments).fail("GET", "/charges/{id}", "unreachable")
        for _ in range(12):
            await t.client.get("/charges/c1")
        assert payments.view()["hosts"]["pay.example"]["breaker"] == "open"
        refused = await t.client.get("/charges/c1")
        assert (refused.status, refused.json()["limit"], refused.json()["retry_after_s"]) == (
            503,
            "circuit breaker",
            1,
        )
        assert refused.headers["retry-after"] == "1"
        numbers = {f.name: f for f in app.assembly.telemetry.registry.collect()}
        assert [s.value for s in numbers["tenfold_client_breaker_state"].samples] == [2]
        assert sum(s.value for s in numbers["tenfold_client_refused"].samples) > 0
        await t._forget()
        assert payments.view()["hosts"] == {}


async def test_options_change_while_it_runs() -> None:
    async with app.test() as t:
        t.fake(payments).answer("GET", "/charges/{id}", status=500)
        assert payments.change(attempts=1, concurrency=3).attempts == 1
        assert payments.options.per_host == 3
        with pytest.raises(DeclarationError, match="concurrency is 0"):
            payments.change(concurrency=0)
        with pytest.raises(TypeError, match="atempts"):
            payments.change(atempts=1)
        with pytest.raises(DependencyFailed) as failed:
            await payments.get("/charges/{id}", id=1, type=Charge)
        assert failed.value.answer.status == 500


async def test_a_span_is_recorded_for_each_try_when_the_trace_is_sampled() -> None:
    async with app.test(trace__ratio=1.0) as t:
        other = t.fake(payments)
        other.answer("GET", "/charges/{id}", json=GOOD)
        other.fail("GET", "/charges/{id}", "broken", times=1)
        await t.client.get("/charges/c1")
        spans = [span for span in app.assembly.telemetry.tracer.recent if span.name == "http.client"]
        assert [bool(span.error) for span in spans] == [True, False]
        assert spans[1].attributes["http.response.status_code"] == 200
        assert spans[1].span_id in other.sent[1].headers["traceparent"]


def test_a_client_needs_a_name_and_an_app_that_runs() -> None:
    with pytest.raises(DeclarationError, match="not a name of a client"):
        HttpClient("shop", "Pay Ments", "https://pay.example")
    with pytest.raises(DeclarationError, match="header"):
        HttpClient("shop", "pay", "https://pay.example", headers={"a b": "c"})
    with pytest.raises(NotBound, match="start the app"):
        HttpClient("shop", "pay", "https://pay.example").view()


def test_two_clients_cannot_share_a_name() -> None:
    one, two = Service("one"), Service("two")
    one.http("pay", "https://pay.example")
    two.http("pay", "https://pay.example")
    with pytest.raises(DeclarationError, match="more than one client named 'pay'"):
        App("x", [one, two])
