"""The ready-made operations."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from support.webhooks import FakeSender, Placed
from tenfold import Accounts, App, Principal, Service, roles
from tenfold.testing import TestApp
from tenfold.webhooks.contract import Answer
from tenfold.webhooks.delivering import http_sender

pytestmark = pytest.mark.anyio

ADMIN = Principal(id="a", roles=frozenset({"admin"}))


def an_app() -> App:
    service = Service("orders")
    db = service.database(sa.MetaData())
    placed = service.topic("placed", Placed)
    service.webhooks(placed, path="/hooks", auth=roles("admin"))
    return App("shop", [service], auth=Accounts(db))


async def added(t: TestApp) -> str:
    t.login(ADMIN)
    form = {"url": "https://a.example/", "owner": "ann@example.org"}
    answer = (await t.client.post("/hooks", json=form)).expect(201).json()
    assert answer["secret"].startswith("whsec_")
    return str(answer["endpoint"]["id"])


async def test_an_endpoint_is_managed_from_its_addition_to_its_removal() -> None:
    async with an_app().test() as t:
        sender = FakeSender()
        t.override(http_sender, lambda: sender)
        one = f"/hooks/{await added(t)}"
        assert [e["url"] for e in (await t.client.get("/hooks")).json()] == ["https://a.example/"]
        assert "secret" not in (await t.client.get(one)).expect(200).json()
        changed = (await t.client.patch(one, json={"concurrency": 2, "ordered": True})).expect(200).json()
        assert (changed["concurrency"], changed["ordered"], changed["url"]) == (2, True, "https://a.example/")
        assert (await t.client.post(f"{one}/secret")).expect(200).json()["secret"]
        sender.answers["https://a.example/"] = Answer(status=500, body="no")
        assert (await t.client.post(f"{one}/test")).expect(200).json()["status"] == 500
        assert (await t.client.post(f"{one}/disable")).expect(200).json()["state"] == "disabled"
        (await t.client.post(f"{one}/replay", json={"since": 0})).expect(409)
        assert (await t.client.post(f"{one}/enable")).expect(200).json()["state"] == "enabled"
        assert (await t.client.post(f"{one}/replay", json={"since": 0})).expect(200).json() == {
            "deliveries": 0
        }
        assert (await t.client.get(f"{one}/deliveries")).expect(200).json() == []
        (await t.client.delete(one)).expect(204)
        for method, path in (
            ("GET", one),
            ("DELETE", one),
            ("POST", f"{one}/test"),
            ("GET", f"{one}/deliveries"),
        ):
            (await t.client.request(method, path)).expect(404)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"url": "http://127.0.0.1:22/"}, "url"),
        ({"url": "x"}, "url"),
        ({"url": "https://example.org/\x00"}, "url"),
        ({"topics": ["orders.nothing"]}, "topics"),
        ({"topics": []}, "topics"),
        ({"owner": "a@b@c"}, "owner"),
        ({"owner": "a@b.org\r\nBcc: x@y.org"}, "owner"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 10**30}, "concurrency"),
    ],
)
async def test_a_wrong_field_is_named_when_added_and_when_changed(
    change: dict[str, object], path: str
) -> None:
    async with an_app().test() as t:
        id_ = await added(t)
        for method, url, body in (
            ("POST", "/hooks", {"url": "https://a.example/", **change}),
            ("PATCH", f"/hooks/{id_}", change),
        ):
            problem = (await t.client.request(method, url, json=body)).expect(422).json()
            assert [error["path"] for error in problem["errors"]] == [path]


async def test_nobody_else_gets_near() -> None:
    async with an_app().test() as t:
        (await t.client.get("/hooks")).expect(401)
        t.login(Principal(id="c"))
        (await t.client.get("/hooks")).expect(403)
