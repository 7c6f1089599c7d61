"""``smtp://user:password@host:port`` sends by SMTP (RFC 5321), through the standard library in threads.

``smtp://`` (port 587) insists on STARTTLS, except for a server on this machine; ``smtp+tls://`` (port 465) speaks
TLS from the start; ``?tls=off`` sends in the clear where no password is involved. Certificates are verified.
Weaker than the contract: after a time-out the server may still have taken the mail, and a retry doubles it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import smtplib
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

from tenfold._core.clock import Clock
from tenfold.errors import ConfigError, MailRefused, MailUnavailable
from tenfold.mail.contract import Envelope, MailBackend

Tls = Literal["starttls", "implicit", "off"]

CONNECTIONS_MAX = 8
"""Mails under way at the same time."""

_WHERE = "mail.url"


@dataclass(frozen=True, slots=True)
class Server:
    """Where mail goes."""

    host: str
    port: int
    tls: Tls
    user: str = ""
    password: str = field(default="", repr=False)


class Backend(MailBackend):
    """One connection per mail: servers close idle ones, and a mail matters more than its round trips."""

    def __init__(self, server: Server, *, context: ssl.SSLContext | None = None) -> None:
        self._server = server
        self._context = context
        self._pool = ThreadPoolExecutor(CONNECTIONS_MAX, thread_name_prefix="tenfold-smtp")

    @classmethod
    def from_url(cls, url: str, *, data_dir: Path, clock: Clock) -> Self:
        return cls(parse_server(url))

    async def deliver(self, envelope: Envelope, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        line = _Line(self._server, self._tls, timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                await loop.run_in_executor(self._pool, self._send, line, envelope)
        except TimeoutError as error:
            raise MailUnavailable(f"{self._name()} did not take the mail within {timeout_s:g} s.") from error
        finally:
            # Work in a thread cannot be cancelled, and the socket's own time-out starts anew with every byte.
            line.cut()

    async def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _send(self, line: _Line, envelope: Envelope) -> None:
        try:
            refused = line.send(envelope)
        except smtplib.SMTPServerDisconnected as error:
            raise MailUnavailable(f"{self._name()} closed the connection.") from error
        except smtplib.SMTPRecipientsRefused as error:
            raise self._refused(error.recipients) from error
        except smtplib.SMTPResponseException as error:
            raise self._answered(error.smtp_code, error.smtp_error) from error
        except smtplib.SMTPException as error:  # STARTTLS or a log-in that the server does not offer
            raise MailRefused(f"{self._name()} cannot be used: {error}") from error
        except OSError as error:  # unreachable, reset, timed out, certificate not trusted
            raise MailUnavailable(f"{self._name()} cannot be reached: {error}.") from error
        if refused:
            # Some were accepted: sending again would double theirs, so this is final.
            raise MailRefused(f"{self._name()} took the mail, but refused {_listed(refused)}.")

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context()
        return self._context

    def _refused(self, recipients: dict[str, tuple[int, bytes]]) -> MailRefused | MailUnavailable:
        """None was accepted: worth another try only when the server says so of one of them."""
        text = f"{self._name()} refused every recipient: {_listed(recipients)}."
        temporary = any(400 <= code < 500 for code, _ in recipients.values())
        return MailUnavailable(text) if temporary else MailRefused(text)

    def _answered(self, code: int, answer: bytes | str) -> MailRefused | MailUnavailable:
        text = f"{self._name()} answered {code}: {_text(answer)}"
        # 4yz: transient, 5yz: permanent (RFC 5321 § 4.2.1); anything else is no SMTP server having a good day.
        return MailRefused(text) if 500 <= code < 600 else MailUnavailable(text)

    def _name(self) -> str:
        return f"The mail server {self._server.host}:{self._server.port}"


class _Line:
    """One connection for one mail, which another thread may cut."""

    def __init__(self, server: Server, tls: Callable[[], ssl.SSLContext], timeout_s: float) -> None:
        self._server, self._tls, self._timeout_s = server, tls, timeout_s
        self._smtp: smtplib.SMTP | None = None
        self._cut = False

    def send(self, envelope: Envelope) -> dict[str, tuple[int, bytes]]:
        """Recipients that were refused while others were accepted."""
        smtp = self._smtp = self._connect()
        try:
            if self._cut:
                raise TimeoutError("the time was up")
            self._introduce(smtp)
            return smtp.sendmail(envelope.sender, list(envelope.recipients), envelope.data)
        finally:
            # The mail is theirs once its data was answered; how they take the farewell changes nothing.
            with contextlib.suppress(smtplib.SMTPException, OSError):
                smtp.quit()
            smtp.close()

    def cut(self) -> None:
        """End whatever waits on the connection; harmless when it is over."""
        self._cut = True
        sock = self._smtp.sock if self._smtp is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _connect(self) -> smtplib.SMTP:
        server = self._server
        if server.tls == "implicit":
            return smtplib.SMTP_SSL(server.host, server.port, timeout=self._timeout_s, context=self._tls())
        return smtplib.SMTP(server.host, server.port, timeout=self._timeout_s)

    def _introduce(self, smtp: smtplib.SMTP) -> None:
        if self._server.tls == "starttls":
            smtp.starttls(context=self._tls())
        if self._server.user:
            smtp.login(self._server.user, self._server.password)


def parse_server(url: str) -> Server:
    """The server of an ``smtp://`` or ``smtp+tls://`` URL. Raises :class:`ConfigError`, never with the password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError("the port is not a number.", where=_WHERE) from None
    if not parts.hostname:
        raise ConfigError("it names no host.", where=_WHERE, remedy="Write smtp://user:password@host:port")
    tls = _tls_of(parts.scheme, parse_qs(parts.query, keep_blank_values=True), parts.hostname)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if user and tls == "off" and not _is_loopback(parts.hostname):
        raise ConfigError(
            "it would send the password in the clear.",
            where=_WHERE,
            remedy="Remove tls=off, or the password.",
        )
    return Server(
        parts.hostname, port or {"implicit": 465, "starttls": 587, "off": 25}[tls], tls, user, password
    )


def _tls_of(scheme: str, query: dict[str, list[str]], host: str) -> Tls:
    if unknown := sorted(set(query) - {"tls"}):
        raise ConfigError(
            f"it has an option that does not exist: {unknown[0]!r}.", where=_WHERE, remedy="There is: tls."
        )
    if scheme == "smtp+tls":
        return "implicit"
    match query.get("tls", ["off" if _is_loopback(host) else "starttls"])[-1]:
        case "starttls":
            return "starttls"
        case "off":
            return "off"
        case other:
            raise ConfigError(
                f"tls={other} does not exist.", where=_WHERE, remedy="Write tls=starttls or tls=off."
            )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listed(refused: dict[str, tuple[int, bytes]]) -> str:
    return ", ".join(f"{address} ({code} {_text(answer)})" for address, (code, answer) in refused.items())


def _text(answer: bytes | str) -> str:
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    return " ".join(text.split())[:200]
