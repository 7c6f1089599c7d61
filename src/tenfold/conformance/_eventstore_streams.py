"""Streams: versions, conflicts, reading, snapshots."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from tenfold.conformance._eventstore_case import (
    CART,
    NOW,
    STAMP,
    STREAM_MAX_CHARS,
    EventStoreCase,
    Process,
    numbered,
    write,
)
from tenfold.conformance.kit import together
from tenfold.db.contract import Capabilities
from tenfold.eventstore.contract import Bounds, Last, NewEvent, SnapshotRow, Stamp, Want, Write
from tenfold.eventstore.tables import TYPE_MAX_CHARS


class AppendClaims(EventStoreCase):
    async def test_events_of_a_stream_have_versions_without_gaps(self, one: Process) -> None:
        """The first event has version 1, each next one the next; the newest is told."""
        assert await one.append(write("a", "1")) == {"a": 1}
        assert await one.append(write("a", "2", "3", "4")) == {"a": 4}
        assert await one.append(write("a", "5"), write("b", "x", "y")) == {"a": 5, "b": 2}
        assert await one.data("a") == ["1", "2", "3", "4", "5"]
        assert await one.data("b") == ["x", "y"]

    async def test_an_event_comes_back_as_it_went_in(self, one: Process) -> None:
        """Names, data and metadata are kept to the last character, whatever they are."""
        stream = ("Ünicode 'quoted' 🦆 " * 20)[:STREAM_MAX_CHARS]
        data = '{"text":"\\u0000 \\\\ 🦆","big":"' + "x" * 300_000 + '"}'
        event = NewEvent("t" * TYPE_MAX_CHARS, data)
        for stamp, version in ((Stamp(NOW + 0.125, None), 1), (STAMP, 3)):
            events = [event] if version == 1 else [event, event]
            await one.append(Write(stream, -1, events), stamp=stamp)
            row = (await one.read(stream))[-1]
            assert row[1:] == (CART, stream, version, event.type, data, stamp.metadata, stamp.at)

    @pytest.mark.parametrize("expected", [0, 1, 3, 1000])
    @pytest.mark.parametrize("count", [1, 2])
    async def test_only_the_expected_version_is_appended_to(
        self, one: Process, expected: int, count: int
    ) -> None:
        """A stream that has another version than the expected one, older or newer, stays as it is."""
        await one.append(write("a", "1", "2"))
        assert await one.append(write("a", *numbered("no", count), expected=expected)) == {}
        assert await one.data("a") == ["1", "2"]
        assert await one.append(write("a", *numbered("3", count), expected=2)) == {"a": 2 + count}

    @pytest.mark.parametrize("count", [1, 2])
    async def test_only_the_known_event_is_appended_to(self, one: Process, count: int) -> None:
        """Who says which event the expected one is, and is wrong, is refused, alone and beside others."""
        at = NOW + 0.1
        await one.append(write("a", "1"), write("b", "1"), stamp=Stamp(at, None))
        for wrong in (Last("2", at), Last("1", at + 1)):
            refused = write("a", *numbered("no", count), expected=1)._replace(last=wrong)
            assert await one.append(refused) == {}
        right = write("b", *numbered("yes", count), expected=1)._replace(last=Last("1", at))
        assert await one.append(refused, right) == {"b": 1 + count}
        assert await one.append(refused._replace(last=Last("1", at))) == {"a": 1 + count}

    async def test_a_stream_that_must_not_exist_is_begun_once(self, one: Process) -> None:
        """Expected version 0 means: there is no such stream yet."""
        assert await one.append(write("a", "1", expected=0)) == {"a": 1}
        assert await one.append(write("a", "1", expected=0)) == {}

    async def test_a_refused_write_leaves_the_others_of_its_call(self, one: Process) -> None:
        """Of several writes those with the right version are appended whole, the others not at all."""
        await one.append(write("b", "1"))
        writes = [
            write("a", "1", "2", expected=0),
            write("b", "2", "3", expected=0),
            write("c", "1", expected=0),
        ]
        assert await one.append(*writes) == {"a": 2, "c": 1}
        assert [await one.data(s) for s in "abc"] == [["1", "2"], ["1"], ["1"]]

    async def test_an_event_exists_if_and_only_if_its_transaction_commits(self, one: Process) -> None:
        """What is rolled back never was: its version is free again."""
        with pytest.raises(ZeroDivisionError):
            async with one.db.tx() as tx:
                await one.append_in(tx, write("a", "no", "no"))
                raise ZeroDivisionError
        assert await one.data("a") == []
        assert await one.append(write("a", "yes", expected=0)) == {"a": 1}

    async def test_a_transaction_sees_what_it_has_appended(self, one: Process) -> None:
        """Reading and appending again in one transaction goes on where it was."""
        async with one.db.tx() as tx:
            await one.append_in(tx, write("a", "1", expected=0))
            rows = await one.store.read(tx, CART, [Want("a")], Bounds(), 10)
            assert [row.data for row in rows] == ["1"]
            assert await one.append_in(tx, write("a", "2", expected=1)) == {"a": 2}

    @pytest.mark.parametrize("count", [1, 3])
    async def test_of_two_with_the_same_version_one_is_appended(
        self, one: Process, two: Process, declared: Capabilities, count: int
    ) -> None:
        """The second waits until the first is over and is refused; then its transaction sees what won."""
        begun = asyncio.Event()

        async def second() -> None:
            await begun.wait()
            async with two.db.tx() as tx:
                refused = await two.append_in(tx, write("a", *numbered("second", count), expected=0))
                assert refused == {}, "two events have the same version"
                if declared.isolation == "read committed":
                    rows = await two.store.read(tx, CART, [Want("a")], Bounds(), 10)
                    assert [row.data for row in rows] == numbered("first", count)

        async def first() -> None:
            async with one.db.tx() as tx:
                await one.append_in(tx, write("a", *numbered("first", count), expected=0))
                begun.set()
                if declared.parallel_writers:
                    await asyncio.sleep(0.1)

        await together([first(), second()])
        assert await one.data("a") == numbered("first", count)

    async def test_who_waited_for_a_rollback_is_appended(self, one: Process, two: Process) -> None:
        """An event that does not come to be is in nobody's way."""
        begun = asyncio.Event()

        async def first() -> None:
            with pytest.raises(ZeroDivisionError):
                async with one.db.tx() as tx:
                    await one.append_in(tx, write("a", "first", expected=0))
                    begun.set()
                    await asyncio.sleep(0.05)
                    raise ZeroDivisionError

        async def second() -> None:
            await begun.wait()
            assert await two.append(write("a", "second", expected=0)) == {"a": 1}

        await together([first(), second()])
        assert await one.data("a") == ["second"]

    async def test_nothing_is_lost_where_many_append_to_one_stream(self, one: Process, two: Process) -> None:
        """Every write that was told to be appended is there once, and no other."""

        async def append(n: int) -> list[str]:
            process = one if n % 2 else two
            kept: list[str] = []
            while len(kept) < 5:
                text = f"{n}.{len(kept)}"
                if await process.append(write("a", text)):
                    kept.append(text)
            return kept

        kept = [text for texts in await together(append(n) for n in range(6)) for text in texts]
        assert sorted(await one.data("a")) == sorted(kept)


