"""Sending: by SMTP to a real server, or into the mailbox folder."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
from tests.support.smtp import SmtpSink, self_signed

from tenfold._core.clock import ManualClock, SystemClock
from tenfold._core.context import Context, use
from tenfold._core.sections import MailSettings
from tenfold.errors import ConfigError, InvalidInput, MailRefused, MailUnavailable, NotBound, NotFound
from tenfold.mail import mailbox
from tenfold.mail.backends.smtp import Backend, Server, parse_server
from tenfold.mail.contract import Envelope
from tenfold.mail.mailer import Mailer
from tenfold.mail.message import Attachment

MAIL = Envelope("<id@x.org>", "shop@x.org", ("ann@x.org",), b"Subject: hi\r\n\r\nline\r\n.dot\r\n")


def against(sink: SmtpSink, test: Callable[[SmtpSink], Awaitable[None]]) -> None:
    async def run() -> None:
        async with sink.running():
            await test(sink)

    asyncio.run(run())


async def deliver(sink: SmtpSink, timeout_s: float = 5, **server: str) -> None:
    backend = Backend(Server("127.0.0.1", sink.port, "off", **server))
    try:
        await backend.deliver(MAIL, timeout_s)
    finally:
        await backend.stop()


# ── SMTP ──


def test_a_mail_reaches_the_server_with_envelope_and_content(tmp_path: Path) -> None:
    async def test(sink: SmtpSink) -> None:
        mailer = Mailer()
        settings = MailSettings(url=f"smtp://127.0.0.1:{sink.port}", sender="Shop <shop@example.org>")
        mailer.bind(settings, data_dir=tmp_path, clock=SystemClock())
        message_id = await mailer.send(["ann@example.org"], "Hi ☺", "text\n.\nend", bcc="b@example.org")
        await mailer.stop()
        [mail] = sink.received
        assert mail.sender == "shop@example.org"
        assert mail.recipients == ["ann@example.org", "b@example.org"]
        message = message_from_bytes(mail.data, policy=default)
        assert (message["Message-ID"], message["Subject"], message["Bcc"]) == (message_id, "Hi ☺", None)

    against(SmtpSink(), test)


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({"RCPT": "550 no such user"}, MailRefused),
        ({"RCPT": "451 greylisted"}, MailUnavailable),
        ({"MAIL": "552 too big"}, MailRefused),
        ({"MAIL": "421 later"}, MailUnavailable),
        ({"DATA": "554 spam"}, MailRefused),
        ({"END": "554 spam after all"}, MailRefused),
        ({"END": "452 disk full"}, MailUnavailable),
        ({"CONNECT": "421 too busy"}, MailUnavailable),
        ({"CONNECT": "554 go away"}, MailRefused),
        ({"CONNECT": "DROP"}, MailUnavailable),
        ({"END": "DROP"}, MailUnavailable),
        ({"MAIL": "nonsense"}, MailUnavailable),
    ],
)
def test_temporary_answers_can_be_tried_again_and_permanent_ones_not(
    answers: dict[str, str], error: type[Exception]
) -> None:
    async def test(sink: SmtpSink) -> None:
        with pytest.raises(error, match="mail server 127"):
            await deliver(sink)
        assert sink.received == []

    against(SmtpSink(answers), test)


def test_a_server_that_is_not_there_can_be_tried_again() -> None:
    async def run() -> None:
        sink = SmtpSink()
        async with sink.running():
            pass
        with pytest.raises(MailUnavailable, match="cannot be reached"):
            await deliver(sink)

    asyncio.run(run())


def test_a_rude_farewell_does_not_make_a_delivered_mail_fail() -> None:
    async def test(sink: SmtpSink) -> None:
        await deliver(sink)
        assert len(sink.received) == 1

    against(SmtpSink({"QUIT": "554 whatever"}), test)
    against(SmtpSink({"QUIT": "DROP"}), test)


def test_a_mail_that_some_got_is_not_sent_again() -> None:
    async def run() -> None:
        async with SmtpSink({"RCPT bad@x.org": "451 later"}).running() as sink:
            backend = Backend(Server("127.0.0.1", sink.port, "off"))
            both = Envelope("<id@x.org>", "shop@x.org", ("ann@x.org", "bad@x.org"), MAIL.data)
            with pytest.raises(MailRefused, match=r"took the mail, but refused bad@x.org \(451 later\)"):
                await backend.deliver(both, 5)
            assert sink.received[0].recipients == ["ann@x.org"]
            await backend.stop()

    asyncio.run(run())


@pytest.mark.parametrize("verb", ["CONNECT", "MAIL", "END"])
def test_a_silent_server_costs_the_deadline_and_no_more(verb: str) -> None:
    async def test(sink: SmtpSink) -> None:
        start = time.monotonic()
        with pytest.raises(MailUnavailable, match=r"within|reached|closed"):
            await deliver(sink, timeout_s=0.2)
        assert 0.1 < time.monotonic() - start < 2

    against(SmtpSink({verb: "HANG"}), test)


def test_the_deadline_of_the_work_in_hand_bounds_the_sending(tmp_path: Path) -> None:
    async def test(sink: SmtpSink) -> None:
        mailer, clock = Mailer(), SystemClock()
        mailer.bind(MailSettings(url=f"smtp://127.0.0.1:{sink.port}"), data_dir=tmp_path, clock=clock)
        with use(Context(deadline=clock.monotonic() + 0.15)), pytest.raises(MailUnavailable):
            await mailer.send("ann@x.org", "s", "t", sender="shop@x.org")
        with (
            use(Context(deadline=clock.monotonic() - 1)),
            pytest.raises(MailUnavailable, match="deadline passed"),
        ):
            await mailer.send("ann@x.org", "s", "t", sender="shop@x.org")
        await mailer.stop()

    against(SmtpSink({"MAIL": "HANG"}), test)


def tls_sink(tmp_path: Path, **options: str) -> tuple[SmtpSink, ssl.SSLContext]:
    certificate, key = self_signed()
    (tmp_path / "cert.pem").write_bytes(certificate + key)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(tmp_path / "cert.pem")
    return SmtpSink(tls=server, **options), ssl.create_default_context(cadata=certificate.decode())  # type: ignore[arg-type]


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_the_password_travels_encrypted(tmp_path: Path, tls: str) -> None:
    async def run() -> None:
        sink, client = tls_sink(tmp_path, password="pa:ss")
        async with sink.running(implicit_tls=tls == "implicit"):
            server = Server("127.0.0.1", sink.port, tls, "me", "pa:ss")  # type: ignore[arg-type]
            await Backend(server, context=client).deliver(MAIL, 5)
            [mail] = sink.received
            assert (mail.encrypted, mail.user) == (True, "me")
            wrong = Server("127.0.0.1", sink.port, tls, "me", "wrong")  # type: ignore[arg-type]
            with pytest.raises(MailRefused, match="535"):
                await Backend(wrong, context=client).deliver(MAIL, 5)

    asyncio.run(run())


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        sink, _ = tls_sink(tmp_path)
        async with sink.running():
            with pytest.raises(MailUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
                await Backend(Server("127.0.0.1", sink.port, "starttls")).deliver(MAIL, 5)
            assert sink.received == []

    asyncio.run(run())


def test_a_server_without_starttls_gets_neither_password_nor_mail() -> None:
    async def test(sink: SmtpSink) -> None:
        with pytest.raises(MailRefused, match="STARTTLS"):
            await Backend(Server("127.0.0.1", sink.port, "starttls", "me", "secret")).deliver(MAIL, 5)
        assert "AUTH" not in sink.verbs
        assert sink.received == []

    against(SmtpSink(password="secret"), test)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://mx.example.org", Server("mx.example.org", 587, "starttls")),
        ("smtp://me:p%40ss@mx.example.org:25", Server("mx.example.org", 25, "starttls", "me", "p@ss")),
        ("smtp+tls://me:x@mx.example.org", Server("mx.example.org", 465, "implicit", "me", "x")),
        ("smtp://localhost", Server("localhost", 25, "off")),
        ("smtp://127.0.0.1:1025", Server("127.0.0.1", 1025, "off")),
        ("smtp://localhost?tls=starttls", Server("localhost", 587, "starttls")),
        ("smtp://relay.internal?tls=off", Server("relay.internal", 25, "off")),
    ],
)
def test_the_url_says_where_and_how(url: str, server: Server) -> None:
    assert parse_server(url) == server


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("smtp://", "names no host"),
        ("smtp://h:port", "port is not a number"),
        ("smtp://me:canary@mx.example.org?tls=off", "in the clear"),
        ("smtp://h?tls=maybe", "tls=maybe does not exist"),
        ("smtp://h?ssl=1", "an option that does not exist: 'ssl'"),
    ],
)
def test_a_url_that_cannot_work_is_refused_without_its_password(url: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as refused:
        parse_server(url)
    assert "canary" not in str(refused.value)
    assert "canary" not in repr(Server("h", 1, "off", "me", "canary"))


# ── mailbox ──


def bound(tmp_path: Path) -> Mailer:
    mailer = Mailer()
    mailer.bind(MailSettings(sender="shop@example.org"), data_dir=tmp_path, clock=ManualClock())
    return mailer


def test_without_a_server_mails_are_kept_as_files_and_can_be_read(tmp_path: Path) -> None:
    async def run() -> None:
        mailer = bound(tmp_path)
        await mailer.send("ann@example.org", "First", "text", html="<b>html</b><script>x</script>")
        await mailer.send(
            "bob@example.org", "Second", "t", attachments=[Attachment("a.csv", b"1,2", "text/csv")]
        )

    asyncio.run(run())
    folder = tmp_path / "mailbox"
    newest, oldest = mailbox.entries(folder)
    assert (newest.subject, oldest.subject, oldest.to) == ("Second", "First", "ann@example.org")
    assert mailbox.entries(folder, limit=1, offset=1) == [oldest]
    assert mailbox.count(folder) == 2
    first, second = mailbox.read(folder, oldest.id), mailbox.read(folder, newest.id)
    assert (first.text.strip(), first.html) == ("text", "<b>html</b><script>x</script>\n")
    assert second.attachments == [("a.csv", "text/csv", 3)]
    assert "sandbox" in mailbox.HTML_HEADERS["Content-Security-Policy"]
    assert all(file.suffix == ".eml" for file in folder.iterdir()), "no draft is left behind"


def test_a_mail_sent_again_with_its_key_is_there_once(tmp_path: Path) -> None:
    async def run() -> None:
        mailer = bound(tmp_path)
        ids = await asyncio.gather(
            *(mailer.send("ann@example.org", "Receipt", "t", key="receipt-7") for _ in range(20))
        )
        assert len(set(ids)) == 1
        await mailer.send("ann@example.org", "Receipt", "t", key="receipt-8")
        await mailer.send("ann@example.org", "Receipt", "t")
        await mailer.send("ann@example.org", "Receipt", "t")

    asyncio.run(run())
    assert mailbox.count(tmp_path / "mailbox") == 4


@pytest.mark.parametrize(
    "mail_id", ["", "../secret", "x" * 32, "a" * 31, "A" * 32, "../" + "a" * 29, "a" * 32]
)
def test_an_id_that_is_none_leads_nowhere(tmp_path: Path, mail_id: str) -> None:
    (tmp_path / "secret.eml").write_text("x")
    with pytest.raises(NotFound):
        mailbox.read(tmp_path / "mailbox", mail_id)


def test_hostile_files_in_the_mailbox_break_nothing(tmp_path: Path) -> None:
    contents = [
        b"", b"\0" * 100, b"\xff\xfe", b"Subject: =?x?q?=\r\nContent-Type: text/html; charset=nope\r\n\r\n<p>\xff",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: a\r\n", b"From: <<<>>>,,,\r\n\r\n",
        b"Subject: " + b"a" * 200_000, b"Date: never\r\nTo: @@@\r\n\r\n",
    ]  # fmt: skip
    for i, content in enumerate(contents):
        (tmp_path / f"{i:032x}.eml").write_bytes(content)
    (tmp_path / "other.txt").write_text("not a mail")
    listed = mailbox.entries(tmp_path)
    assert len(listed) == len(contents)
    for entry in listed:
        mailbox.read(tmp_path, entry.id)


def test_an_empty_or_missing_mailbox_is_empty(tmp_path: Path) -> None:
    assert mailbox.entries(tmp_path / "none") == []
    assert mailbox.count(tmp_path / "none") == 0


def test_a_mailbox_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "mailbox").write_text("a file is in the way")
    with pytest.raises(MailUnavailable, match="cannot be written"):
        asyncio.run(bound(tmp_path).send("ann@example.org", "s", "t"))


# ── the facade ──


def test_an_unbound_mailer_and_wrong_settings_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotBound, match="before its app started"):
        asyncio.run(Mailer().send("a@example.org", "s", "t"))
    for settings, sentence in (
        (MailSettings(url="smpt://h"), r"mail.url: no mail backend speaks 'smpt'.*Did you mean 'smtp'"),
        (MailSettings(sender="nobody"), "mail.sender: it is not an e-mail address"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            Mailer().bind(settings, data_dir=tmp_path, clock=ManualClock())


def test_a_wrong_address_sends_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        asyncio.run(bound(tmp_path).send(["ann@example.org", "nope"], "s", "t"))
    assert mailbox.count(tmp_path / "mailbox") == 0


def test_the_log_has_neither_addresses_nor_content(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        asyncio.run(bound(tmp_path).send("canary@example.net", "canary", "canary", key="k"))
    assert "went to 1 recipient" in caplog.text
    assert "canary" not in caplog.text
