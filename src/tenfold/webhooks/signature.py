"""Signatures of the Standard Webhooks specification 1.0: HMAC-SHA256 over id, time and body.

Secrets are text: ``whsec_`` and base64. What has no such prefix is taken as base64 too, as the specification's
libraries do. A request may carry one signature per secret, so that a secret can be replaced without a moment in which
deliveries fail.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

PREFIX = "whsec_"
SECRET_BYTES = 32
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64
"""What the specification allows."""


def new_secret(random: random.Random) -> str:
    """A fresh secret of 32 bytes, as it is handed to the receiver."""
    return PREFIX + base64.b64encode(random.randbytes(SECRET_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """The key inside a secret. Raises ValueError with a sentence that does not repeat it."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"the secret is not {PREFIX} and base64.") from None
    if not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise ValueError(
            f"the secret has {len(key)} bytes; from {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} are allowed."
        )
    return key


def sign(secrets: Iterable[str], id_: str, timestamp: int, body: bytes) -> str:
    """The value of ``webhook-signature``: one signature per secret."""
    signed = b"%s.%d.%s" % (id_.encode(), timestamp, body)
    return " ".join(f"v1,{_digest(key_of(secret), signed)}" for secret in secrets)


def is_signed(secrets: Sequence[str], id_: str, timestamp: str, body: bytes, signatures: str) -> bool:
    """Whether one of ``signatures`` is right by one of ``secrets``. The time does not depend on which is."""
    signed = b".".join((id_.encode(), timestamp.encode(), body))
    expected = [_digest(key_of(secret), signed).encode() for secret in secrets]
    given = [part.removeprefix("v1,").encode() for part in signatures.split() if part.startswith("v1,")]
    matches = [hmac.compare_digest(one, other) for one in expected for other in given]
    return any(matches)


def _digest(key: bytes, signed: bytes) -> str:
    return base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
