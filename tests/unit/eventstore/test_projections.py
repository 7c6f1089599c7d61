"""Projections: in the transaction that appends, or later and once each; what fails stops nobody else."""

from __future__ import annotations

from typing import Any, cast

import pytest
import sqlalchemy as sa

from support.ledger import Draw, Ledger, Overdrawn, Paid, Pay
from tenfold import Clock, Service, Tx
from tenfold.assembly.eventstores import EventStores
from tenfold.errors import DeclarationError
from tenfold.eventstore import Recorded, progress
from tenfold.eventstore.follower import Follower
from tenfold.eventstore.tables import event as event_table
from tenfold.telemetry.hub import Hub
from tenfold.testing import TestApp

pytestmark = pytest.mark.anyio

EMPTY = '{"version":1,"data":{}}'


def follower(t: TestApp) -> Follower:
    [found] = t.app.assembly.eventstores.running
    return found


async def position(ledger: Ledger, name: str) -> progress.Progress:
    found = await progress.read(ledger.db.read(), name)
    assert found is not None
    return found


async def test_a_synchronous_projection_commits_with_the_events() -> None:
    ledger = Ledger()
    ledger.service.projection(ledger.account, mode="sync", tables=[ledger.table])(ledger.keep)
    async with TestApp(ledger.app()):
        await ledger.pay("a", 5, 6)
        with pytest.raises(Overdrawn):
            async with ledger.db.tx() as tx:
                await ledger.account.handle(tx, "a", Pay(100))
                await ledger.account.handle(tx, "a", Draw(1000))
        assert await ledger.rows() == {"a": (11, 2)}


async def test_an_asynchronous_projection_has_the_effect_of_each_event_once() -> None:
    ledger = Ledger()
    ledger.service.projection(ledger.account, tables=[ledger.table], batch=3)(ledger.keep)
    async with TestApp(ledger.app(), jobs="captured") as t:
        await ledger.pay("a", *range(1, 11))
        assert await ledger.rows() == {}
        assert await t.app.assembly.eventstores.pump() == 10
        assert await t.app.assembly.eventstores.pump() == 0
        assert await ledger.rows() == {"a": (55, 10)}
        assert (await position(ledger, "bank.keep")).position == 10


async def test_tests_run_projections_with_the_jobs() -> None:
    ledger = Ledger()
    ledger.service.projection(ledger.account, tables=[ledger.table])(ledger.keep)
    async with TestApp(ledger.app()) as t:
        await ledger.pay("a", 1)
        await t.run_jobs()
        assert await ledger.rows() == {"a": (1, 1)}


async def test_several_events_are_given_at_once_and_what_is_injected_too() -> None:
    ledger = Ledger()
    given: list[Any] = []

    async def follow(events: list[Recorded[Paid]], clock: Clock, tx: Tx) -> None:
        given.append([(e.position, e.stream, e.version, e.data.amount) for e in events])

    ledger.service.projection(ledger.account, batch=3)(follow)
    async with TestApp(ledger.app()) as t:
        await ledger.pay("a", 1, 2)
        await ledger.pay("b", 3, 4)
        await t.run_jobs()
    assert given == [[(1, "a", 1, 1), (2, "a", 2, 2), (3, "b", 1, 3)], [(4, "b", 2, 4)]]


async def test_a_poison_event_stops_its_projection_and_no_other() -> None:
    ledger = Ledger()
    refused: list[int] = []

    async def picky(event: Recorded[Paid], tx: Tx) -> None:
        if event.data.amount == 13:
            refused.append(event.version)
            raise ValueError("thirteen brings bad luck")
        await ledger.keep(event, tx)

    others: list[int] = []

    async def other(event: Recorded[Paid]) -> None:
        others.append(event.data.amount)

    ledger.service.projection(ledger.account, tables=[ledger.table])(picky)
    ledger.service.subscribe_all()(other)
    async with TestApp(ledger.app(), jobs="captured") as t:
        await ledger.pay("a", 1, 2, 13, 4)
        await t.app.assembly.eventstores.pump()
        assert await ledger.rows() == {"a": (3, 2)}
        assert others == [1, 2, 13, 4]
        at = await position(ledger, "bank.picky")
        assert (at.state, at.position) == ("failed", 2)
        assert at.error == (
            "It stopped before bank.account/a@3 (Paid, position 3): ValueError: thirteen brings bad luck"
        )
        assert len(refused) == 4, "once in the batch, three times alone"
        await t.app.assembly.eventstores.pump()
        assert len(refused) == 4, "it stays stopped"