class ReadClaims(EventStoreCase):
    async def test_streams_are_read_from_a_version_to_a_version(self, one: Process) -> None:
        """``after`` is left out, ``version`` is the last one."""
        await one.append(write("a", *"123456789"))
        rows = await one.read("a", after=3, bounds=Bounds(version=6))
        assert [row.data for row in rows] == ["4", "5", "6"]

    async def test_many_streams_are_read_at_once(self, one: Process) -> None:
        """The rows of each are together and by version; streams without events have none."""
        await one.append(write("b", *"12"), write("a", *"34"), write("c", "5"))
        rows = await one.read("c", "none", "a", "b")
        by_stream = {s: [row.data for row in rows if row.stream == s] for s in "abc"}
        assert by_stream == {"a": ["3", "4"], "b": ["1", "2"], "c": ["5"]}
        changes = sum(x.stream != y.stream for x, y in pairwise(rows))
        assert changes == 2, "the rows of a stream are not together"

    async def test_a_page_has_the_first_rows(self, one: Process) -> None:
        """``limit`` cuts off the end, and the next page goes on after the last version."""
        await one.append(write("a", *"123456789"))
        first = await one.read("a", limit=4)
        assert [row.data for row in first] == list("1234")
        assert [row.data for row in await one.read("a", after=first[-1].version, limit=4)] == list("5678")

    async def test_names_are_told_apart_to_the_last_bit(self, one: Process) -> None:
        """Case, accents and trailing blanks make another stream, and each category has its own."""
        names = ["a", "A", "ä", "a "]
        for name in names:
            await one.append(write(name, repr(name)))
        await one.append(write("a", "elsewhere"), category="shop.wishes")
        for name in names:
            assert await one.data(name) == [repr(name)]
        versions = await one.store.versions(one.db.read(), CART, [*names, "none"])
        assert versions == dict.fromkeys(names, 1)


