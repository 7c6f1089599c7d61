"""One connection to NATS: requests to JetStream, confirmed publishing, and errors as sentences."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import nats
import nats.errors
import nats.js.errors

from tenfold.errors import BrokerUnavailable
from tenfold.events.backends._address import Address
from tenfold.events.backends._nats_names import message as encoded

log = logging.getLogger("tenfold.events")

PING_S = 5
"""A server that is silent for two of these has gone."""
CLOSE_S = 1.0
PIECE = 100
"""Messages that are written at once."""
Message = tuple[str, bytes, Mapping[str, str]]
"""Subject, body, headers."""


class NatsLink:
    """A connection that ends at its first break: a client that connects again by itself sends what it still held, at a
    time when others have gone on. Who needs a connection asks for a new one."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address, self._timeout_s = address, timeout_s
        self.client: Any = None
        self.broken = asyncio.Event()
        self._answers: dict[int, tuple[Answers, int]] = {}
        self._numbers = itertools.count(1)
        self._inbox = ""

    async def open(self) -> None:
        """Raises BrokerUnavailable."""
        address = self._address
        tls = address.tls()
        login: dict[str, Any] = (
            {"user": address.user, "password": address.password} if address.password else {}
        )
        if address.user and not address.password:
            login = {"token": address.user}
        with self.translated():
            async with asyncio.timeout(self._timeout_s):
                self.client = await nats.connect(
                    servers=[f"{'tls' if tls else 'nats'}://{host}" for host in address.hosts],
                    allow_reconnect=False,
                    max_reconnect_attempts=1,  # of each server; the client would try them for ever
                    reconnect_time_wait=0.05,
                    connect_timeout=max(1, int(self._timeout_s)),
                    ping_interval=PING_S,
                    max_outstanding_pings=2,
                    error_cb=self._noted,
                    closed_cb=self._closed,
                    tls=tls,
                    **login,
                )
                self._inbox = self.client.new_inbox()
                await self.client.subscribe(f"{self._inbox}.*", cb=self._answered)

    @property
    def up(self) -> bool:
        return self.client is not None and not self.broken.is_set() and bool(self.client.is_connected)

    def jetstream(self) -> Any:
        """The library's face for streams and consumers."""
        return self.client.jetstream(timeout=self._timeout_s)

    async def close(self) -> None:
        """Never raises."""
        self._closing()
        if self.client is not None:
            try:
                async with asyncio.timeout(CLOSE_S):
                    await self.client.close()
            except (nats.errors.Error, OSError, TimeoutError):
                log.debug("the connection to NATS did not close cleanly", exc_info=True)

    async def send(self, messages: Sequence[Message]) -> Answers:
        """Publish without waiting for the answers. They leave in pieces, so that the server begins with the first while
        the last are put together. Raises MaxPayloadError for what the server would end the connection for."""
        answers = Answers(len(messages))
        for start in range(0, len(messages), PIECE):
            piece: list[bytes] = []
            for at, (subject, body, headers) in enumerate(messages[start : start + PIECE], start):
                number = next(self._numbers)
                self._answers[number] = answers, at
                piece.append(encoded(subject, f"{self._inbox}.{number}", headers, body))
            if len(max(piece, key=len)) > self.client.max_payload:
                raise nats.errors.MaxPayloadError
            # Its publish() encodes every message header by header, and looks for somebody to write after each.
            await self.client._send_command(b"".join(piece))
            await self.client._flush_pending()
            await asyncio.sleep(0)
        if not self.up:
            self._closing()  # the last pieces went nowhere
        return answers

    def unavailable(self, what: str) -> BrokerUnavailable:
        """A sentence that says which server."""
        return BrokerUnavailable(f"NATS at {self._address} (events.url) {what}.")

    @contextmanager
    def translated(self) -> Generator[None]:
        """The library's errors as ours."""
        try:
            yield
        except (nats.errors.TimeoutError, TimeoutError):
            raise self.unavailable(f"did not answer within {self._timeout_s:g} s") from None
        except nats.js.errors.ServiceUnavailableError as error:
            raise self.unavailable(f"has no JetStream at the moment: {error.description or error}") from error
        except nats.js.errors.APIError as error:
            raise self.unavailable(f"refuses: {error.description or error}") from error
        except nats.errors.NoServersError:
            raise self.unavailable("cannot be reached") from None
        except nats.errors.NoRespondersError:
            raise self.unavailable("runs without JetStream (start it with -js)") from None
        except nats.errors.Error as error:
            raise self.unavailable(f"does not serve us: {error}") from error
        except OSError as error:
            raise self.unavailable(f"cannot be reached: {error}") from error

    async def _answered(self, message: Any) -> None:
        waits = self._answers.pop(int(message.subject.rpartition(".")[2]), None)
        if waits is not None:
            # No stream has the subject: the server says so by an empty message with a status.
            status = (message.headers or {}).get("Status")
            answers, at = waits
            answers.add(at, b'{"error":{"description":"no stream takes it"}}' if status else message.data)

    async def _noted(self, error: Exception) -> None:
        log.debug("NATS: %s", error)

    async def _closed(self) -> None:
        self._closing()

    def _closing(self) -> None:
        self.broken.set()
        answers, self._answers = self._answers, {}
        for waits, _ in answers.values():
            waits.end(self.unavailable("closed the connection"))


class Answers:
    """What the server says to messages that were sent together."""

    def __init__(self, count: int) -> None:
        self.found: list[bytes | None] = [None] * count
        """By position; None where it has not answered."""
        self.error: BrokerUnavailable | None = None
        """Why no more will come."""
        self._left = count
        self._done = asyncio.Event()
        if not count:
            self._done.set()

    def add(self, at: int, answer: bytes) -> None:
        """The answer to the message ``at``."""
        self.found[at] = answer
        self._left -= 1
        if not self._left:
            self._done.set()

    def end(self, error: BrokerUnavailable) -> None:
        """No more will come."""
        self.error = error
        self._done.set()

    async def wait(self) -> None:
        """Until all have come, or no more will."""
        await self._done.wait()


class _Error(msgspec.Struct):
    description: str = ""


class Ack(msgspec.Struct):
    """What JetStream answers to a message."""

    seq: int = 0
    duplicate: bool = False
    error: _Error | None = None


decode_ack = msgspec.json.Decoder(Ack).decode
