"""Statements that nobody waits for travel with the next one on PostgreSQL: fewer round trips, and the same outcomes."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.ledger import Balance, Ledger, Pay
from support.queues import effects, rig
from tenfold.db import Tx
from tenfold.db.backends import _postgresql_line as line
from tenfold.errors import DatabaseError, SerializationFailure, TransactionMisuse
from tenfold.events.outbox import Outbox
from tenfold.jobs import Job
from tenfold.queue import outcome
from tenfold.queue.contract import USUAL_KEEP
from tenfold.queue.message import Claim, Message

pytestmark = pytest.mark.anyio

ROUNDS = 20
"""The first on a connection prepares statements, and hints to other processes go beside: the least counts."""
add = sa.insert(effects).values(what=sa.bindparam("said"))


class Counting:
    """A transport that counts what is written to it."""

    def __init__(self, transport: Any, counted: Counter[str]) -> None:
        self._transport, self._counted = transport, counted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: Any) -> None:
        self._counted["writes"] += 1
        self._transport.write(data)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often something was written to a server."""
    counted: Counter[str] = Counter()
    real = line.Line.__init__
    monkeypatch.setattr(line.Line, "__init__", lambda self, bare: real(self, Counting(bare, counted)))
    return counted


async def claimed(r: Any, key: str | None) -> list[Message]:
    """Two messages of a key that were put in, the first of them held."""
    async with r.db.tx() as tx:
        r.queue.put_all(tx, [r.queue.message("event", "s.handle", "{}", order_key=key) for _ in range(2)])
    return await head_of(r)


async def head_of(r: Any) -> list[Message]:
    """The first message, held by a worker."""
    async with r.db.tx() as tx:
        found: list[Message] = await r.queue.backend.claim(
            tx, Claim("default", "", 1), "w", r.queue.now(), r.queue.now() + 60
        )
        return found


async def settle(r: Any, tx: Tx, message: Message) -> set[int]:
    """As the transaction of a handler ends."""
    found: set[int] = await r.queue.backend.settle(tx, (outcome.done(message),), r.queue.now(), USUAL_KEEP)
    return found


async def end(r: Any, message: Message, said: str, **options: Any) -> set[int]:
    """A handler's transaction; answers what was lost."""
    lost: set[int] = set()

    async def acknowledge(tx: Tx) -> None:
        lost.update(await settle(r, tx, message))
        if lost:
            raise TransactionMisuse("lost")

    async with r.db.tx(**options) as tx:
        await tx.execute(add, said=said)
        tx.before_commit(acknowledge, may_be_last=True)
    return lost


@pytest.mark.parametrize("key", [None, "a \"key\" \\ of {any} kind, 'quoted'"])
async def test_a_handler_ends_and_its_line_moves_on(
    postgres_url: str, tmp_path: Path, key: str | None
) -> None:
    async with rig(tmp_path, database=postgres_url) as r:
        for _ in range(2):  # the first prepares the statements
            (message,) = await claimed(r, key)
            assert not await end(r, message, "done")
            states = Counter(await r.db.read().all(sa.text("SELECT state FROM tenfold_message"), str))
            assert states == {"ready": 1}
            async with r.db.tx() as tx:
                await tx.execute(sa.text("DELETE FROM tenfold_message"))
        assert await r.did() == ["done", "done"]


@pytest.mark.parametrize("key", [None, "key"])
async def test_two_round_trips_for_effect_and_end(
    postgres_url: str, tmp_path: Path, sent: Counter[str], key: str | None
) -> None:
    async with rig(tmp_path, database=postgres_url) as r:
        counts: list[int] = []
        for n in range(ROUNDS):
            (message,) = await claimed(r, key and f"{key} {n}")
            sent.clear()
            await end(r, message, "done")
            counts.append(sent["writes"])
        assert min(counts) == 2


@pytest.mark.parametrize("key", [None, "key"])
async def test_who_has_lost_the_message_commits_nothing(
    postgres_url: str, tmp_path: Path, key: str | None
) -> None:
    async with rig(tmp_path, database=postgres_url) as r:
        (message,) = await claimed(r, key)
        with pytest.raises(TransactionMisuse, match="lost"):
            await end(r, message._replace(id=message.id + 1_000), "lost")
        assert await r.did() == []
        assert not await end(r, message, "held")


async def test_a_key_in_a_serializable_transaction_is_refused(postgres_url: str, tmp_path: Path) -> None:
    async with rig(tmp_path, database=postgres_url) as r:
        (message,) = await claimed(r, "key")
        with pytest.raises(TransactionMisuse, match="serializable"):
            await end(r, message, "unseen", isolation="serializable")
        assert await r.did() == []


async def test_an_event_with_a_key_is_published_in_one_round_trip(
    postgres_url: str, tmp_path: Path, sent: Counter[str]
) -> None:
    async with rig(tmp_path, database=postgres_url) as r:
        events = Outbox(r.queue)
        events.leads = True  # nobody else needs to be told
        counts: list[int] = []
        for _ in range(ROUNDS):
            sent.clear()
            async with r.db.tx() as tx:
                events.put(tx, "s.made", "a key", '{"version":1,"data":1}')
            counts.append(sent["writes"])
        assert min(counts) == 1
        assert len(await events.unsent(100)) == ROUNDS