class SnapshotClaims(EventStoreCase):
    async def test_a_snapshot_stands_for_the_events_before_it(self, one: Process) -> None:
        """It comes first, with an empty type and the version of the last event that it stands for."""
        await one.append(write("a", *"123"), write("b", "x"))
        await one.save(SnapshotRow("a", 2, "state", NOW))
        rows = await one.read("a", "b", bounds=Bounds(fingerprint="f"))
        of_a = [(row.type, row.version, row.data) for row in rows if row.stream == "a"]
        assert of_a == [("", 2, "state"), ("added", 3, "3")]
        assert [row.data for row in rows if row.stream == "b"] == ["x"]

    @pytest.mark.parametrize(
        "bounds",
        [Bounds(), Bounds(fingerprint="g"), Bounds(fingerprint="f", at=NOW - 1)],
        ids=["none is wanted", "another fingerprint", "later than wanted"],
    )
    async def test_a_snapshot_that_does_not_fit_is_passed_over(self, one: Process, bounds: Bounds) -> None:
        """Then all events are read."""
        await one.append(write("a", *"123"))
        await one.save(SnapshotRow("a", 2, "state", NOW))
        assert [row.data for row in await one.read("a", bounds=bounds)] == ["1", "2", "3"]

    async def test_a_snapshot_above_the_wanted_version_is_passed_over(self, one: Process) -> None:
        """A look back goes by the events; a snapshot at or below serves."""
        await one.append(write("a", *"1234"))
        await one.save(SnapshotRow("a", 2, "state", NOW))
        assert [r.data for r in await one.read("a", bounds=Bounds(version=1, fingerprint="f"))] == ["1"]
        assert [r.data for r in await one.read("a", bounds=Bounds(version=3, fingerprint="f"))] == [
            "state",
            "3",
        ]

    async def test_who_goes_on_from_a_version_gets_no_snapshot(self, one: Process) -> None:
        """There is one only for streams that are read from the beginning."""
        await one.append(write("a", *"123"))
        await one.save(SnapshotRow("a", 2, "state", NOW))
        assert [r.data for r in await one.read("a", after=1, bounds=Bounds(fingerprint="f"))] == ["2", "3"]

    async def test_the_newest_snapshot_wins(self, one: Process) -> None:
        """One that comes late does not replace a newer one; one of another fingerprint is replaced in any case."""
        await one.append(write("a", *"1234"))
        await one.save(SnapshotRow("a", 3, "three", NOW))
        await one.save(SnapshotRow("a", 2, "two", NOW))
        assert (await one.read("a", bounds=Bounds(fingerprint="f")))[0].data == "three"
        await one.save(SnapshotRow("a", 4, "four", NOW), SnapshotRow("b", 1, "other", NOW))
        assert (await one.read("a", bounds=Bounds(fingerprint="f")))[0].data == "four"
        await one.save(SnapshotRow("a", 1, "anew", NOW), fingerprint="g")
        assert [r.data for r in await one.read("a", bounds=Bounds(fingerprint="f"))] == ["1", "2", "3", "4"]
        assert (await one.read("a", bounds=Bounds(fingerprint="g")))[0].data == "anew"
