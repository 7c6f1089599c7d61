"""What comes in is verified, kept, and handled once."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from tenfold import App, Service, Tx
from tenfold.errors import ConfigError, DeclarationError
from tenfold.testing import TestApp
from tenfold.webhooks import Received, signature
from tenfold.webhooks.providers import Arrived, Provider, Verified, WrongSignature

pytestmark = pytest.mark.anyio

SECRET = "whsec_" + "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0"
OTHER = "whsec_" + "b3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgb3Ro"

metadata = sa.MetaData()
paid_table = sa.Table("paid", metadata, sa.Column("order", sa.String(40), primary_key=True))


class Payment(msgspec.Struct):
    order: str


class Body(msgspec.Struct):
    type: str
    data: Payment


class Keys(msgspec.Struct, frozen=True):
    payment_secret: str = ""


def an_app(**options: Any) -> App:
    service = Service("pay", settings=Keys)
    db = service.database(metadata)

    @service.webhook("/hooks/payments", **{"secret": SECRET, **options})
    async def paid(hook: Received[Body], tx: Tx) -> None:
        await tx.execute(sa.insert(paid_table), order=hook.data.data.order)

    app = App("shop", [service])
    app.extra_db = db  # type: ignore[attr-defined]
    return app


async def orders(t: TestApp) -> list[str]:
    return await t.app.extra_db.read().all(sa.select(paid_table.c.order), str)  # type: ignore[attr-defined]


def signed(
    t: TestApp, order: str, id_: str = "msg_1", *, secret: str = SECRET, at: float | None = None
) -> tuple[bytes, dict[str, str]]:
    body = json.dumps({"type": "payment.succeeded", "data": {"order": order}}).encode()
    seconds = int(t.clock.now() if at is None else at)
    return body, {
        "webhook-id": id_,
        "webhook-timestamp": str(seconds),
        "webhook-signature": signature.sign([secret], id_, seconds, body),
    }


async def post(t: TestApp, body: bytes, headers: dict[str, str], status: int) -> Any:
    return (await t.client.post("/hooks/payments", content=body, headers=headers)).expect(status).json()


async def test_a_signed_webhook_is_accepted_and_handled_once_however_often_it_comes() -> None:
    async with an_app().test() as t:
        assert await post(t, *signed(t, "1"), 202) == {"id": "msg_1"}
        await t.run_jobs()
        for _ in range(3):
            await post(t, *signed(t, "1"), 202)
            await t.run_jobs()
        assert await orders(t) == ["1"]


async def test_duplicates_that_come_before_the_first_is_handled_are_not_even_queued() -> None:
    async with an_app().test(jobs="manual") as t:
        for _ in range(5):
            await post(t, *signed(t, "1"), 202)
        assert await t.run_jobs() == 1
        assert await orders(t) == ["1"]


async def test_the_answer_does_not_wait_for_the_work() -> None:
    async with an_app().test(jobs="manual") as t:
        await post(t, *signed(t, "1"), 202)
        assert await orders(t) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"webhook-signature": "v1,AAAA"}, "does not fit"),
        ({"webhook-signature": ""}, "webhook-signature is missing"),
        ({"webhook-signature": "v1a,AAAA ☺"}, "does not fit"),
        ({"webhook-id": ""}, "webhook-id is missing"),
        ({"webhook-id": "msg.1"}, "webhook-id has characters"),
        ({"webhook-id": "other"}, "does not fit"),
        ({"webhook-timestamp": ""}, "webhook-timestamp is missing"),
        ({"webhook-timestamp": "soon"}, "not a number"),
        ({"webhook-timestamp": "-1"}, "not a number"),
        ({"webhook-timestamp": "1"}, "replayed"),
    ],
)
async def test_what_is_not_rightly_signed_is_refused(change: dict[str, str], said: str) -> None:
    async with an_app().test() as t:
        body, headers = signed(t, "1")
        encoded = {name: value.encode().decode("latin-1") for name, value in (headers | change).items()}
        problem = await post(t, body, encoded, 401)
        assert problem["type"].endswith("wrong-signature")
        assert said in problem["detail"]
        assert await orders(t) == []


async def test_another_body_or_secret_is_refused() -> None:
    async with an_app().test() as t:
        body, headers = signed(t, "1")
        await post(t, body.replace(b"1", b"2"), headers, 401)
        await post(t, *signed(t, "1", secret=OTHER), 401)


async def test_a_time_beyond_the_tolerance_is_refused_either_way() -> None:
    async with an_app().test() as t:
        for apart in (-301, 301):
            problem = await post(t, *signed(t, "1", at=t.clock.now() + apart), 401)
            assert "300 s are tolerated" in problem["detail"]
        await post(t, *signed(t, "1", at=t.clock.now() - 299), 202)


async def test_while_a_secret_is_replaced_both_are_good() -> None:
    async with an_app(secret=[OTHER, SECRET]).test() as t:
        await post(t, *signed(t, "1", "a"), 202)
        await post(t, *signed(t, "2", "b", secret=OTHER), 202)
        await t.run_jobs()
        assert sorted(await orders(t)) == ["1", "2"]


async def test_a_secret_may_come_from_the_services_settings() -> None:
    def from_settings(keys: Keys) -> str:
        return keys.payment_secret

    app = an_app(secret=from_settings)
    async with app.test(services__pay__payment_secret=SECRET) as t:
        await post(t, *signed(t, "1"), 202)


async def test_a_secret_that_the_settings_lack_is_found_at_start() -> None:
    def from_settings(keys: Keys) -> str:
        return keys.payment_secret

    with pytest.raises(ConfigError, match=r"webhook pay\.paid: the secret"):
        async with an_app(secret=from_settings).test():
            pass


async def test_what_does_not_fit_the_type_is_kept_and_not_lost() -> None:
    """The sender is who it says it is: losing it would be worse than a wrong shape."""
    async with an_app().test(raise_errors=False) as t:
        body = b'{"type": "payment.succeeded", "data": {"order": 7}}'
        at = int(t.clock.now())
        headers = {
            "webhook-id": "m",
            "webhook-timestamp": str(at),
            "webhook-signature": signature.sign([SECRET], "m", at, body),
        }
        await post(t, body, headers, 202)
        await t.run_jobs()
        from tenfold.queue.admin import Admin

        queue = t.app.assembly.background.queues.of(t.app.extra_db)  # type: ignore[attr-defined]
        [kept] = await Admin(queue).list()
        assert kept.state == "parked"
        assert "$.data.order" in (kept.error or "")


async def test_what_is_no_json_is_refused_although_it_is_signed() -> None:
    async with an_app().test() as t:
        at = int(t.clock.now())
        for body in (b"", b"{", b'"\xff"', b"[" * 100_000):
            sign = signature.sign([SECRET], "m", at, body)
            headers = {"webhook-id": "m", "webhook-timestamp": str(at), "webhook-signature": sign}
            await post(t, body, headers, 400)


async def test_stripes_signatures_are_understood() -> None:
    async with an_app(provider="stripe", secret="whsec_as_it_is").test() as t:
        body = b'{"id": "evt_1", "type": "charge.succeeded", "data": {"order": "1"}}'
        at = int(t.clock.now())
        digest = hmac.digest(b"whsec_as_it_is", b"%d." % at + body, "sha256").hex()
        good = {"stripe-signature": f"t={at},v1={'0' * 64},v1={digest},v0=old"}
        assert await post(t, body, good, 202) == {"id": "evt_1"}
        await post(t, body, {"stripe-signature": f"t={at - 400},v1={digest}"}, 401)
        await post(t, body, {"stripe-signature": f"t={at + 1},v1={digest}"}, 401)
        await post(t, body, {"stripe-signature": "rubbish"}, 401)
        await post(t, body, {}, 401)


async def test_githubs_signatures_are_understood_and_a_new_id_does_not_make_a_new_delivery() -> None:
    async with an_app(provider="github", secret="It's a Secret to Everybody").test() as t:
        body = b'{"type": "push", "data": {"order": "1"}}'
        digest = hmac.digest(b"It's a Secret to Everybody", body, "sha256").hex()
        for delivery in ("one", "two"):
            headers = {
                "x-hub-signature-256": f"sha256={digest}",
                "x-github-delivery": delivery,
                "x-github-event": "push",
            }
            await post(t, body, headers, 202)
            await t.run_jobs()
        assert await orders(t) == ["1"]
        await post(t, body, {"x-hub-signature-256": f"sha1={digest}"}, 401)
        await post(t, body + b" ", headers, 401)


async def test_githubs_own_test_vector_is_verified() -> None:
    from tenfold.webhooks.providers import GitHub

    wanted = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    arrived = Arrived({"x-hub-signature-256": f"sha256={wanted}"}, b"Hello, World!", 0.0)
    found = GitHub().verify(arrived, ["It's a Secret to Everybody"], 300)
    assert found.id == hashlib.sha256(b"Hello, World!").hexdigest()


async def test_a_sender_of_ones_own_is_a_class_of_one_method() -> None:
    class Token(Provider):
        def verify(self, arrived: Arrived, secrets: Any, tolerance_s: float) -> Verified:
            if arrived.headers.get("x-token") not in secrets:
                raise WrongSignature("The token is wrong.")
            return Verified(arrived.headers["x-id"] * 50, "")

    async with an_app(provider=Token(), secret="t1").test() as t:
        body, _ = signed(t, "1")
        await post(t, body, {"x-token": "t1", "x-id": "long"}, 202)
        await post(t, body, {"x-token": "t1", "x-id": "long"}, 202)
        await post(t, body, {"x-token": "t2", "x-id": "long"}, 401)
        await t.run_jobs()
        assert await orders(t) == ["1"]


async def test_it_is_documented_like_any_operation() -> None:
    async with an_app().test() as t:
        document = t.app.openapi()
        assert {"202", "400", "401"} <= set(document["paths"]["/hooks/payments"]["post"]["responses"])


def test_what_cannot_work_is_said_at_the_declaration() -> None:
    service = Service("s")

    async def hook(body: Body) -> None: ...

    with pytest.raises(ConfigError, match=r"webhook s\.hook: the secret is not"):
        service.webhook("/h", secret="short")(hook)
    with pytest.raises(ConfigError, match="the secret is empty"):
        service.webhook("/h", secret="", provider="github")(hook)
    with pytest.raises(DeclarationError, match="standard, stripe, github"):
        service.webhook("/h", secret=SECRET, provider="paypal")(hook)  # type: ignore[arg-type]


async def test_a_webhook_needs_a_database_and_one_parameter() -> None:
    bare = Service("s")

    @bare.webhook("/h", secret=SECRET)
    async def hook(body: Body) -> None: ...

    with pytest.raises(DeclarationError, match="database"):
        async with App("a", [bare]).test():
            pass
    two = Service("t")
    two.database(sa.MetaData())

    @two.webhook("/h", secret=SECRET)
    async def wants(body: Body, other: Body) -> None: ...

    with pytest.raises(DeclarationError, match="would be the webhook"):
        async with App("a", [two]).test():
            pass