@pytest.mark.parametrize("count", [1, 7])
async def test_messages_with_keys_are_put_in_in_one_round_trip(
    postgres_url: str, tmp_path: Path, sent: Counter[str], count: int
) -> None:
    """An event that the database itself carries, and a batch that an intake has fetched."""
    async with rig(tmp_path, database=postgres_url) as r:
        counts: list[int] = []
        for n in range(ROUNDS):
            rows = [r.queue.message("event", "s.on", "{}", order_key=f"{n}-{k % 5}") for k in range(count)]
            sent.clear()
            async with r.db.tx() as tx:
                r.queue.put_all(tx, rows)
            counts.append(sent["writes"])
        assert min(counts) == 1
        heads = ROUNDS * min(count, 5)
        assert Counter((await r.states()).values()) == Counter(ready=heads, waiting=ROUNDS * count - heads)


async def test_who_does_not_see_that_a_head_has_gone_puts_nothing_behind_it(
    postgres_url: str, tmp_path: Path
) -> None:
    """It would wait for ever: nobody ends what is not there any more."""
    async with rig(tmp_path, database=postgres_url) as r:
        async with r.db.tx() as tx:
            r.queue.put(tx, r.queue.message("event", "s.on", "{}", order_key="key"))
        (head,) = await head_of(r)
        with pytest.raises(SerializationFailure):
            async with r.db.tx(isolation="serializable") as late:
                assert await late.scalar(sa.text("SELECT count(*) FROM tenfold_message")) == 1
                assert not await asyncio.create_task(end(r, head, "first"))
                r.queue.put(late, r.queue.message("event", "s.on", "{}", order_key="key"))
        assert set((await r.states()).values()) == {"done"}


@pytest.mark.parametrize("waiting", [0, 1])
async def test_the_end_of_a_message_tells_whether_another_one_waited_for_it(
    postgres_url: str, tmp_path: Path, waiting: int
) -> None:
    """A worker looks for what has become ready only if something has."""
    async with rig(tmp_path, database=postgres_url) as r:
        async with r.db.tx() as tx:
            rows = [r.queue.message("event", "s.on", "{}", order_key="key") for _ in range(1 + waiting)]
            r.queue.put_all(tx, rows)
        (head,) = await head_of(r)
        settlement = outcome.done(head)

        async def acknowledge(tx: Tx) -> None:
            assert not await r.queue.backend.settle(tx, (settlement,), r.queue.now(), USUAL_KEEP)

        async with r.db.tx() as tx:
            await tx.execute(add, said="done")
            tx.before_commit(acknowledge, may_be_last=True)
        assert settlement.frees is bool(waiting)


async def test_a_command_on_a_state_in_memory_is_a_round_trip_and_the_commit(
    postgres_url: str, tmp_path: Path, sent: Counter[str]
) -> None:
    ledger = Ledger()
    async with rig(tmp_path, database=postgres_url) as r:
        ledger.account.bind(r.clock, (), None)
        ledger.account.database = r.db
        counts: list[int] = []
        for _ in range(ROUNDS):
            sent.clear()
            async with r.db.tx() as tx:
                after = await ledger.account.handle(tx, "a", Pay(1))
            counts.append(sent["writes"])
        assert after.state == Balance(ROUNDS, ROUNDS)
        assert min(counts) == 2


async def test_what_fails_ahead_undoes_the_transaction(postgres_url: str, tmp_path: Path) -> None:
    async with rig(tmp_path, database=postgres_url) as r:
        for _ in range(12):  # more often than there are connections
            with pytest.raises(DatabaseError):
                async with r.db.tx() as tx:
                    await tx.execute(add, said="before")
                    await tx.ahead(sa.text("UPDATE effect SET id = id / 0"))
                    await tx.execute(add, said="after")
        assert await r.did() == []


def test_values_as_the_server_reads_them() -> None:
    assert line._text([1, None, 'a "b" \\', True, 0.1]) == '{"1",NULL,"a \\"b\\" \\\\","true","0.1"}'
    assert line._text(2.5e300) == "2.5e+300"


async def noop() -> None: ...


async def test_between_a_hint_and_a_start_there_is_one_round_trip_and_little_else(
    postgres_url: str, tmp_path: Path, sent: Counter[str]
) -> None:
    """The claim, with BEGIN and COMMIT around it. Where the last message stood, nobody looks before."""
    job = Job[Any, None]("s", noop)
    async with rig(tmp_path, job, database=postgres_url) as r:
        r.db.backend._wire = None  # hints to others go beside
        worker = r.worker()
        worker._is_apart()
        costs: list[tuple[int, int]] = []
        for _ in range(4):
            await job.enqueue(r.db)
            worker._wake()
            writes, calls = sent["writes"], 0

            def count(_frame: object, event: str, _arg: object) -> None:
                nonlocal calls
                calls += event in ("call", "c_call")

            sys.setprofile(count)
            try:
                claimed = await worker.claim()
            finally:
                sys.setprofile(None)
            costs.append((sent["writes"] - writes, calls))
            assert claimed == 1
            await worker._all_ended(5)
            await worker.settle()
    looked, guessed = costs[0], costs[-1]
    assert looked[0] > guessed[0] == 1
    assert guessed[1] <= 250, costs
