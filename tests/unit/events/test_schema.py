"""Versions of events: upcasters run when an event is decoded, and what cannot be decoded gets a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
import sqlalchemy as sa
from pydantic import BaseModel

from support.queues import add_effect, rig
from tenfold.db import Tx
from tenfold.errors import DeclarationError, UndecodableEvent, UnknownVersion, WrongArguments
from tenfold.events import EventSchema, Subscription, Topic
from tenfold.events.schema import Refused
from tenfold.queue.tables import message
from tenfold.queue.testing import run_pending


class PlacedV2(msgspec.Struct):
    order_id: int
    currency: str


class Model(BaseModel):
    order_id: int
    currency: str


class Placed(msgspec.Struct):
    order_id: int
    total: str
    currency: str


def from_v1(data: dict[str, Any]) -> dict[str, Any]:
    return {"order_id": data["order"], "currency": "EUR"}


def from_v2(old: PlacedV2) -> Placed:
    return Placed(old.order_id, "0", old.currency)


def schema(version: int = 3, upcast: Any = None) -> EventSchema[Placed]:
    return EventSchema(
        "orders.placed", Placed, version, {1: from_v1, 2: from_v2} if upcast is None else upcast
    )


def test_an_event_travels_with_its_version() -> None:
    placed = Placed(1, "9.50", "EUR")
    payload = schema().encode(placed)
    assert payload == '{"version":3,"data":{"order_id":1,"total":"9.50","currency":"EUR"}}'
    assert schema().decode(payload) == placed


@pytest.mark.parametrize(
    "payload",
    ['{"version":1,"data":{"order":7}}', '{ "data": {"order_id":7, "currency":"EUR"}, "version" : 2 }'],
)
def test_older_versions_become_the_current_one_link_by_link(payload: str) -> None:
    assert schema().decode(payload) == Placed(7, "0", "EUR")


def test_upcasters_may_take_and_return_structs_models_and_dicts_in_any_order() -> None:
    def to_model(data: dict[str, Any]) -> Model:
        return Model(order_id=data["order"], currency="EUR")

    def from_model(old: Model) -> dict[str, Any]:
        return {"order_id": old.order_id, "total": "0", "currency": old.currency}

    assert (
        schema(upcast={1: to_model, 2: from_model}).decode('{"version":1,"data":{"order":7}}').order_id == 7
    )


def test_a_chain_need_not_reach_back_to_the_first_version() -> None:
    short = schema(upcast={2: from_v2})
    assert short.oldest == 2
    with pytest.raises(UnknownVersion, match=r"orders\.placed.*version 1.*no upcaster.*add upcast=\{1: …\}"):
        short.decode('{"version":1,"data":{"order":7}}')


def test_a_version_newer_than_the_code_waits_for_a_deploy() -> None:
    with pytest.raises(UnknownVersion, match=r"orders\.placed.*version 4.*knows up to 3.*deploy"):
        schema().decode('{"version":4,"data":{}}')


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ("nonsense", "no event"),
        ('{"order_id":1}', "no event.*version"),
        ('{"version":"two","data":{}}', "no event.*version"),
        (
            '{"version":3,"data":{"order_id":"x","total":"","currency":""}}',
            r"\$\.order_id.*without raising it",
        ),
        ('{"version":2,"data":{"order_id":1}}', "data of version 2.*currency"),
        ('{"version":1,"data":{}}', r"from version 1 to 2.*from_v1.*KeyError: 'order'"),
    ],
)
def test_what_cannot_be_decoded_says_what_and_where(payload: str, says: str) -> None:
    with pytest.raises(UndecodableEvent, match=says):
        schema().decode(payload)


def test_what_upcasters_make_is_checked_against_the_current_type() -> None:
    def forgetful(data: dict[str, Any]) -> dict[str, Any]:
        return {"order_id": data["order"]}

    with pytest.raises(UndecodableEvent, match=r"total.*upcasters made of version 1"):
        schema(2, {1: forgetful}).decode('{"version":1,"data":{"order":7}}')


def test_what_a_broker_sent_and_the_intake_refused_is_said_with_its_reason() -> None:
    payload = msgspec.json.encode(
        Refused("JSON is malformed: invalid character (byte 0)", "not json")
    ).decode()
    with pytest.raises(
        UndecodableEvent, match=r"the payload is no event: JSON is malformed: invalid character"
    ):
        schema().decode(payload)


@pytest.mark.parametrize("key", [7, UUID(int=7)])
def test_a_key_may_be_a_number_or_a_uuid(key: int | UUID) -> None:
    assert Topic("orders", "placed", Placed).line_of(key) == str(key)


@pytest.mark.parametrize("key", [1.5, ("a",), b"a"])
def test_a_key_of_another_type_is_a_sentence(key: Any) -> None:
    with pytest.raises(WrongArguments, match=r"topic orders\.placed: the key is of type \w+; it is a text"):
        Topic("orders", "placed", Placed).line_of(key)


def test_publishing_a_wrong_event_is_the_callers_error_and_no_undecodable_one() -> None:
    with pytest.raises(WrongArguments) as caught:
        schema().encode(PlacedV2(1, "EUR"))  # type: ignore[arg-type]
    assert not isinstance(caught.value, UndecodableEvent)


async def later(data: Any) -> Any: ...


@pytest.mark.parametrize(
    ("version", "upcast", "says"),
    [
        (0, {}, "count from 1"),
        (2, {2: from_v2}, "leads nowhere"),
        (4, {1: from_v1, 3: from_v2}, "gap.*version 2 to 3"),
        (2, {1: later}, "plain function"),
        (2, {1: lambda: None}, "plain function"),
        (2, {1: "from_v1"}, "plain function"),
    ],
)
def test_wrong_upcasters_are_refused_where_they_are_declared(version: int, upcast: Any, says: str) -> None:
    with pytest.raises(DeclarationError, match=says):
        Topic("orders", "placed", Placed, version=version, upcast=upcast)


# ── in the queue ──


async def handle(event: Placed, tx: Tx) -> None:
    await tx.execute(add_effect, what=f"{event.order_id} {event.currency}")


def shop(**versions: Any) -> tuple[Topic[Placed], Subscription]:
    topic = Topic("orders", "placed", Placed, **versions)
    return topic, Subscription("stock", topic, handle)


def rewritten(payload: str) -> Any:
    """Make the pending message what another version of the code would have published."""
    return sa.update(message).values(payload=payload)


@pytest.mark.anyio
async def test_an_event_that_waited_since_an_older_deploy_is_handled_as_a_current_one(tmp_path: Path) -> None:
    topic, subscription = shop(version=3, upcast={1: from_v1, 2: from_v2})
    async with rig(tmp_path, subscription) as r:
        async with r.db.tx() as tx:
            await topic.publish(tx, Placed(1, "1", "USD"))
        async with r.db.tx() as tx:
            await tx.execute(rewritten('{"version":1,"data":{"order":7}}'))
        await run_pending(r.worker())
        assert await r.did() == ["7 EUR"]


@pytest.mark.anyio
async def test_an_unknown_version_is_parked_until_a_deploy_knows_it_and_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    topic, subscription = shop()
    async with rig(tmp_path, subscription) as r:
        async with r.db.tx() as tx:
            await topic.publish(tx, Placed(1, "1", "USD"), key="a")
        async with r.db.tx() as tx:
            await tx.execute(rewritten('{"version":2,"data":{"order":7}}'))
        async with r.db.tx() as tx:
            await topic.publish(tx, Placed(2, "2", "USD"), key="a")
            await topic.publish(tx, Placed(3, "3", "USD"), key="b")
        await run_pending(r.worker())
        assert await r.did() == ["3 USD"]  # the key of the parked one keeps its order
        assert list((await r.states()).values()).count("parked") == 1
        assert "knows up to 1" in caplog.text

        def back(data: dict[str, Any]) -> Placed:
            return Placed(data["order"], "0", "GBP")

        _, newer = shop(version=3, upcast={1: lambda data: {"order": data["order_id"]}, 2: back})
        worker = r.worker(handlers={newer.name: newer.bind(r.container, r.db)})
        await worker.adopt()
        await run_pending(worker)
        assert await r.did() == ["3 USD", "7 GBP", "2 GBP"]


@pytest.mark.anyio
async def test_an_undecodable_event_is_dead_with_a_sentence_kept_and_holds_up_not_even_its_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    topic, subscription = shop()
    async with rig(tmp_path, subscription) as r:
        async with r.db.tx() as tx:
            await topic.publish(tx, Placed(1, "1", "USD"), key="a")
        async with r.db.tx() as tx:
            await tx.execute(rewritten('{"version":1,"data":{"order":7}}'))
        async with r.db.tx() as tx:
            await topic.publish(tx, Placed(2, "2", "USD"), key="a")
        await run_pending(r.worker())
        assert await r.did() == ["2 USD"]
        (dead,) = [info for info in await r.admin.list(limit=9) if info.state == "dead"]
        assert "order_id" in (dead.error or "")
        assert '{"order":7}' in dead.payload
        assert "order_id" in caplog.text
        await r.admin.retry(dead.id)
        await run_pending(r.worker())
        assert (await r.admin.show(dead.id)).state == "dead"  # nothing has changed, and nothing is lost
