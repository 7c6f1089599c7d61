"""One connection to NATS: requests to JetStream, confirmed publishing, and errors as sentences."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
import nats
import nats.errors
import nats.js.errors

from tenfold.errors import BrokerUnavailable
from tenfold.events.backends._address import Address

log = logging.getLogger("tenfold.events")

PING_S = 5
"""A server that is silent for two of these has gone."""
CLOSE_S = 1.0


class NatsLink:
    """A connection that ends at its first break: a client that connects again by itself sends what it still held, at a
    time when others have gone on. Who needs a connection asks for a new one."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address, self._timeout_s = address, timeout_s
        self.client: Any = None
        self.broken = asyncio.Event()
        self._answers: dict[int, asyncio.Future[bytes]] = {}
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

    async def send(self, subject: str, body: bytes, headers: Mapping[str, str]) -> asyncio.Future[bytes]:
        """Publish without waiting; the future has the server's answer, or BrokerUnavailable."""
        number = next(self._numbers)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            await self.client.publish(subject, body, reply=f"{self._inbox}.{number}", headers=dict(headers))
        except BaseException:
            self._answers.pop(number, None)
            raise
        return answer

    def forget(self) -> None:
        """Nobody waits for the answers that have not come."""
        self._answers.clear()

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
        answer = self._answers.pop(int(message.subject.rpartition(".")[2]), None)
        if answer is not None and not answer.done():
            # No stream has the subject: the server says so by an empty message with a status.
            status = (message.headers or {}).get("Status")
            answer.set_result(b'{"error":{"description":"no stream takes it"}}' if status else message.data)

    async def _noted(self, error: Exception) -> None:
        log.debug("NATS: %s", error)

    async def _closed(self) -> None:
        self._closing()

    def _closing(self) -> None:
        self.broken.set()
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            if not answer.done():
                answer.set_exception(self.unavailable("closed the connection"))
                answer.exception()


class _Error(msgspec.Struct):
    description: str = ""


class Ack(msgspec.Struct):
    """What JetStream answers to a message."""

    seq: int = 0
    duplicate: bool = False
    error: _Error | None = None


decode_ack = msgspec.json.Decoder(Ack).decode
