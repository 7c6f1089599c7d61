"""How the webhooks of different senders prove where they come from. Pure: a request goes in, who it is comes out.

========== ================================= ==================== ======================
provider   signature                         id                   time
========== ================================= ==================== ======================
standard   ``webhook-signature`` (v1)        ``webhook-id``       ``webhook-timestamp``
stripe     ``Stripe-Signature`` (t=, v1=)    ``id`` of the body   ``t`` of the signature
github     ``X-Hub-Signature-256``           digest of the body   none
========== ================================= ==================== ======================

GitHub signs neither its id (``X-GitHub-Delivery``) nor a time: who has seen a delivery could send it again under an
id of their choice. So its deliveries are told apart by what is signed, and the same body is handled once.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import msgspec

from tenfold.errors import Unauthorized
from tenfold.webhooks import signature

ProviderName = Literal["standard", "stripe", "github"]

ID_MAX = 255
TOLERANCE_S = 300.0
"""How old, or how far in the future, a signed time may be."""

_ID = re.compile(r"[!-~]{1,255}")
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Verified:
    """What is proved of one request."""

    id: str
    kind: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """One request, not yet trusted. Names of headers are in lower case."""

    headers: Mapping[str, str]
    body: bytes
    now: float


class WrongSignature(Unauthorized):
    """The webhook is not signed by who it claims to come from, or was sent too long ago."""

    kind = "wrong-signature"


class Provider(ABC):
    """One way of signing. Subclass it for a sender that none of the others fits."""

    @abstractmethod
    def verify(self, arrived: Arrived, secrets: Sequence[str], tolerance_s: float) -> Verified:
        """Who sent it. Raises :class:`WrongSignature` with a sentence that helps its sender, not a forger."""

    def check(self, secret: str) -> None:
        """Raise ValueError for a secret that no such sender has."""
        if not secret:
            raise ValueError("the secret is empty.")


class Standard(Provider):
    """Standard Webhooks 1.0: Svix, OpenAI, Supabase, Twilio and others; and ourselves."""

    def verify(self, arrived: Arrived, secrets: Sequence[str], tolerance_s: float) -> Verified:
        id_ = _header(arrived, "webhook-id")
        sent = _header(arrived, "webhook-timestamp")
        given = _header(arrived, "webhook-signature")
        _check_time(sent, arrived.now, tolerance_s)
        # A dot in the id could be moved into the time without changing what is signed.
        if not _ID.fullmatch(id_) or "." in id_:
            raise WrongSignature("webhook-id has characters that an id does not have, or too many.")
        if not signature.is_signed(secrets, id_, sent, arrived.body, given):
            raise _wrong("webhook-signature")
        return Verified(id_, _member(arrived.body, "type"))

    def check(self, secret: str) -> None:
        signature.key_of(secret)


class Stripe(Provider):
    """Stripe: ``t=1700000000,v1=…``, HMAC-SHA256 in hex over time and body; the secret is taken as it is."""

    def verify(self, arrived: Arrived, secrets: Sequence[str], tolerance_s: float) -> Verified:
        parts = [part.strip().partition("=") for part in _header(arrived, "stripe-signature").split(",")]
        sent = next((value for name, _, value in parts if name == "t"), "")
        given = [value for name, _, value in parts if name == "v1"]
        _check_time(sent, arrived.now, tolerance_s)
        if not _is_hex_signed(secrets, sent.encode() + b"." + arrived.body, given):
            raise _wrong("Stripe-Signature")
        id_ = _member(arrived.body, "id")
        if not _ID.fullmatch(id_):
            raise WrongSignature("The body has no id by which to tell it from others.")
        return Verified(id_, _member(arrived.body, "type"))


class GitHub(Provider):
    """GitHub: ``sha256=…``, HMAC-SHA256 in hex over the body; the secret is taken as it is."""

    def verify(self, arrived: Arrived, secrets: Sequence[str], tolerance_s: float) -> Verified:
        scheme, _, given = _header(arrived, "x-hub-signature-256").partition("=")
        if scheme != "sha256" or not _is_hex_signed(secrets, arrived.body, [given]):
            raise _wrong("X-Hub-Signature-256")
        return Verified(
            hashlib.sha256(arrived.body).hexdigest(), arrived.headers.get("x-github-event", "")[:ID_MAX]
        )


PROVIDERS: Mapping[str, Provider] = {"standard": Standard(), "stripe": Stripe(), "github": GitHub()}


class _Envelope(msgspec.Struct):
    id: Any = ""
    type: Any = ""


class _Members:
    decode: ClassVar = msgspec.json.Decoder(_Envelope).decode


def _member(body: bytes, name: str) -> str:
    """A text at the top of the body; empty when there is none."""
    try:
        value = getattr(_Members.decode(body), name)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    return value[:ID_MAX] if isinstance(value, str) else ""


def _header(arrived: Arrived, name: str) -> str:
    value = arrived.headers.get(name, "")
    if not value:
        raise WrongSignature(f"The header {name} is missing.")
    return value


def _check_time(sent: str, now: float, tolerance_s: float) -> None:
    if not _SECONDS.fullmatch(sent):
        raise WrongSignature("The signed time is not a number of seconds since 1970.")
    if abs(now - int(sent)) > tolerance_s:
        raise WrongSignature(
            f"The webhook was signed {now - int(sent):+.0f} s ago; {tolerance_s:g} s are tolerated either way. "
            "Either it is being replayed, or a clock is wrong."
        )


def _is_hex_signed(secrets: Sequence[str], signed: bytes, given: Sequence[str]) -> bool:
    expected = [hmac.digest(secret.encode(), signed, "sha256").hex().encode() for secret in secrets]
    matches = [hmac.compare_digest(one, other.encode()) for one in expected for other in given]
    return any(matches)


def _wrong(header: str) -> WrongSignature:
    return WrongSignature(f"{header} does not fit the body and the secret that is configured here.")
