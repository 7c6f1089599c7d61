"""Sending through a real SMTP server of other hands (aiosmtpd): TLS both ways, log-in, what arrives."""

from __future__ import annotations

import asyncio
import contextlib
import email
import ssl
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from support.servers import free_port
from support.smtp import self_signed
from tenfold._core.clock import SystemClock
from tenfold._core.sections import MailSettings
from tenfold.errors import MailRefused, MailUnavailable
from tenfold.mail.backends.smtp import Backend, parse_server
from tenfold.mail.mailer import Mailer
from tenfold.mail.message import Attachment

USER, PASSWORD = "shop", "correct horse"


class Inbox:
    """Keeps what arrives; refuses and delays by the recipient's name."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address.startswith("nobody"):
            return "550 5.1.1 no such mailbox"
        if address.startswith("later"):
            return "451 4.7.1 greylisted, try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(email.message_from_bytes(envelope.content, EmailMessage, policy=default))
        return "250 taken"


@contextlib.contextmanager
def serving(inbox: Inbox, **options: Any) -> Iterator[int]:
    controller = Controller(inbox, hostname="127.0.0.1", port=free_port(), **options)
    controller.start()
    try:
        yield int(controller.port)
    finally:
        controller.stop()


def tls(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For the server, and for a client that trusts it."""
    certificate, key = self_signed("localhost")
    (folder / "pem").write_bytes(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pem")
    return context, ssl.create_default_context(cadata=certificate.decode())


def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (
        USER.encode(),
        PASSWORD.encode(),
    )
    return AuthResult(success=good, handled=good)  # what is not handled is answered with 535


def mailer_for(url: str, trusting: ssl.SSLContext | None = None) -> Mailer:
    mailer = Mailer()
    mailer.bind(MailSettings(url=url, sender="Shop <shop@example.org>"), data_dir=Path(), clock=SystemClock())
    if trusting is not None:
        mailer._backend = Backend(parse_server(url), context=trusting)
    return mailer


def test_a_mail_with_html_and_attachments_arrives_as_it_was_composed() -> None:
    async def send(port: int) -> str:
        mailer = mailer_for(f"smtp://127.0.0.1:{port}")
        attachments = [
            Attachment("ünïcode.csv", b"a,b\r\n.\r\n", "text/csv"),
            Attachment("x.bin", bytes(range(256))),
        ]
        try:
            ids = {
                await mailer.send(
                    "ann@example.org", "Grüße ☺", ".dot\ntext", "<p>html</p>", attachments, key="k"
                )
                for _ in range(2)
            }
        finally:
            await mailer.stop()
        [only] = ids
        return only

    inbox = Inbox()
    with serving(inbox) as port:
        message_id = asyncio.run(send(port))
    mail, again = inbox.mails
    assert mail["Message-ID"] == again["Message-ID"] == message_id
    assert mail["Subject"] == "Grüße ☺"
    plain, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert plain.get_content().replace("\r\n", "\n").rstrip("\n") == ".dot\ntext"
    assert "<p>html</p>" in html.get_content()
    files = {part.get_filename(): part.get_payload(decode=True) for part in mail.iter_attachments()}
    assert files == {"ünïcode.csv": b"a,b\r\n.\r\n", "x.bin": bytes(range(256))}


@pytest.mark.parametrize("how", ["starttls", "implicit"])
def test_tls_and_log_in(how: str, tmp_path: Path) -> None:
    server_side, trusting = tls(tmp_path)
    options: dict[str, Any] = {"authenticator": authenticate, "auth_required": True}
    if how == "starttls":
        options |= {"tls_context": server_side, "require_starttls": True}
        scheme, query = "smtp", "?tls=starttls"
    else:
        options |= {"ssl_context": server_side, "auth_require_tls": False}
        scheme, query = "smtp+tls", ""

    async def send(port: int, password: str, trusted: ssl.SSLContext | None) -> None:
        user = f"{USER}:{password.replace(' ', '%20')}"
        mailer = mailer_for(f"{scheme}://{user}@localhost:{port}{query}", trusted)
        try:
            await mailer.send("ann@example.org", "Hi", "text")
        finally:
            await mailer.stop()

    inbox = Inbox()
    with serving(inbox, **options) as port:
        asyncio.run(send(port, PASSWORD, trusting))
        with pytest.raises(MailRefused, match="535"):
            asyncio.run(send(port, "wrong", trusting))
        with pytest.raises(MailUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            asyncio.run(send(port, PASSWORD, None))
    assert len(inbox.mails) == 1


def test_refused_for_good_and_refused_for_now_are_told_apart() -> None:
    async def send(port: int, to: str) -> None:
        mailer = mailer_for(f"smtp://127.0.0.1:{port}")
        try:
            await mailer.send(to, "Hi", "text")
        finally:
            await mailer.stop()

    with serving(Inbox()) as port:
        with pytest.raises(MailRefused, match="no such mailbox"):
            asyncio.run(send(port, "nobody@example.org"))
        with pytest.raises(MailUnavailable, match="greylisted"):
            asyncio.run(send(port, "later@example.org"))
