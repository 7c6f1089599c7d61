"""What every store of sessions promises (:class:`tenfold.security.sessions.SessionStore`)."""

from __future__ import annotations

import hashlib
from contextlib import suppress

import pytest

from tenfold._core.clock import ManualClock, SystemClock
from tenfold.conformance._guard_case import GuardCase, Pair
from tenfold.conformance.kit import together
from tenfold.db.database import Database
from tenfold.security.sessions import SessionRecord, Sessions, SessionStore

DAY_S = 86_400.0


class SessionsConformance(GuardCase):
    @pytest.fixture
    def store(self, pair: Pair) -> SessionStore:
        """As one process has it."""
        return pair.first.stores.sessions(pair.first.db)

    @pytest.fixture
    def other(self, pair: Pair) -> SessionStore:
        """As another process has it."""
        return pair.second.stores.sessions(pair.second.db)

    @pytest.fixture
    def db(self, pair: Pair) -> Database:
        """The accounts' database."""
        return pair.first.db

    @pytest.fixture
    def now(self) -> float:
        """What time it is for the callers."""
        return SystemClock().now()

    async def test_a_session_is_found_by_everybody(
        self, store: SessionStore, other: SessionStore, db: Database, now: float, name: str
    ) -> None:
        """What was created is found in every process, as it was given."""
        record = session(name, now)
        await create(store, db, record)
        assert await store.get(record.hash, now) == record
        assert await other.get(record.hash, now) == record
        assert await store.get(session("another", now).hash, now) is None

    async def test_an_expired_session_is_not_found(
        self, store: SessionStore, db: Database, now: float, name: str
    ) -> None:
        """From its expiry on a session is none."""
        record = session(name, now)
        await create(store, db, record)
        assert await store.get(record.hash, record.expires_at - 1) is not None
        assert await store.get(record.hash, record.expires_at) is None

    async def test_use_moves_the_expiry(
        self, store: SessionStore, other: SessionStore, db: Database, now: float, name: str
    ) -> None:
        """A session that was touched lives on, and is otherwise the same."""
        record = session(name, now)
        await create(store, db, record)
        assert await other.touch(record.hash, now + 2 * DAY_S, now=now)
        found = await store.get(record.hash, now + 1.5 * DAY_S)
        assert found == session(name, now, expires_at=now + 2 * DAY_S)

    async def test_a_revoked_session_stays_revoked(
        self, store: SessionStore, other: SessionStore, db: Database, now: float, name: str
    ) -> None:
        """A revocation is seen by everybody when it is acknowledged, and touching brings nothing back."""
        record = session(name, now)
        await create(store, db, record)
        assert await other.get(record.hash, now) == record  # whoever caches has it now
        assert await store.get(record.hash, now) == record
        async with db.tx() as tx:
            assert await store.revoke(record.hash, tx=tx)
        assert await other.get(record.hash, now) is None
        assert not await other.touch(record.hash, now + 2 * DAY_S, now=now)
        assert await store.get(record.hash, now) is None
        async with db.tx() as tx:
            assert not await store.revoke(record.hash, tx=tx)

    async def test_touching_while_it_is_revoked_brings_nothing_back(
        self, store: SessionStore, other: SessionStore, pair: Pair, db: Database, now: float, name: str
    ) -> None:
        """However touches and a revocation meet, the session is gone afterwards."""
        for n in range(5):
            record = session(f"{name} {n}", now)
            await create(store, db, record)

            async def revoke(hash_: str = record.hash) -> bool:
                async with db.tx() as tx:
                    return await store.revoke(hash_, tx=tx)

            touches = [other.touch(record.hash, now + (2 + m) * DAY_S, now=now) for m in range(4)]
            await together([*touches[:2], revoke(), *touches[2:]])
            assert await other.get(record.hash, now) is None

    async def test_all_sessions_of_an_account_end_together_and_no_others(
        self, store: SessionStore, other: SessionStore, db: Database, now: float, name: str
    ) -> None:
        """Revoking all of an account's sessions ends those of every process, and nobody else's."""
        mine, theirs = f"mine {name}"[:36], f"theirs {name}"[:36]
        records = [session(f"{name} {n}", now, account=mine) for n in range(4)]
        kept = session(f"{name} kept", now, account=theirs)
        for n, record in enumerate([*records, kept]):
            await create((store, other)[n % 2], db, record)
        async with db.tx() as tx:
            await store.revoke_all(mine, tx=tx)
        assert [await other.get(record.hash, now) for record in records] == [None] * 4
        assert await other.get(kept.hash, now) == kept

    async def test_a_transaction_that_is_rolled_back(
        self, store: SessionStore, db: Database, now: float, name: str
    ) -> None:
        """Where the store joins, a revocation happens if and only if its transaction commits; else it has happened."""
        record = session(name, now)
        await create(store, db, record)
        with suppress(ZeroDivisionError):
            async with db.tx() as tx:
                await store.revoke_all(record.account_id, tx=tx)
                raise ZeroDivisionError
        assert (await store.get(record.hash, now) is not None) == store.joins

    async def test_pruning_forgets_what_has_expired_and_nothing_else(
        self, store: SessionStore, db: Database, now: float, name: str
    ) -> None:
        """Pruning ends no session that is good."""
        kept, expired = (
            session(f"{name} kept", now),
            session(f"{name} gone", now - 2 * DAY_S, expires_at=now - 1),
        )
        await create(store, db, kept)
        await create(store, db, expired)
        async with db.tx() as tx:
            await store.prune(now, tx=tx)
        assert await store.get(kept.hash, now) == kept
        assert await store.get(expired.hash, now) is None

    async def test_the_facade_slides_the_expiry_up_to_the_end(
        self, store: SessionStore, db: Database, clock: ManualClock
    ) -> None:
        """A session that is used lives on by its time, but not beyond ninety days."""
        sessions = Sessions(store, clock, ttl_s=30 * DAY_S, secure=False)
        async with db.tx() as tx:
            session_id = await sessions.open(tx, "ann")
        for _ in range(3):
            clock.jump(29 * DAY_S)
            assert await sessions.find(session_id) == "ann"
        clock.jump(4 * DAY_S)
        assert await sessions.find(session_id) is None


def session(name: str, now: float, *, account: str = "ann", expires_at: float | None = None) -> SessionRecord:
    """A record with a hash of its own."""
    hash_ = hashlib.sha256(name.encode()).hexdigest()
    return SessionRecord(
        hash_, account, now, now + DAY_S if expires_at is None else expires_at, now + 90 * DAY_S
    )


async def create(store: SessionStore, db: Database, record: SessionRecord) -> None:
    async with db.tx() as tx:
        await store.create(record, tx=tx)
