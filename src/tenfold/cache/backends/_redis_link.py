"""One connection to a Redis server, shared by everything that a process asks of it.

Commands of one turn of the event loop leave in one packet and their replies come back in order (pipelining), so
one connection carries what a pool of many would, a command costs about a tenth of the client's CPU time, and what
the server tells about changed keys (RESP3 push messages) arrives in order with the replies: a reply proves that
every change from before its command was sent has been told. See docs/decisions/0017-one-pipelined-link-to-redis.md.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis

from tenfold._core.clock import Clock
from tenfold._core.tasks import end_tasks
from tenfold.cache.backends._store import StoreAway
from tenfold.errors import ConfigError

CONNECT_S = 1.0
PENDING_MAX = 10_000
"""Commands that wait for their reply; more would mean that the server does not keep up."""
RETRY_FIRST_S, RETRY_LAST_S = 0.1, 2.0
_MORE = object()


class Address:
    """Where a server is and how to log in, from ``redis[s]://[user[:password]@]host[:port][/db]``."""

    def __init__(self, url: str, where: str) -> None:
        try:
            parts = urlsplit(url)
        except ValueError:  # an IPv6 address without its end
            raise _malformed(where, "its host is no address") from None
        path = parts.path.strip("/")
        query = parse_qs(parts.query, keep_blank_values=True)
        self.tls: ssl.SSLContext | None = None
        try:
            self.port = parts.port or 6379
        except ValueError:
            raise _malformed(where, "the port is no number from 1 to 65535") from None
        if not parts.hostname:
            raise _malformed(where, "it names no host")
        if path and not path.isdigit():
            raise _malformed(where, "the database is no number")
        if set(query) - {"ssl_ca_certs"}:
            raise _malformed(where, "after the ? it has another option than ssl_ca_certs")
        self.host, self.db = parts.hostname, int(path or 0)
        self.user, self.password = unquote(parts.username or ""), unquote(parts.password or "")
        if parts.scheme in ("rediss", "valkeys"):
            self.tls = _tls(query.get("ssl_ca_certs", [""])[0], where)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.db}"


def _malformed(where: str, what: str) -> ConfigError:
    """Quotes nothing of the URL: where it is malformed, any part may be the rest of a password."""
    return ConfigError(
        f"{what}.", where=where,
        remedy='Write "redis://[user:password@]host[:port][/database]", special characters in the password '
        "percent-encoded.",
    )  # fmt: skip


