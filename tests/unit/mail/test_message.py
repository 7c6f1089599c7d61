"""Composing mails: what goes in comes out, and nothing becomes a header that is none."""

from __future__ import annotations

from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest

from tenfold.errors import InvalidInput
from tenfold.mail.address import address_key, parse_address
from tenfold.mail.message import Attachment, compose, encode


def roundtrip(*args: Any, **kwargs: Any) -> EmailMessage:
    mail = compose(*args, **{"sender": "Shop <shop@example.org>", **kwargs})
    return message_from_bytes(
        encode(mail, message_id="<id@example.org>", at=1_700_000_000), EmailMessage, policy=default
    )


def test_every_part_arrives_as_it_was_given() -> None:
    message = roundtrip(
        ["Ann Exämple <ann@example.org>", "bob@bücher.example"],
        "Ihre Rechnung über 5 €",
        "Grüße\n.\nFrom here",
        html="<p>Grüße</p>",
        cc="carl@example.org",
        bcc="secret@example.org",
        reply_to="help@example.org",
        attachments=[Attachment("Rechnung ü.csv", b"a,b\r\n\0\xff", "text/csv")],
        headers={"List-Unsubscribe": "<https://example.org/u>"},
    )
    assert message["To"] == "Ann Exämple <ann@example.org>, bob@xn--bcher-kva.example"
    assert message["Subject"] == "Ihre Rechnung über 5 €"
    assert message["Date"] == "Tue, 14 Nov 2023 22:13:20 +0000"
    assert message["Cc"] == "carl@example.org"
    assert message["Bcc"] is None
    assert "secret@" not in message.as_string()
    assert message["List-Unsubscribe"] == "<https://example.org/u>"
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    assert text.get_content().splitlines() == ["Grüße", ".", "From here"]
    assert html.get_content().strip() == "<p>Grüße</p>"
    [attachment] = message.iter_attachments()
    assert attachment.get_filename() == "Rechnung ü.csv"
    assert attachment.get_payload(decode=True) == b"a,b\r\n\0\xff"


INJECTIONS = [
    "\nBcc: evil@example.org",
    "\r\nX: y",
    "\rX: y",
    "\0",
    "\x0b",
    "\x1b[31m",
    "\u2028X: y",
    "\x85X: y",
    "\ud800",
]


@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize(
    "field", ["to", "cc", "bcc", "sender", "reply_to", "subject", "header", "header name", "file"]
)
def test_no_text_smuggles_a_header_in(injection: str, field: str) -> None:
    good: dict[str, Any] = {"to": "ann@example.org", "subject": "Hi", "text": "x", "sender": "a@example.org"}
    compose(**good)
    wrong: dict[str, Any] = {
        "subject": {"subject": "Hi" + injection},
        "header": {"headers": {"X-Note": "a" + injection}},
        "header name": {"headers": {"X-Note" + injection: "a"}},
        "file": {"attachments": [Attachment("a" + injection, b"")]},
    }.get(field) or {field: f"Ann{injection} <ann@example.org>"}
    with pytest.raises(InvalidInput):
        compose(**{**good, **wrong})
    if field in ("to", "cc", "bcc", "sender", "reply_to"):
        with pytest.raises(InvalidInput):
            compose(**{**good, field: f"ann@example.org{injection}"})


@pytest.mark.parametrize(
    "name", ["Bcc", "from", "CONTENT-TYPE", "Content-Transfer-Encoding", "a b", "a:b", "", "é"]
)
def test_headers_that_the_mailer_sets_itself_cannot_be_added(name: str) -> None:
    with pytest.raises(InvalidInput, match="not the name of a header"):
        compose("a@example.org", "s", "t", sender="b@example.org", headers={name: "x"})


@pytest.mark.parametrize(
    "address",
    [
        "", "ann", "@example.org", "ann@", "ann@@example.org", "a b@example.org", "ann@exa mple.org", "ann@-a.org",
        "ann@a..org", "ann@.org", "ann@1.2.3.4", ".ann@example.org", "ann.@example.org", "a..b@example.org",
        "a,b@example.org", "ann@example.org,bob@example.org", "ann@example.org bob@example.org", "<ann@example.org",
        "Ann <ann@example.org> <bob@example.org>", "ann@example.org>", "x" * 65 + "@example.org",
        "a@" + ".".join(["x" * 60] * 5), "ünn@example.org", "ann@[127.0.0.1]", '"ann"@example.org',
    ],
)  # fmt: skip
def test_what_is_no_single_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        parse_address(address)
    with pytest.raises(InvalidInput, match=r"mail to"):
        compose(address, "s", "t", sender="b@example.org")


def test_addresses_are_compared_without_case_and_name() -> None:
    assert address_key(" Ann <Ann.Ex+tag@EXAMPLE.org> ") == "ann.ex+tag@example.org"
    assert address_key("a@Bücher.example") == address_key("A@xn--bcher-kva.example")


def test_all_that_is_wrong_is_reported_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        compose(
            ["a", "b@example.org", "c"],
            "x\ny",
            "t\0",
            sender="no",
            attachments=[Attachment("a/b", b"", "csv")],
        )
    assert [e.path for e in refused.value.errors] == [
        "sender", "to[0]", "to[2]", "subject", "text", "attachments[0]", "attachments[0]",
    ]  # fmt: skip


def test_the_number_of_recipients_and_the_size_are_bounded() -> None:
    with pytest.raises(InvalidInput, match="1 to 100 addresses"):
        compose([f"a{i}@example.org" for i in range(101)], "s", "t", sender="b@example.org")
    with pytest.raises(InvalidInput, match="1 to 100 addresses"):
        compose([], "s", "t", sender="b@example.org")
    big = compose(
        "a@example.org", "s", "t", sender="b@example.org", attachments=[Attachment("a", b"\xff" * 20_000_000)]
    )
    with pytest.raises(InvalidInput, match="at most 25,000,000"):
        encode(big, message_id="<a@b>", at=0)


def test_content_does_not_show_in_the_repr() -> None:
    mail = compose(
        "a@example.org",
        "s",
        "canary-1",
        sender="b@example.org",
        html="canary-2",
        attachments=[Attachment("a", b"canary")],
    )
    assert "canary" not in repr(mail)
