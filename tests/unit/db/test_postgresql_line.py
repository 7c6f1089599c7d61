"""What stands behind a statement on the wire: its answer is kept from the driver, in whatever pieces it comes."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from tenfold.db.backends._postgresql_line import Line, query

SYNC = b"S\0\0\0\4"


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


READY = message(b"Z", b"I")
ROW, DONE, FAILED = message(b"D", b"Z" * 20), message(b"C", b"COMMIT\0"), message(b"E", b"SERROR\0\0")
ASKED = message(b"2") + ROW + DONE + READY
NEXT = message(b"2") + message(b"D", b"next") + DONE + READY


class Driver(asyncio.Protocol):
    def __init__(self) -> None:
        self.got = b""

    def data_received(self, data: bytes) -> None:
        self.got += data


class Transport:
    """As far as a line asks."""

    def __init__(self) -> None:
        self.driver = Driver()
        self.protocol: Any = self.driver
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def receive(self, data: bytes, size: int) -> None:
        for start in range(0, len(data), size):
            self.protocol.data_received(data[start : start + size])


def sent() -> tuple[Transport, Line]:
    """A statement with a query behind it is on its way."""
    transport = Transport()
    line = Line(transport)
    line.put_around(b"<", b">", query("NOTIFY x"))
    line.write(b"statement" + SYNC)
    return transport, line


def test_it_is_written_behind_the_sync_and_once() -> None:
    transport, line = sent()
    line.write(b"another" + SYNC)
    assert transport.written == b"<statement>" + SYNC + query("NOTIFY x") + b"another" + SYNC


@pytest.mark.parametrize("aside", [DONE + READY, FAILED + READY], ids=["done", "failed"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 16, 32, 64, 1000])
def test_the_driver_gets_the_answers_to_what_it_asked_and_no_other(aside: bytes, size: int) -> None:
    transport, line = sent()
    assert not line.takes_behind
    transport.receive(ASKED + aside + NEXT, size)
    assert transport.driver.got == ASKED + NEXT
    assert line.takes_behind
    assert transport.protocol is transport.driver


def test_the_driver_need_not_wait_for_the_other_answer() -> None:
    transport, line = sent()
    transport.receive(ASKED, 1000)
    assert transport.driver.got == ASKED
    assert not line.takes_behind


def test_what_was_not_written_leaves_nothing_behind() -> None:
    transport = Transport()
    line = Line(transport)
    line.put_around(b"<", b">", query("NOTIFY x"))
    line.forget()
    line.write(b"statement" + SYNC)
    assert transport.written == b"statement" + SYNC
    assert transport.protocol is transport.driver


def test_the_driver_learns_of_a_connection_that_is_lost_in_between() -> None:
    lost: list[Any] = []
    transport = Transport()
    transport.driver.connection_lost = lost.append  # type: ignore[method-assign]
    line = Line(transport)
    line.put_around(b"", b"", query("NOTIFY x"))
    line.write(b"statement" + SYNC)
    transport.protocol.connection_lost(None)
    assert lost == [None]
