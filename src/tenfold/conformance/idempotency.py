"""What every store of idempotency keys promises (:class:`tenfold.guard.idempotency.IdempotencyStore`)."""

from __future__ import annotations

import asyncio

import pytest

from tenfold._core.clock import ManualClock, SystemClock
from tenfold._core.context import Context, use
from tenfold.conformance._guard_case import NAMES, Elapse, GuardCase, Pair, add_effect, effects
from tenfold.conformance.kit import together
from tenfold.db.database import Database
from tenfold.errors import RequestInProgress
from tenfold.guard.idempotency import Attempt, IdempotencyGuard, IdempotencyStore
from tenfold.guard.keys import KeyRecord, Replay, StoredReply, fitting

REPLY = StoredReply(201, ((b"content-type", b"text/plain"), (b"x-raw", b"\xff")), b"made \x00\xff")
SCOPE = "orders.place ann"
SHORT_S = 0.15


def record(claim: str = "first", *, lease_s: float = 60.0, keep_s: float = 600.0, of: str = "f") -> KeyRecord:
    return KeyRecord(of, claim, lease_s, keep_s)


class IdempotencyConformance(GuardCase):
    @pytest.fixture
    def store(self, pair: Pair) -> IdempotencyStore:
        """As one process has it."""
        return pair.first.stores.idempotency(pair.first.db)

    @pytest.fixture
    def other(self, pair: Pair, store: IdempotencyStore) -> IdempotencyStore:
        """As another process has it; one that is in this process's memory is the same."""
        if not pair.first.stores.limits().shared:
            return store
        return pair.second.stores.idempotency(pair.second.db)

    @pytest.fixture
    def db(self, pair: Pair) -> Database:
        """Where effects are."""
        return pair.first.db

    async def test_an_unknown_key_has_no_record(self, store: IdempotencyStore, name: str) -> None:
        """Nothing is known of a key that was never claimed."""
        assert await store.find(SCOPE, name) is None

    async def test_of_many_claims_one_wins(
        self, store: IdempotencyStore, other: IdempotencyStore, name: str
    ) -> None:
        """Of concurrent claims of a key, in all processes, exactly one wins."""
        for n in range(5):
            key = f"{n}-{name}"
            claims = [(mine, f"c{i}") for i, mine in enumerate((store, other) * 5)]
            won = await together(mine.claim(SCOPE, key, record(claim)) for mine, claim in claims)
            assert won.count(True) == 1
            found = await other.find(SCOPE, key)
            assert found is not None
            assert found.claim == claims[won.index(True)][1]
            assert found.reply is None
            assert 55 < found.lease_s <= 60
            assert 595 < found.keep_s <= 600

    async def test_a_completed_reply_is_found_by_everybody(
        self, store: IdempotencyStore, other: IdempotencyStore, name: str
    ) -> None:
        """A reply is found in every process once it was completed, byte for byte, for as long as it is kept."""
        assert await store.claim(SCOPE, name, record(keep_s=5))
        assert await attempt(store, name).complete(REPLY, 600.0, effect=True)
        for mine in (store, other):
            found = await mine.find(SCOPE, name)
            assert found is not None
            assert found.reply == REPLY
            assert found.keep_s > 500
        assert not await other.claim(SCOPE, name, record("second"))

    async def test_a_large_reply_is_kept(self, store: IdempotencyStore, name: str) -> None:
        """Replies of some megabytes are kept whole."""
        large = StoredReply(200, (), bytes(range(256)) * 12_000)
        assert await store.claim(SCOPE, name, record())
        assert await attempt(store, name).complete(large, 600.0, effect=True)
        found = await store.find(SCOPE, name)
        assert found is not None
        assert found.reply == large

    async def test_effect_and_reply_are_kept_together(
        self, store: IdempotencyStore, db: Database, name: str
    ) -> None:
        """What the run wrote is seen by nobody before it completes, and by everybody after."""
        with use(Context()):
            assert await store.claim(SCOPE, name, record())
            run = store.attempt(SCOPE, name, "first")
            await write(db, name)
            with use(Context()):
                assert name not in await written(db)
            assert await run.complete(REPLY, 600.0, effect=True)
        assert (await written(db)).count(name) == 1

    async def test_an_error_is_kept_without_effect(
        self, store: IdempotencyStore, db: Database, name: str
    ) -> None:
        """A reply that stands for an error undoes what the run wrote."""
        with use(Context()):
            assert await store.claim(SCOPE, name, record())
            run = store.attempt(SCOPE, name, "first")
            await write(db, name)
            assert await run.complete(REPLY, 600.0, effect=False)
        assert name not in await written(db)
        found = await store.find(SCOPE, name)
        assert found is not None
        assert found.reply == REPLY

    async def test_a_released_key_is_free_and_had_no_effect(
        self, store: IdempotencyStore, other: IdempotencyStore, db: Database, name: str
    ) -> None:
        """Releasing undoes what the run wrote and frees the key, also for another request."""
        with use(Context()):
            assert await store.claim(SCOPE, name, record())
            run = store.attempt(SCOPE, name, "first")
            await write(db, name)
            await run.release()
        assert name not in await written(db)
        assert await other.claim(SCOPE, name, record("second", of="another request"))

    async def test_a_run_that_was_given_up_can_be_taken_over_and_keeps_nothing(
        self, store: IdempotencyStore, other: IdempotencyStore, db: Database, elapse: Elapse, name: str
    ) -> None:
        """When its lease has ended another may run the request; the late one then commits neither effect nor reply."""
        with use(Context()):
            assert await store.claim(SCOPE, name, record(lease_s=SHORT_S))
            late = store.attempt(SCOPE, name, "first")
            await elapse(SHORT_S + 0.05)
            with use(Context()):
                assert await other.claim(SCOPE, name, record("second"))
            await write(db, name)
            assert not await late.complete(StoredReply(200, (), b"late"), 600.0, effect=True)
        assert name not in await written(db)
        assert await attempt(other, name, "second").complete(REPLY, 600.0, effect=True)
        found = await store.find(SCOPE, name)
        assert found is not None
        assert found.reply == REPLY

    async def test_a_late_release_takes_the_key_from_nobody(
        self, store: IdempotencyStore, other: IdempotencyStore, elapse: Elapse, name: str
    ) -> None:
        """Who lost the key cannot free it."""
        assert await store.claim(SCOPE, name, record(lease_s=SHORT_S))
        late = attempt(store, name)
        await elapse(SHORT_S + 0.05)
        assert await other.claim(SCOPE, name, record("second"))
        await late.release()
        assert not await store.claim(SCOPE, name, record("third"))

    async def test_who_was_given_up_and_completes_first_keeps_the_key(
        self, store: IdempotencyStore, other: IdempotencyStore, elapse: Elapse, name: str
    ) -> None:
        """A claim over a lease that has ended is judged when it is written: a reply that came first stands."""
        assert await store.claim(SCOPE, name, record(lease_s=SHORT_S))
        await elapse(SHORT_S + 0.05)
        seen = await other.find(SCOPE, name)
        assert seen is not None
        assert seen.lease_s <= 0
        assert await attempt(store, name).complete(REPLY, 600.0, effect=True)
        assert not await other.claim(SCOPE, name, record("second"))

    async def test_a_key_belongs_to_its_request_also_when_that_was_given_up(
        self, store: IdempotencyStore, elapse: Elapse, name: str
    ) -> None:
        """Another request cannot take a key over before it has expired."""
        assert await store.claim(SCOPE, name, record(lease_s=SHORT_S, keep_s=1.0))
        await elapse(SHORT_S + 0.05)
        assert not await store.claim(SCOPE, name, record("second", of="another request"))
        await elapse(0.9)
        assert await store.claim(SCOPE, name, record("third", of="another request"))

    async def test_renewing_keeps_the_key(
        self, store: IdempotencyStore, other: IdempotencyStore, elapse: Elapse, name: str
    ) -> None:
        """A run that is renewed, even after its lease has ended, keeps its key; one that lost it gets nothing back."""
        assert await store.claim(SCOPE, name, record(lease_s=SHORT_S))
        await elapse(SHORT_S + 0.05)
        await store.renew([(SCOPE, name, "first")], 60.0)
        assert not await other.claim(SCOPE, name, record("second"))
        await store.renew([(SCOPE, name, "nobody"), (SCOPE, "never claimed", "first")], 0.001)
        found = await store.find(SCOPE, name)
        assert found is not None
        assert (found.claim, found.lease_s > 50) == ("first", True)
        assert await store.find(SCOPE, "never claimed") is None

    async def test_keys_and_scopes_are_told_apart(self, store: IdempotencyStore, name: str) -> None:
        """Keys and scopes that differ in anything are different."""
        for scope in (fitting(text + name[-9:]) for text in NAMES):
            assert await store.claim(scope, f"k{name[-9:]}", record()), scope
        for key in (text + name[-9:] for text in NAMES if text.isascii() and " " not in text):
            assert await store.claim(SCOPE, key, record()), key

    async def test_expired_records_are_free_and_can_be_pruned(
        self, store: IdempotencyStore, other: IdempotencyStore, elapse: Elapse, name: str
    ) -> None:
        """What has expired answers nobody, and pruning it forgets nothing else."""
        for key in (f"a{name}", f"b{name}"):
            assert await store.claim(SCOPE, key, record())
            assert await attempt(store, key).complete(REPLY, SHORT_S, effect=True)
        assert await store.claim(SCOPE, f"c{name}", record())
        await elapse(SHORT_S + 0.05)
        assert await other.claim(SCOPE, f"a{name}", record("second", of="another request"))
        while await store.prune(1):
            pass
        assert await store.find(SCOPE, f"b{name}") is None
        for key, claim in ((f"a{name}", "second"), (f"c{name}", "first")):
            found = await store.find(SCOPE, key)
            assert found is not None
            assert found.claim == claim

    async def test_200_duplicates_have_one_effect_and_one_reply(
        self, store: IdempotencyStore, other: IdempotencyStore, pair: Pair, name: str
    ) -> None:
        """Of 200 requests with one key, in two processes at the same time, one runs and all get its reply."""
        guards = [
            (IdempotencyGuard(mine, SystemClock()), instance.db)
            for mine, instance in zip((store, other), pair, strict=True)
        ]
        replies = await together(request(*guards[n % 2], name) for n in range(200))
        assert set(replies) == {b"made 1"}
        assert (await written(pair.first.db)).count(name) == 1

    async def test_a_renewed_run_outlives_its_lease(
        self, store: IdempotencyStore, other: IdempotencyStore, clock: ManualClock, elapse: Elapse, name: str
    ) -> None:
        """The guard renews what runs, so a short lease is no limit to a request."""
        clocks = SystemClock() if elapse is asyncio.sleep else clock
        guard = IdempotencyGuard(store, clocks, lease_s=0.3)
        await guard.start()
        try:
            with use(Context()):
                run = await guard.begin(name, SCOPE, "f")
            assert not isinstance(run, Replay)
            for _ in range(4):
                await elapse(0.15)
                await asyncio.sleep(0.03)
                with pytest.raises(RequestInProgress):
                    await IdempotencyGuard(other, clocks).begin(name, SCOPE, "f")
            await run.finish(REPLY)
        finally:
            await guard.stop()


def attempt(store: IdempotencyStore, key: str, claim: str = "first") -> Attempt:
    """A run in a context of its own, as every request has one."""
    with use(Context()):
        return store.attempt(SCOPE, key, claim)


async def request(guard: IdempotencyGuard, db: Database, key: str) -> bytes:
    """What a client and its server do together: repeat until there is a reply."""
    with use(Context()):
        while True:
            try:
                outcome = await guard.begin(key, SCOPE, "f")
                break
            except RequestInProgress:
                await asyncio.sleep(0.02)
        if isinstance(outcome, Replay):
            return outcome.reply.body
        await write(db, key)
        number = (await written(db)).count(key)
        await outcome.finish(StoredReply(201, (), b"made %d" % number))
        return b"made %d" % number


async def write(db: Database, note: str) -> None:
    async with db.tx() as tx:
        await tx.execute(add_effect, note=note)


async def written(db: Database) -> list[str]:
    return await db.read().all(effects, str)
