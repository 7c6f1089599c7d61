"""What other producers may send through RabbitMQ, that is: anything."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from support.carried import Carried
from tenfold.events.backends import _amqp_frames as frames
from tenfold.events.backends.rabbitmq import Backend

pytestmark = pytest.mark.anyio


def message(channel: int, exchange: str, body: bytes, message_id: bytes) -> bytes:
    """A publication with no properties but its id."""
    flags = 0x0080 if message_id else 0
    properties = bytes((len(message_id),)) + message_id if message_id else b""
    head = struct.pack(">HHQH", 60, 0, len(body), flags) + properties
    return (
        frames.method_of_publish(channel, exchange, "orders.placed", mandatory=False)
        + struct.pack(">BHI", frames.HEADER, channel, len(head)) + head + frames.END
        + struct.pack(">BHI", frames.BODY, channel, len(body)) + body + frames.END
    )  # fmt: skip


async def send(it: Carried, prefix: str, number: int, message_id: bytes = b"") -> None:
    backend = it.events.broker
    assert isinstance(backend, Backend)
    channel = await (await backend._link("publish")).channel()
    channel.link.write(message(channel.number, prefix, b'{"n": %d}' % number, message_id))


async def test_messages_without_an_id_are_each_handled(tmp_path: Path, rabbitmq_url: str) -> None:
    """Nothing tells them apart: they must not be taken for one that has come again."""
    it, prefix = Carried(), "without-id"
    async with it.running(tmp_path, "sqlite:///app.db", rabbitmq_url, events__prefix=prefix):
        await it.publish(0, 1)
        await it.quiet(1, 10.0)
        for number in (1, 2, 3):
            await send(it, prefix, number)
        assert set(await it.quiet(4, 10.0)) == {0, 1, 2, 3}


async def test_properties_that_are_no_text_hold_up_nobody(tmp_path: Path, rabbitmq_url: str) -> None:
    it, prefix = Carried(), "no-text"
    async with it.running(tmp_path, "sqlite:///app.db", rabbitmq_url, events__prefix=prefix):
        await it.publish(0, 1)
        await it.quiet(1, 10.0)
        await send(it, prefix, 1, message_id=b"\xff\xfe")
        await it.publish(2, 1)
        assert set(await it.quiet(3, 10.0)) == {0, 1, 2}
