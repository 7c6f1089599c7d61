"""What the configurations of all balancers have in common."""

from __future__ import annotations

import msgspec
from msgspec import Struct

CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384"
    ":ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
"""Of TLS 1.2: with forward secrecy, and authenticated. Those of 1.3 are all good."""
COMPRESSED = (
    "application/json application/problem+json application/javascript application/xml application/wasm image/svg+xml"
    " text/css text/plain text/javascript text/csv text/xml"
)
"""Kinds of answers that are worth it; those of events (text/event-stream) would be held back."""


def address(host: str, port: int) -> str:
    """``127.0.0.1:80`` or ``[::1]:80``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def https_port(port: int) -> str:
    """What follows the host's name in an address of HTTPS: nothing for its own port."""
    return "" if port == 443 else f":{port}"


def seconds(number: float) -> str:
    """``2s`` or ``1500ms``: both balancers know whole numbers only."""
    return f"{number:g}s" if number == int(number) else f"{round(number * 1000)}ms"


class Refusal(Struct, frozen=True):
    """What a balancer answers by itself: a problem document (RFC 9457), like the app's."""

    status: int
    title: str
    detail: str
    retry_after_s: int = 0

    def document(self) -> str:
        """The body, without a quote in it that would end the text it is put into."""
        members = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}
        return msgspec.json.encode(members).decode()


REFUSALS = (
    Refusal(404, "Not Found", "Nothing is served at this address."),
    Refusal(413, "Content Too Large", "The body of the request is larger than what is taken here."),
    Refusal(
        502,
        "Bad Gateway",
        "No instance took this, or the one that worked on it broke off: it may have been done.",
        1,
    ),
    Refusal(503, "Service Unavailable", "No instance is there to answer.", 1),
    Refusal(504, "Gateway Timeout", "The instance that works on this did not answer in time.", 1),
)