async def test_a_poison_event_can_be_left_out() -> None:
    ledger = Ledger()

    async def picky(event: Recorded[Paid], tx: Tx) -> None:
        if event.data.amount == 13:
            raise ValueError("thirteen brings bad luck")
        await ledger.keep(event, tx)

    ledger.service.projection(ledger.account, tables=[ledger.table], on_poison="skip")(picky)
    async with TestApp(ledger.app()) as t:
        await ledger.pay("a", 1, 13, 4)
        await t.run_jobs()
        assert await ledger.rows() == {"a": (5, 2)}
        assert follower(t).numbers()["skipped_total"] == 1


async def test_an_event_that_no_longer_decodes_stops_the_projection_with_a_sentence() -> None:
    ledger = Ledger()
    ledger.service.projection(ledger.account, tables=[ledger.table])(ledger.keep)
    async with TestApp(ledger.app(), jobs="captured") as t:
        await ledger.pay("a", 1, 2)
        async with ledger.db.tx() as tx:
            await tx.execute(sa.update(event_table).where(event_table.c.version == 2).values(data=EMPTY))
        await t.app.assembly.eventstores.pump()
        at = await position(ledger, "bank.keep")
        assert (at.state, at.position) == ("failed", 1)
        assert "bank.account/a@2" in str(at.error)
        assert "missing required field" in str(at.error)


async def test_a_paused_projection_rests_and_goes_on_where_it_was() -> None:
    ledger = Ledger()
    ledger.service.projection(ledger.account, tables=[ledger.table])(ledger.keep)
    async with TestApp(ledger.app(), jobs="captured") as t:
        stores = t.app.assembly.eventstores
        await ledger.pay("a", 1)
        await stores.pump()
        async with ledger.db.tx() as tx:
            await progress.set_state(tx, "bank.keep", "paused", 0.0)
        await ledger.pay("a", 2)
        await stores.pump()
        assert await ledger.rows() == {"a": (1, 1)}
        async with ledger.db.tx() as tx:
            await progress.set_state(tx, "bank.keep", "running", 0.0)
        await stores.pump()
        assert await ledger.rows() == {"a": (3, 2)}


async def test_of_two_runners_one_has_the_effect() -> None:
    """A lease saves work; that each event counts once is due to the position's row."""
    ledger = Ledger()
    ledger.service.projection(ledger.account, tables=[ledger.table])(ledger.keep)
    async with TestApp(ledger.app(), jobs="captured") as t:
        first = follower(t)
        second = t.app.assembly.eventstores._follower(first.projection)
        await first.begin()
        await second.begin()
        await ledger.pay("a", 1, 2)
        while await first.turn() | await second.turn():
            pass
        assert await ledger.rows() == {"a": (3, 2)}
        assert first.handled + second.handled == 2


async def test_a_subscription_can_begin_now() -> None:
    ledger = Ledger()
    seen: list[int] = []

    async def follow(event: Recorded[Any]) -> None:
        seen.append(event.data.amount)

    ledger.service.subscribe_all(since="now")(follow)
    async with TestApp(ledger.app(), jobs="captured") as t:
        await ledger.pay("a", 1)
        await follower(t).begin()
        await ledger.pay("a", 2)
        await t.app.assembly.eventstores.pump()
    assert seen == [2]


def test_what_cannot_work_is_said_at_declaration() -> None:
    ledger, nameless = Ledger(), Service("nameless")

    async def fill(event: Recorded[Any]) -> None: ...
    async def wrong(event: Paid, tx: Tx) -> None: ...
    def plain(event: Recorded[Any]) -> None: ...

    with pytest.raises(DeclarationError, match=r"nameless.fill: events are kept in the service's database"):
        nameless.projection(ledger.account)(fill)
    with pytest.raises(DeclarationError, match="it is not an async function"):
        ledger.service.projection(ledger.account)(plain)
    with pytest.raises(DeclarationError, match="its batch is 0"):
        ledger.service.projection(ledger.account, batch=0)(fill)
    elsewhere = Ledger()
    ledger.service.projection(elsewhere.account)(fill)
    with pytest.raises(DeclarationError, match=r"it follows 'bank\.account', whose service is not part"):
        EventStores(ledger.app(), cast("Hub", None))


@pytest.mark.parametrize(
    ("tables", "words"),
    [(True, "it fills tables but takes no Tx"), (False, "its parameter 'event' is a Paid")],
)
async def test_a_function_that_cannot_be_called_is_said_at_the_start(tables: bool, words: str) -> None:
    ledger = Ledger()

    async def fill(event: Recorded[Any]) -> None: ...
    async def wrong(event: Paid, tx: Tx) -> None: ...

    ledger.service.projection(ledger.account, tables=[ledger.table])(fill if tables else wrong)
    with pytest.raises(DeclarationError, match=words):
        async with TestApp(ledger.app()):
            pass
