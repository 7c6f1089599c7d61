"""A small SMTP server for tests: real sockets, optional STARTTLS and log-in, answers that a test chooses."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class Received:
    """One mail as it came over the wire."""

    sender: str
    recipients: list[str]
    data: bytes
    encrypted: bool
    user: str


@dataclass
class SmtpSink:
    """``answers`` overrides the reply to a verb (``{"RCPT bad@x.org": "550 no"}``); ``HANG`` never replies."""

    answers: dict[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    password: str = ""
    received: list[Received] = field(default_factory=list)
    verbs: list[str] = field(default_factory=list)
    port: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def running(self, *, implicit_tls: bool = False) -> AsyncIterator[SmtpSink]:
        server = await asyncio.start_server(
            self._accept, "127.0.0.1", 0, ssl=self.tls if implicit_tls else None
        )
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            await self._talk(reader, writer)
        writer.close()
        self._tasks.discard(task)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mail = Received("", [], b"", writer.get_extra_info("ssl_object") is not None, "")
        if not await self._reply(writer, "CONNECT", "220 sink ready"):
            return
        while line := (await reader.readline()).decode().strip():
            verb = line.split()[0].upper()
            self.verbs.append(verb)
            argument = line.partition(":")[2].strip().split(" ")[0].strip("<>")
            match verb:
                case "EHLO":
                    offers = ["250-sink", "250-SIZE 30000000"]
                    offers += ["250-STARTTLS"] * (self.tls is not None and not mail.encrypted)
                    offers += ["250-AUTH PLAIN"] * bool(self.password)
                    await self._reply(writer, verb, "\r\n".join([*offers, "250 OK"]))
                case "STARTTLS":
                    await self._reply(writer, verb, "220 go")
                    await writer.start_tls(self.tls)  # type: ignore[arg-type]
                    mail.encrypted = True
                case "AUTH":
                    _, user, password = base64.b64decode(line.split()[2]).decode().split("\0")
                    mail.user = user if password == self.password else ""
                    await self._reply(writer, verb, "235 welcome" if mail.user else "535 wrong password")
                case "MAIL":
                    mail.sender = argument
                    await self._reply(writer, verb, "250 OK")
                case "RCPT":
                    if await self._reply(writer, f"RCPT {argument}", self.answers.get("RCPT", "250 OK")):
                        mail.recipients.append(argument)
                case "DATA":
                    if await self._reply(writer, verb, "354 go"):
                        mail.data = await reader.readuntil(b"\r\n.\r\n")
                        if await self._reply(writer, "END", "250 taken"):
                            self.received.append(mail)
                case "QUIT":
                    await self._reply(writer, verb, "221 bye")
                    return
                case _:
                    await self._reply(writer, verb, "250 OK")

    async def _reply(self, writer: asyncio.StreamWriter, key: str, usual: str) -> bool:
        """Send the answer; whether it was a good one."""
        answer = self.answers.get(key, usual)
        if answer == "HANG":
            await asyncio.Event().wait()
        if answer == "DROP":
            raise ConnectionResetError
        writer.write(answer.encode() + b"\r\n")
        await writer.drain()
        return answer[0] in "23"


def self_signed(name: str = "localhost") -> tuple[bytes, bytes]:
    """``(certificate, key)`` in PEM for ``name`` and 127.0.0.1."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName(
        [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private
