"""The URL of a PostgreSQL database: checked, and in the form that both drivers read."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from tenfold._core.text import nearest
from tenfold.errors import ConfigError

OPTIONS = frozenset({"host", "sslmode", "sslrootcert", "sslcert", "sslkey", "application_name"})
"""What may stand after the ``?``; everything else has a setting or is not needed."""
_FILES = frozenset({"sslrootcert", "sslcert", "sslkey"})
_EXAMPLE = "postgresql://user:password@host:5432/database"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is. ``dsn`` holds the password: never show it."""

    dsn: str
    hosts: str
    """``host:port``, several separated by commas; for messages."""
    user: str
    database: str
    pooled: bool
    """``postgresql+psycopg://``: a pooler gives another session to every transaction."""

    @property
    def several(self) -> bool:
        return "," in self.hosts


def parse(url: str) -> Address:
    """Check ``url``. Raises ConfigError, without the password."""
    scheme, _, rest = url.partition("://")
    name, _, driver = scheme.partition("+")
    if not rest:
        raise _wrong("it has nothing behind ://, or no :// at all.")
    if name not in ("postgresql", "postgres") or driver not in ("", "asyncpg", "psycopg"):
        raise _wrong(f"it begins with {scheme!r}.")
    try:
        parts = urlsplit(f"postgresql://{rest}")
    except ValueError:  # an IPv6 address without its end
        raise _wrong("its host is no address.") from None
    login, _, hosts = parts.netloc.rpartition("@")
    if "@" in rest and not login:  # what follows may be the rest of the password: nothing of it is quoted
        raise _wrong("its password has a / ? or # in it.")
    options = parse_qsl(parts.query, keep_blank_values=True)
    for name, value in options:
        if name not in OPTIONS:
            raise _wrong(f"it has an unknown option {name!r}.{nearest(name, OPTIONS)}")
        hosts = hosts or (value if name == "host" else "")
        _check_file(name, value)
    database = unquote(parts.path[1:])
    if not database or "/" in database:
        raise _wrong("it names no database.")
    _check_ports(hosts)
    return Address(
        dsn=f"postgresql://{rest}", hosts=hosts or "localhost", user=unquote(login.partition(":")[0]),
        database=database, pooled=driver == "psycopg",
    )  # fmt: skip


def _check_ports(hosts: str) -> None:
    for host in hosts.split(","):
        port = "" if host.endswith("]") or host.startswith("/") else host.rpartition(":")[2]
        if ":" in host and port and not (port.isdecimal() and 0 < int(port) < 65_536):
            raise _wrong("its port is no number from 1 to 65535.")


def _check_file(option: str, path: str) -> None:
    """Certificates and keys: drivers say of one that is missing that the server cannot be reached."""
    if option not in _FILES or (option == "sslrootcert" and path == "system"):
        return
    try:
        if option == "sslrootcert":
            ssl.create_default_context(cafile=path)
        else:
            Path(path).read_bytes()
    except OSError as error:  # of which ssl.SSLError is one
        raise ConfigError(
            f"the file of its {option} ({path}) cannot be used: {error.strerror or error}.", where="database.url",
            remedy="Correct the path, or put the file there, readable for the user that runs the app.",
        ) from None  # fmt: skip


def _wrong(what: str) -> ConfigError:
    return ConfigError(
        f"it is not the URL of a PostgreSQL database: {what}", where="database.url",
        remedy=f"Write {_EXAMPLE}, special characters in the password percent-encoded.",
    )  # fmt: skip
