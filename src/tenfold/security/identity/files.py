"""Files of keys and certificates: read only when nobody else could have read or changed them, written whole.

``tenfold identity`` lays a folder out like this::

    identity/
      orders/              mode 700, for the processes of `orders` alone
        3f…a1.jwk          mode 600: a private key (RFC 7517, RFC 8037)
        certificate.key    mode 600
        certificate.pem
      public/              for everybody to read and nobody to write
        orders.jwks        the public keys of `orders`
        ca.pem             who signs certificates
      ca/                  mode 700, for whoever issues; no service needs it
        ca.key             mode 600
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tenfold.errors import ConfigError

FILE_BYTES_MAX = 262_144
READ_BY_OTHERS = 0o077
WRITTEN_BY_OTHERS = 0o022

Stamp = tuple[tuple[str, int, int, int, int], ...]
"""What changes when a file of a folder does: names with inode, size and times."""


def read_private(path: Path) -> bytes:
    """A file that only its owner may read, who is this user or root. Raises ConfigError."""
    return _read(
        path,
        READ_BY_OTHERS,
        "others than its owner may read this key",
        f"Run: chmod 600 {path}; then, as somebody may have read it: tenfold identity rotate",
    )


def read_public(path: Path) -> bytes:
    """A file that only its owner may write, who is this user or root. Raises ConfigError."""
    return _read(
        path,
        WRITTEN_BY_OTHERS,
        "others than its owner may change what is trusted here",
        f"Look at what it holds, then run: chmod 644 {path}",
    )


def write(path: Path, content: bytes, *, private: bool) -> None:
    """Write a file whole or not at all: who reads it meanwhile finds the former one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    mode = 0o600 if private else 0o644
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, mode)  # whatever the umask has left of it
        file.write(content)
        file.flush()
        os.fsync(fd)
    draft.replace(path)


def make_folder(path: Path, *, private: bool) -> None:
    """Make a folder that others cannot enter (``private``) or cannot write to."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700 if private else 0o755)


def stamp(*folders: Path) -> Stamp:
    """Changes when a file in one of the folders was made, changed, replaced or removed."""
    return tuple(sorted(_stamps(folders)))


def _stamps(folders: tuple[Path, ...]) -> list[tuple[str, int, int, int, int]]:
    found: list[tuple[str, int, int, int, int]] = []
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    # Followed: secrets that a cluster mounts are links, and change by the link's target.
                    info = os.stat(entry.path)
                    found.append((entry.path, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns))
        except OSError:  # a folder, or a file of it, that is gone has no stamp, which is a change too
            continue
    return found


def _read(path: Path, forbidden: int, what: str, remedy: str) -> bytes:
    try:
        with path.open("rb") as file:
            info = os.fstat(
                file.fileno()
            )  # of the very file that is read, not of what the name stands for later
            mode = stat.S_IMODE(info.st_mode)
            if mode & forbidden:
                raise ConfigError(f"{what} (mode {mode:o}).", where=str(path), remedy=remedy)
            if info.st_uid not in (0, os.geteuid()):
                raise ConfigError(
                    "it belongs to another user.",
                    where=str(path),
                    remedy="Let the user that runs the service own it, or root.",
                )
            return file.read(FILE_BYTES_MAX)
    except FileNotFoundError:
        raise ConfigError(
            "there is no such file.", where=str(path), remedy="Make it by: tenfold identity issue"
        ) from None
    except OSError as error:
        raise ConfigError(f"it cannot be read: {error.strerror or error}.", where=str(path)) from None
