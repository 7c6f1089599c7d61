"""Aggregates: decided on the newest state, appended once, loaded as of any moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from support.ledger import Balance, Draw, Drawn, Ledger, Overdrawn, Paid, Pay
from tenfold.db.plan import PlanCache
from tenfold.errors import (
    DeclarationError,
    NotBound,
    NotFound,
    UndecodableEvent,
    VersionConflict,
    WrongArguments,
)
from tenfold.eventstore import ANY, NONE, Event
from tenfold.eventstore.record import Loaded
from tenfold.eventstore.tables import event as event_table
from tenfold.eventstore.tables import snapshot as snapshot_table
from tenfold.testing import TestApp

pytestmark = pytest.mark.anyio


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
async def started(ledger: Ledger) -> AsyncIterator[TestApp]:
    async with TestApp(ledger.app()) as t:
        yield t


async def test_a_command_is_decided_on_what_the_events_have_made(ledger: Ledger, started: TestApp) -> None:
    await ledger.pay("a", 5, 7)
    async with ledger.db.tx() as tx:
        after = await ledger.account.handle(tx, "a", Draw(12))
    assert (after.version, after.state, after.events) == (3, Balance(0, 3), (Drawn(12),))
    async with ledger.db.tx() as tx:
        with pytest.raises(Overdrawn, match="0 are left"):
            await ledger.account.handle(tx, "a", Draw(1))
    assert (await ledger.account.load(ledger.db.read(), "a")).state == Balance(0, 3)


async def test_many_are_handled_in_as_many_statements_as_one(ledger: Ledger, started: TestApp) -> None:
    accounts = [f"a{n}" for n in range(20)]
    statements: list[Any] = []

    def counted(statement: Any, params: Any) -> Any:
        statements.append(statement)
        return PlanCache.bind(ledger.db.backend.plans, statement, params)

    async with ledger.db.tx() as tx:
        tx._bind = counted
        done = await ledger.account.handle_many(tx, {account: Pay(1) for account in accounts})
    assert [loaded.version for loaded in done.values()] == [1] * 20
    assert len(statements) == 2, "one reads, one appends"


async def statements_of(ledger: Ledger, command: Pay | Draw) -> tuple[int, Any]:
    """How many a command of account ``a`` takes, and what it led to."""
    ran: list[Any] = []

    def counted(statement: Any, params: Any) -> Any:
        ran.append(statement)
        return PlanCache.bind(ledger.db.backend.plans, statement, params)

    async with ledger.db.tx() as tx:
        tx._bind = counted
        done = await ledger.account.handle(tx, "a", command)
    return len(ran), done


async def test_a_state_in_memory_is_decided_on_without_reading(ledger: Ledger, started: TestApp) -> None:
    await ledger.pay("a", 5)
    assert await statements_of(ledger, Draw(2)) == (1, Loaded("a", 2, Balance(3, 2), (Drawn(2),)))


async def test_what_others_have_appended_is_seen_by_the_append(ledger: Ledger, started: TestApp) -> None:
    """The state in memory is an older one: it is read, and decided anew."""
    await ledger.pay("a", 5)
    old = ledger.account._states.get("a")
    assert old is not None
    for command, after in ((Pay(2), Balance(107, 3)), (Draw(50), Balance(57, 4))):
        if isinstance(command, Pay):
            await ledger.pay("a", 100)
        ledger.account._states.drop("a")
        ledger.account._states.put("a", old)
        ran, done = await statements_of(ledger, command)
        assert done.state == after
        assert ran == (3 if isinstance(command, Pay) else 2), "of 5, 50 cannot be drawn: nothing is tried"


async def test_a_stream_that_was_another_one_is_not_appended_to(ledger: Ledger, started: TestApp) -> None:
    """As after a backup was restored: the version is the same, the last event is not."""
    await ledger.pay("a", 5)
    async with ledger.db.tx() as tx:
        await tx.execute(sa.update(event_table).values(data='{"version":1,"data":{"amount":1}}'))
    async with ledger.db.tx() as tx:
        assert (await ledger.account.handle(tx, "a", Pay(1))).state == Balance(2, 2)
    async with ledger.db.tx() as tx:
        with pytest.raises(Overdrawn, match="2 are left"):
            await ledger.account.handle(tx, "a", Draw(6))


async def test_what_is_rolled_back_is_not_remembered(ledger: Ledger, started: TestApp) -> None:
    await ledger.pay("a", 5)
    with pytest.raises(ZeroDivisionError):
        async with ledger.db.tx() as tx:
            await ledger.account.handle(tx, "a", Pay(100))
            assert (await ledger.account.load(tx, "a")).state.amount == 105
            raise ZeroDivisionError
    assert (await ledger.account.load(ledger.db.read(), "a")).state == Balance(5, 1)


async def test_a_savepoint_that_is_undone_takes_its_events_along(ledger: Ledger, started: TestApp) -> None:
    async with ledger.db.tx() as tx:
        await ledger.account.handle(tx, "a", Pay(1))
        with pytest.raises(ZeroDivisionError):
            async with tx.savepoint():
                await ledger.account.handle(tx, "a", Pay(100))
                raise ZeroDivisionError
        after = await ledger.account.handle(tx, "a", Pay(2))
    assert after.state == Balance(3, 2)


async def test_append_raises_a_conflict_that_names_what_was_expected(
    ledger: Ledger, started: TestApp
) -> None:
    await ledger.pay("a", 1, 2)
    async with ledger.db.tx() as tx:
        with pytest.raises(VersionConflict, match="'a' was expected at version 0 and is at 2") as caught:
            await ledger.account.append(tx, "a", [Paid(1)], expected=NONE)
        assert (caught.value.stream, caught.value.expected, caught.value.actual) == ("a", 0, 2)
        assert caught.value.status == 409
        assert await ledger.account.append(tx, "a", [Paid(1)], expected=2) == 3
        assert await ledger.account.append(tx, "a", [Paid(1), Paid(1)], expected=ANY) == 5
        assert await ledger.account.append(tx, "a", []) == 5


async def test_more_events_than_one_statement_takes_are_one_append(ledger: Ledger, started: TestApp) -> None:
    async with ledger.db.tx() as tx:
        assert await ledger.account.append(tx, "a", [Paid(1)] * 4_500, expected=NONE) == 4_500
    assert (await ledger.account.load(ledger.db.read(), "a")).state == Balance(4_500, 4_500)
    found = [
        event.version async for event in ledger.account.history(ledger.db.read(), "a", after=990, until=2_010)
    ]
    assert found == list(range(991, 2_011))


async def test_the_past_can_be_loaded_by_version_and_by_time(ledger: Ledger, started: TestApp) -> None:
    began = started.clock.now()
    for amount in (1, 2, 3):
        await ledger.pay("a", amount)
        await started.advance(3_600)
    reader, account = ledger.db.read(), ledger.account
    assert (await account.load(reader, "a", version=2)).state == Balance(3, 2)
    with pytest.raises(NotFound, match="no version 99: it is at 3"):
        await account.load(reader, "a", version=99)
    at = datetime.fromtimestamp(began, UTC)
    assert (await account.load(reader, "a", at=at + timedelta(minutes=90))).state == Balance(3, 2)
    assert (await account.load(reader, "a", at=at - timedelta(seconds=1))).version == 0
    with pytest.raises(WrongArguments, match="has no timezone"):
        await account.load(reader, "a", at=datetime(2026, 1, 1))


async def test_a_state_in_memory_is_brought_up_to_date(ledger: Ledger, started: TestApp) -> None:
    """Loading again reads the events since, beginning with the last one that is known."""
    await ledger.pay("a", *[1] * 30)
    reader = ledger.db.read()
    rows: list[int] = []
    store: Any = ledger.account._backend()
    read = store.read

    async def counted(*args: Any) -> Any:
        found = await read(*args)
        rows.append(len(found))
        return found

    store.read = counted
    assert (await ledger.account.load(reader, "a")).state.amount == 30
    assert rows == [1]


async def test_a_state_that_could_be_changed_in_place_is_not_kept() -> None:
    class Mutable(msgspec.Struct):
        amounts: list[int] = []

    def add(state: Mutable, event: Paid) -> Mutable:
        state.amounts.append(event.amount)
        return state

    ledger = Ledger(
        state=Mutable, evolve=add, decide=lambda state, command: [Paid(len(state.amounts))], events=[Paid]
    )
    async with TestApp(ledger.app()):
        await ledger.pay("a", 0, 0, 0)
        state: Any = (await ledger.account.load(ledger.db.read(), "a")).state
        assert state.amounts == [0, 1, 2]
        assert len(ledger.account._states) == 0


async def test_snapshots_stand_for_old_events_until_the_state_changes_its_shape() -> None:
    ledger = Ledger(snapshot_every=10)
    async with TestApp(ledger.app()):
        await ledger.pay("a", *[1] * 25)
        kept = await ledger.db.read().all(sa.select(snapshot_table.c.version), int)
        assert kept == [20]
        async with ledger.db.tx() as tx:  # from here on, who reads old events notices
            await tx.execute(sa.update(event_table).where(event_table.c.version <= 20).values(data="{}"))
        ledger.account._states.clear()
        assert (await ledger.account.load(ledger.db.read(), "a")).state == Balance(25, 25)
        ledger.account._codec.fingerprint = "another shape"
        ledger.account._states.clear()
        with pytest.raises(UndecodableEvent, match="'a' at version 1"):
            await ledger.account.load(ledger.db.read(), "a")


async def test_old_versions_and_old_names_of_events_are_read(started: TestApp, ledger: Ledger) -> None:
    class PaidV2(msgspec.Struct, frozen=True):
        amount: int
        currency: str

    def from_v1(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "currency": "GBP"}

    await ledger.pay("a", 5)
    paid = Event(PaidV2, version=2, upcast={1: from_v1}, name="paid", formerly=("Paid",))
    later = Ledger(
        events=[paid, Drawn], evolve=lambda state, event: Balance(event.amount, len(event.currency))
    )
    later.account.bind(started.clock, (), None)
    later.account.database = ledger.db
    assert (await later.account.load(ledger.db.read(), "a")).state == Balance(5, 3)


async def test_an_event_that_the_code_does_not_know_is_said_with_its_place(
    ledger: Ledger, started: TestApp
) -> None:
    await ledger.pay("a", 5)
    async with ledger.db.tx() as tx:
        await tx.execute(sa.update(event_table).values(type="Payed"))
    ledger.account._states.clear()
    with pytest.raises(
        UndecodableEvent, match=r"'a' at version 1 is of the type 'Payed'.*Did you mean 'Paid'"
    ):
        await ledger.account.load(ledger.db.read(), "a")


async def test_metadata_say_who_and_what(ledger: Ledger, started: TestApp) -> None:
    async with ledger.db.tx() as tx:
        await ledger.account.handle(tx, "a", Pay(1), metadata={"reason": "test"})
    [event] = [event async for event in ledger.account.history(ledger.db.read(), "a")]
    assert event.metadata["reason"] == "test"
    assert event.at == datetime.fromtimestamp(started.clock.now(), UTC)
    assert str(event) == "bank.account/a@1 (Paid)"


async def test_events_are_published_in_the_transaction_that_appends_them(ledger: Ledger) -> None:
    big = Ledger()
    topic = big.service.topic("drawn", Drawn)
    texts = big.service.topic("text", str)
    account: Any = big.service.aggregate(
        "second", events=[Paid, Drawn], state=Balance, evolve=lambda s, e: s, decide=lambda s, c: [c],
        publish={Drawn: topic, Paid: (texts, lambda event: f"{event.stream} paid {event.data.amount}")},
    )  # fmt: skip
    async with TestApp(big.app()) as t:
        async with big.db.tx() as tx:
            await account.handle(tx, "a", Drawn(3))
            await account.handle(tx, "b", Paid(4))
        assert [(p.topic, p.event, p.key) for p in t.events] == [
            ("bank.drawn", Drawn(3), "a"), ("bank.text", "b paid 4", "b"),
        ]  # fmt: skip


async def test_an_event_that_does_not_fit_its_type_is_refused(ledger: Ledger, started: TestApp) -> None:
    async with ledger.db.tx() as tx:
        with pytest.raises(WrongArguments, match="amount"):
            await ledger.account.append(tx, "a", [Paid("five")])  # type: ignore[arg-type]
        with pytest.raises(WrongArguments, match=r"Balance is none of its events \(Paid, Drawn\)"):
            await ledger.account.append(tx, "a", [Balance()])
        with pytest.raises(WrongArguments, match="is no id"):
            await ledger.account.append(tx, "x" * 256, [Paid(1)])
    with pytest.raises(WrongArguments, match="takes an open transaction first"):
        await ledger.account.append(ledger.db, "a", [Paid(1)])  # type: ignore[arg-type]


def test_what_cannot_work_is_said_at_declaration() -> None:
    with pytest.raises(DeclarationError, match="two types of events are called 'Paid'"):
        Ledger(events=[Paid, Event(Drawn, name="Paid")])
    with pytest.raises(DeclarationError, match="snapshot_every is 0"):
        Ledger(snapshot_every=0)
    with pytest.raises(DeclarationError, match="it has no types of events"):
        Ledger(events=[])


async def test_an_aggregate_needs_its_app(ledger: Ledger) -> None:
    with pytest.raises(NotBound, match="before its app started"):
        await ledger.account.load(ledger.db, "a")  # type: ignore[arg-type]
