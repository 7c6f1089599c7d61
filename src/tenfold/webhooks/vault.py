"""Secrets of endpoints at rest: sealed with a key derived from ``app.secret_key``, bound to their endpoint.

Who reads the database, or a copy of it, cannot sign; who can write it cannot give one endpoint the secret of
another. AES-256-GCM; the text is a version, then nonce and ciphertext in base64.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tenfold.errors import ConfigError

if TYPE_CHECKING:
    import random

_VERSION = "1:"
_NONCE_BYTES = 12


class Vault:
    """``keys``: 32 bytes each; the first one seals, all of them open."""

    def __init__(self, keys: Sequence[bytes], random: random.Random) -> None:
        self._keys, self._random = keys, random

    def seal(self, secret: str, endpoint_id: str) -> str:
        """The form in which ``secret`` is kept."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = self._random.randbytes(_NONCE_BYTES)
        sealed = AESGCM(self._keys[0]).encrypt(nonce, secret.encode(), endpoint_id.encode())
        return _VERSION + base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: str, endpoint_id: str) -> str:
        """The secret. Raises :class:`ConfigError` when no key opens it."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        data = base64.b64decode(sealed.removeprefix(_VERSION))
        for key in self._keys:
            try:
                return (
                    AESGCM(key)
                    .decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], endpoint_id.encode())
                    .decode()
                )
            except InvalidTag:
                continue
        raise ConfigError(
            f"the secret of the webhook endpoint {endpoint_id} cannot be opened with any key in it.",
            where="app.secret_key",
            remedy="Put the key back that was used before, after the new one, or rotate the endpoint's secret.",
        )
