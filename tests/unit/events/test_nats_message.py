"""What travels to NATS, put together by hand: to the byte what the protocol says, and what the library would send."""

from __future__ import annotations

import pytest
from nats.aio.client import Client

from tenfold.events.backends._nats_names import id_header, key_header, key_of, message
from tenfold.events.bindings import NATS
from tenfold.events.envelope import attributes_of

pytestmark = pytest.mark.anyio


class Recording(Client):
    """The library's client, which sends nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []

    async def _send_command(self, cmd: bytes, priority: bool = False) -> None:
        self.sent.append(cmd)


@pytest.mark.parametrize("key", [None, "", "k1", "a key: of\r\nany kind, ü"])
async def test_a_message_is_what_the_library_would_send(key: str | None) -> None:
    attributes = attributes_of(
        app="shop",
        topic="orders.placed",
        version=2,
        event_id="e ü",
        key=key,
        published_at=1.7e9,
        context=None,
    )
    headers = {**NATS.headers(attributes), **key_header(key), **id_header("e ü")}
    client = Recording()
    await client._send_publish("p.orders.placed", "_INBOX.a.1", b'{"n":1}', 7, headers)
    assert client.sent == [message("p.orders.placed", "_INBOX.a.1", headers, b'{"n":1}')]
    assert key_of(headers) == key


def test_no_value_begins_a_header_of_its_own() -> None:
    for breaks in ("\r\n", "\n", "\r", "\r\n\r\n"):
        sent = message("s", "r", {"a": f"1{breaks}b: 2", "c": "3"}, b"body")
        head = b"NATS/1.0\r\na: 1 b: 2\r\nc: 3\r\n\r\n"
        assert sent == b"HPUB s r %d %d\r\n%sbody\r\n" % (len(head), len(head) + 4, head)
