"""The app's secret key, and the keys derived from it.

``app.secret_key`` may hold several keys, separated by blanks: the first one signs, all of them verify. To rotate,
put the new key in front, and remove the old one after the longest-lived signature has expired.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

from tenfold._core.clock import Clock
from tenfold._core.sections import AppSettings
from tenfold.errors import ConfigError

SECRET_BYTES_MIN = 32
"""RFC 7518 § 3.2: a key for HS256 has at least as many bits as the hash."""

_DISTINCT_MIN = 10
_FILE = "secret_key"
_MAKE_ONE = "python -c 'import secrets; print(secrets.token_urlsafe(48))'"


class SecretKey:
    """The secret of an app. It is never printed; what other parts use are keys derived from it."""

    __slots__ = ("_secrets",)

    def __init__(self, *secrets: bytes) -> None:
        self._secrets = secrets

    def derive(self, purpose: str) -> list[bytes]:
        """32 bytes for ``purpose`` from each secret, the current one first (HKDF-SHA256, RFC 5869).

        Keys of different purposes tell nothing about each other or about the secret.
        """
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        info = f"tenfold/{purpose}".encode()
        return [HKDF(SHA256(), 32, salt=None, info=info).derive(secret) for secret in self._secrets]

    def __repr__(self) -> str:
        return "SecretKey(••••••)"


def secret_key(settings: AppSettings, data_dir: Path, clock: Clock) -> SecretKey:
    """The app's secret from its settings; in development made once and kept in ``data_dir``.

    Raises :class:`ConfigError` when it is missing in production, too short, or plainly not random.
    """
    return SecretKey(*(check(settings) or [_kept(data_dir / _FILE, clock)]))


def check(settings: AppSettings) -> list[bytes]:
    """The secrets that the settings hold; none in development, where one is made. Reads no file.

    Raises :class:`ConfigError` like :func:`secret_key`.
    """
    if settings.env == "production" and not settings.secret_key.strip():
        raise ConfigError(
            "production needs a secret key to sign tokens with.",
            where="app.secret_key",
            remedy=f"Set TENFOLD_APP_SECRET_KEY to the output of: {_MAKE_ONE}",
        )
    return [_checked(part) for part in settings.secret_key.split()]


def _checked(text: str) -> bytes:
    if len(text.encode()) < SECRET_BYTES_MIN or len(set(text)) < _DISTINCT_MIN:
        raise ConfigError(
            f"the secret key can be guessed: it needs at least {SECRET_BYTES_MIN} random bytes.",
            where="app.secret_key",
            remedy=f"Use the output of: {_MAKE_ONE}",
        )
    return text.encode()


def _kept(path: Path, clock: Clock) -> bytes:
    """The secret in ``path``, made by whichever process comes first; only its owner can read the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _make(path, clock)
    path.chmod(0o600)
    secret = path.read_bytes().strip()
    if len(secret) < SECRET_BYTES_MIN:
        raise ConfigError(
            "the file does not hold a secret key.",
            where=str(path),
            remedy="Delete it; a new one is made at the next start, and everybody has to log in again.",
        )
    return secret


def _make(path: Path, clock: Clock) -> None:
    secret = base64.urlsafe_b64encode(clock.random.randbytes(48))
    draft = path.with_name(f"{path.name}.{clock.uuid()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
        # A link either appears whole or not at all, and never replaces what another process has made.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