def _tls(ca_file: str, where: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:
        raise ConfigError(
            f"the file {ca_file} of ssl_ca_certs cannot be read: {error}.", where=where
        ) from None


class Refused(Exception):
    """The server answered the greeting, and its answer will not change by trying again."""


class _Command:
    """Who waits for the reply, and when the command was sent by our clock, and left by the loop's."""

    __slots__ = ("left_at", "reply", "sent_at")

    def __init__(self, reply: asyncio.Future[Any], sent_at: float) -> None:
        self.reply, self.sent_at = reply, sent_at
        self.left_at: float | None = None


class _Wire(asyncio.Protocol):
    """Bytes to replies, in the order of the commands."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._reader = hiredis.Reader(notEnoughData=_MORE)
        self._out: list[bytes] = []
        self.transport: asyncio.Transport | None = None
        self.pending: deque[_Command] = deque()
        """The unanswered commands, in the order in which they are answered."""
        self._unsent: list[_Command] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, loop: asyncio.AbstractEventLoop, now: float, args: Iterable[Any]) -> asyncio.Future[Any]:
        reply: asyncio.Future[Any] = loop.create_future()
        if not self._out:
            loop.call_soon(self._flush)
        self._out.append(hiredis.pack_command(tuple(args)))
        command = _Command(reply, now)
        self.pending.append(command)
        self._unsent.append(command)
        return reply

    def _flush(self) -> None:
        out, self._out = self._out, []
        unsent, self._unsent = self._unsent, []
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(b"".join(out))
        now = asyncio.get_running_loop().time()
        for command in unsent:
            command.left_at = now

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        sent_at = None
        while True:
            try:
                reply = reader.gets()
            except hiredis.ProtocolError as error:
                self.abort(f"it does not speak RESP: {error}")
                return
            if reply is _MORE:
                break
            if isinstance(reply, hiredis.PushNotification):
                self._link.pushed(reply)
                continue
            command = self.pending.popleft()
            future, sent_at = command.reply, command.sent_at
            if not future.done():
                if isinstance(reply, hiredis.ReplyError):
                    future.set_exception(StoreAway(str(reply)))
                else:
                    future.set_result(reply)
        if sent_at is not None:
            self._link.answered(self, sent_at)

    def fail_all(self, why: str) -> None:
        """Tell everybody who waits; late replies find nobody."""
        for command in self.pending:
            if not command.reply.done():
                command.reply.set_exception(StoreAway(why))

    def abort(self, why: str) -> None:
        self.fail_all(why)
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail_all("the connection was closed")
        self._link.closed(self, exc)


class RedisLink:
    """A connection that is made again and again; commands fail at once while there is none.

    Three states. *Up*: commands are sent. *Stalled*: a reply is late by ``timeout_s``, so whoever waits is told
    and nothing more is sent, until the late replies arrive. *Down*: there is no connection; one is tried again and
    again with growing pauses. Nobody's request is spent on finding out whether the server is back.
    """

    def __init__(
        self,
        address: Address,
        clock: Clock,
        *,
        timeout_s: float,
        greeting: Sequence[Sequence[Any]],
        optional: Sequence[Sequence[Any]] = (),
        heartbeat_s: float,
        on_push: Callable[[Any], None],
        on_up: Callable[[], None],
        serves: str,
    ) -> None:
        """``serves`` is the group of the setting that names the server: what the log is to speak of."""
        self._log, self._named = logging.getLogger(f"tenfold.{serves}"), f"redis {address} ({serves}.url)"
        self._address, self._clock, self._timeout_s = address, clock, timeout_s
        self._greeting, self._optional, self._heartbeat_s = greeting, optional, heartbeat_s
        self._on_push, self._on_up = on_push, on_up
        self._wire: _Wire | None = None
        self._loop: asyncio.AbstractEventLoop
        self._tasks: list[asyncio.Task[None]] = []
        self._lost = asyncio.Event()
        self._watching = False
        self._why = "it was not reached yet"
        self.state: str = "down"
        self.granted: list[bool] = []
        """Which of the ``optional`` commands the server took."""
        self.answered_at = float("-inf")
        """When the last command that has been answered was sent, by our clock."""
        self.commands = self.stalls = self.connections = 0

    # ── life ──

    async def start(self) -> None:
        """Connect. A server that cannot be reached is tried again in the background; raises :class:`Refused`."""
        self._loop = asyncio.get_running_loop()
        try:
            await self._connect()
        except (OSError, TimeoutError, StoreAway) as error:
            self._unreachable(error)
        self._tasks = [asyncio.create_task(self._keep()), asyncio.create_task(self._beat())]

    async def stop(self) -> None:
        await end_tasks(*self._tasks)
        self.state, self._why = "down", "it was stopped"
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.fail_all(self._why)
            if wire.transport is not None:
                wire.transport.close()

    async def _keep(self) -> None:
        pause = RETRY_FIRST_S
        while True:
            if self._wire is not None:
                await self._lost.wait()
                pause = RETRY_FIRST_S
            await self._clock.sleep(pause * self._clock.random.uniform(0.5, 1.0))
            try:
                await self._connect()
            except (OSError, TimeoutError, StoreAway, Refused) as error:
                pause = min(2 * pause, RETRY_LAST_S)
                self._unreachable(error)

    def _unreachable(self, error: BaseException) -> None:
        why = str(error) or type(error).__name__
        if why != self._why:
            self._why = why
            self._log.warning("%s cannot be used for now: %s", self._named, why)

    async def _connect(self) -> None:
        self._lost.clear()
        address = self._address
        wire: _Wire | None = None
        try:
            async with asyncio.timeout(CONNECT_S):
                _, wire = await self._loop.create_connection(
                    lambda: _Wire(self), address.host, address.port, ssl=address.tls
                )
                await self._greet(wire)
        except BaseException:
            if wire is not None:
                wire.abort("the greeting failed")
            raise
        self._wire, self.state, self._why = wire, "up", ""
        self.connections += 1
        if self.connections > 1:
            self._log.info("%s is back", self._named)
        self._on_up()

    async def _greet(self, wire: _Wire) -> None:
        address = self._address
        login = ["AUTH", address.user or "default", address.password] if address.password else []
        commands = [["HELLO", "3", *login, "SETNAME", "tenfold"]]
        if address.db:
            commands.append(["SELECT", str(address.db)])
        needed = [self._send(wire, command) for command in (*commands, *self._greeting)]
        extra = [self._send(wire, command) for command in self._optional]
        outcomes = await asyncio.gather(*needed, *extra, return_exceptions=True)
        for outcome in outcomes[: len(needed)]:
            if isinstance(outcome, BaseException):
                raise _reason(outcome)
        self.granted = [not isinstance(outcome, BaseException) for outcome in outcomes[len(needed) :]]

    # ── commands ──

    def call(self, *args: Any) -> asyncio.Future[Any]:
        """Send a command. Raises :class:`StoreAway` at once when the server is known to be away; so does the
        future, no later than ``timeout_s`` from now, when it does not answer or refuses."""
        wire = self._wire
        if wire is None or self.state != "up":
            raise StoreAway(self._why or self.state)
        if len(wire.pending) >= PENDING_MAX:
            raise StoreAway(f"{PENDING_MAX} commands wait for it already")
        self.commands += 1
        return self._send(wire, args)

    def _send(self, wire: _Wire, args: Iterable[Any]) -> asyncio.Future[Any]:
        reply = wire.send(self._loop, self._clock.monotonic(), args)
        if not self._watching and wire is self._wire:
            self._watching = True
            self._loop.call_later(self._timeout_s / 4, self._watch)
        return reply

    # ── what the wire tells ──

    def pushed(self, message: Any) -> None:
        if message[0] == b"invalidate":
            self._on_push(message[1])

    def answered(self, wire: _Wire, sent_at: float) -> None:
        self.answered_at = sent_at
        if wire is self._wire and self.state == "stalled" and not self._late(wire):
            self.state, self._why = "up", ""
            self._on_up()

    def closed(self, wire: _Wire, error: Exception | None) -> None:
        if wire is self._wire:
            self._wire, self.state = None, "down"
            self._lost.set()
            self._unreachable(error or ConnectionError("it closed the connection"))

    # ── time ──

    def _late(self, wire: _Wire) -> bool:
        return self._waited_s(wire) > self._timeout_s

    def _waited_s(self, wire: _Wire) -> float:
        """For the oldest unanswered command, from when it left: before that, it was this process that was busy."""
        left_at = wire.pending[0].left_at if wire.pending else None
        return 0.0 if left_at is None else self._loop.time() - left_at

    def _watch(self) -> None:
        """Look for late replies, as long as any is waited for."""
        wire = self._wire
        if wire is None or not wire.pending:
            self._watching = False
            return
        if self._late(wire):
            # What arrived while this process was busy itself is not late: let the loop read it first.
            self._loop.call_soon(self._loop.call_soon, self._stall, wire)
        self._loop.call_later(self._timeout_s / 4, self._watch)

    def _stall(self, wire: _Wire) -> None:
        if wire is not self._wire or not self._late(wire):
            return
        if self.state == "up":
            self.state, self._why = "stalled", f"it did not answer within {self._timeout_s:g} s"
            self.stalls += 1
            self._log.warning("%s: %s; nobody waits for it until it does", self._named, self._why)
            wire.fail_all(self._why)
        elif self._waited_s(wire) > max(CONNECT_S, 4 * self._timeout_s):
            wire.abort(self._why)

    async def _beat(self) -> None:
        """Ask now and then, so that a silent connection is noticed and a living one vouches for what it told."""
        while True:
            await self._clock.sleep(self._heartbeat_s)
            if self.state == "up" and self._wire is not None and not self._wire.pending:
                self._send(self._wire, ["PING"]).add_done_callback(_heard)


def _heard(reply: asyncio.Future[Any]) -> None:
    if not reply.cancelled():
        reply.exception()  # the watch has told; nobody else asked


def _reason(error: BaseException) -> BaseException:
    text = str(error)
    if text.startswith(("WRONGPASS", "NOAUTH", "NOPERM", "ERR Client sent AUTH", "ERR AUTH")):
        return Refused(f"the server refuses the login: {text}")
    if text.startswith(("NOPROTO", "ERR unknown command")):
        return Refused(f"the server is older than Redis 6: {text}")
    if text.startswith(("ERR DB index", "ERR invalid DB")):
        return Refused(f"the server has no such database: {text}")
    return error
