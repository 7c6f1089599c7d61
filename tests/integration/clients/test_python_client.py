"""The generated Python client against a running server: every kind of value, body, answer and refusal."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from support import every_kind
from support.clients import python_client, served
from support.proxy import Proxy


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(every_kind.app, tmp_path_factory.mktemp("data")) as url:
        yield url


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return python_client(every_kind.app, tmp_path_factory.mktemp("client"))


@pytest.fixture
def kinds(api: Any, url: str) -> Iterator[Any]:
    every_kind.tried.clear()
    with api.Client(url, timeout_s=10) as client:
        yield client.kinds


def every(api: Any, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "text": "naïve ☃",
        "whole": 2**62,
        "real": 0.1,
        "yes": True,
        "moment": dt.datetime(2026, 11, 22, 20, 0, 0, 123456, tzinfo=dt.UTC),
        "day": dt.date(2026, 2, 28),
        "clock": dt.time(9, 30),
        "lasting": dt.timedelta(days=2, seconds=3),
        "price": Decimal("19.990"),
        "key": UUID(int=7),
        "raw": b"\x00\xff\n",
        "colour": api.Colour.DARK_GREEN,
        "size": api.Size.VALUE_3,
        "shape": api.Square(side=2.5, colour=api.Colour.DARK_GREEN),
        "point": (1, -1),
        "notes": [api.Note(text="one", class_="fine")],
        "by_name": {"a/b": api.Circle(radius=1.5)},
        "import_": "from",
    }
    return api.Every(**{**values, **changes})


def test_every_kind_of_value_comes_back_as_it_went(api: Any, kinds: Any) -> None:
    sent = every(api, nested=every(api, maybe="yes", tags=["x"], level="high", both=None))
    assert kinds.echo(sent) == sent


def test_what_may_be_left_out_is_and_has_its_default(api: Any, kinds: Any) -> None:
    answer = kinds.echo(every(api))
    assert answer.left_out is msgspec.UNSET
    assert answer.both is msgspec.UNSET
    assert (answer.maybe, answer.level, answer.tags) == (None, "low", [])
    assert answer.favourite is api.Colour.DARK_GREEN


def test_unset_and_null_are_two_things(api: Any, kinds: Any) -> None:
    assert kinds.change(api.Changed()) == {}
    assert kinds.change(api.Changed(name=None)) == {"name": True}
    assert kinds.change(api.Changed(name="x", age=3)) == {"name": False, "age": False}


def test_parameters_of_every_place_arrive(api: Any, kinds: Any) -> None:
    since = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    found = kinds.look(
        "a/b ?&=",
        "deep/er/path",
        colours=[api.Colour.RED, api.Colour.DARK_GREEN],
        since=since,
        exact=True,
        x_trace_colour="blue",
        flavour="oat",
    )
    assert found == {
        "name": "a/b ?&=",
        "rest": "deep/er/path",
        "colours": "red,dark-green",
        "since": since.isoformat(),
        "limit": "10",
        "exact": "True",
        "trace": "blue",
        "flavour": "oat",
    }


def test_a_path_is_never_left_by_a_parameter(kinds: Any) -> None:
    for wrong in ("", ".", ".."):
        with pytest.raises(ValueError, match="cannot stand in a path"):
            kinds.refuse(wrong)


def test_pages_are_followed_to_the_last(kinds: Any) -> None:
    assert kinds.list_numbers(page=2).items == [4, 5, 6, 7]
    assert list(kinds.iter_numbers()) == list(range(10))


def test_problems_are_typed_and_carry_what_the_server_said(api: Any, kinds: Any) -> None:
    with pytest.raises(api.TooLate) as late:
        kinds.refuse("late")
    assert isinstance(late.value, api.Conflict)
    assert (late.value.status, late.value.detail) == (409, "It was over an hour ago.")
    assert late.value.extra["since"] == 3600
    with pytest.raises(api.NotFound, match="There is no such thing"):
        kinds.refuse("other")
    with pytest.raises(api.InternalError) as broken:
        kinds.refuse("broken")
    assert broken.value.request_id


def test_every_wrong_field_is_told(api: Any, kinds: Any) -> None:
    with pytest.raises(api.InvalidInput) as refused:
        kinds.look("a", "b", colours=["pink"], since=dt.datetime.now(dt.UTC), limit=0)
    assert {(field.in_, field.path) for field in refused.value.errors} == {
        ("query", "colours[0]"),
        ("query", "limit"),
    }


def test_what_may_be_repeated_is_and_nothing_else(api: Any, kinds: Any) -> None:
    assert kinds.flaky("get") == 3
    with pytest.raises(api.Unavailable):
        kinds.flaky_once("post")
    assert every_kind.tried["post"] == 1


def test_retry_after_beyond_the_deadline_is_not_waited_for(api: Any, kinds: Any) -> None:
    begun = time.monotonic()
    with pytest.raises(api.Problem) as busy:
        kinds.refuse("busy")
    assert (busy.value.status, busy.value.retry_after_s) == (429, 60)
    assert time.monotonic() - begun < 5


def test_the_server_is_told_of_the_time_and_the_call_ends_with_it(api: Any, url: str) -> None:
    with api.Client(url, attempts=1) as client, pytest.raises((api.TimedOut, api.DeadlineExceeded)):
        client.kinds.slow(timeout_s=0.3)
    assert 0 < every_kind.tried["slow"] <= 300


def test_a_server_that_is_not_there_is_a_failed_connection(api: Any) -> None:
    with api.Client("http://127.0.0.1:1") as client, pytest.raises(api.ConnectionFailed) as failed:
        client.kinds.nothing()
    assert not failed.value.sent


def test_a_dropped_reply_is_asked_for_again_only_where_that_is_safe(api: Any, url: str) -> None:
    with Proxy(int(url.rpartition(":")[2])) as proxy, api.Client(proxy.through(url)) as client:
        proxy.cut_after(0)
        assert client.kinds.list_numbers().items == [0, 1, 2, 3]
        proxy.cut_after(0)
        with pytest.raises(api.ConnectionFailed) as failed:
            client.kinds.take_raw(b"once")
        assert failed.value.sent


def test_files_and_forms_are_sent_whole(api: Any, kinds: Any, tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    path.write_bytes(b"22")
    more = [path, api.File("c.png", b"333", "image/png")]
    kept = kinds.send_file(document=b"\x00" * 70_000, more=more, comment="naïve")
    assert [(k.name, k.bytes_, k.comment) for k in kept] == [
        ("document", 70_000, "naïve"),
        ("b.txt", 2, "naïve"),
        ("c.png", 3, "naïve"),
    ]
    assert kept[2].media_type == "image/png"
    assert kinds.fill_in(name="a&b=c", age=7) == "a&b=c 7"


def test_bodies_and_answers_of_other_kinds(api: Any, kinds: Any) -> None:
    assert kinds.two_bodies(first=api.Note(text="a")) == ["a", "-"]
    assert kinds.two_bodies(first=api.Note(text="a"), second=api.Note(text="b")) == ["a", "b"]
    assert kinds.take_raw(b"12345") == 5
    found = kinds.download()
    assert (found.content, found.media_type.partition(";")[0]) == (b"one two", "text/csv")
    assert kinds.old() == "/download"
    assert kinds.anything() == {"any": ["thing"]}
    assert kinds.nothing() is None


def test_a_broken_stream_is_taken_up_where_it_broke(api: Any, kinds: Any) -> None:
    events = list(kinds.watch())
    assert [(e.id, e.event, e.data) for e in events] == [
        (str(n), "shape", api.Circle(radius=float(n))) for n in (1, 2, 3)
    ]


def test_the_client_for_asyncio_does_the_same(api: Any, url: str) -> None:
    every_kind.tried.clear()

    async def use() -> None:
        async with api.AsyncClient(url, timeout_s=10) as client:
            kinds = client.kinds
            sent = every(api, nested=every(api))
            assert await kinds.echo(sent) == sent
            assert [n async for n in kinds.iter_numbers()] == list(range(10))
            assert [e.id async for e in kinds.watch()] == ["1", "2", "3"]
            assert await kinds.flaky("async") == 3
            assert (await kinds.send_file(document=b"abc"))[0].bytes_ == 3
            with pytest.raises(api.TooLate):
                await kinds.refuse("late")
            with pytest.raises((api.TimedOut, api.DeadlineExceeded)):
                await kinds.slow(timeout_s=0.2)

    asyncio.run(use())
