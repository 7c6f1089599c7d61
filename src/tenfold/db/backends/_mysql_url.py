"""``mysql://user:password@host:3306,host2:3306/database?ssl=verify&ssl_ca=/path`` in its parts."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from tenfold._core.text import nearest
from tenfold.db.backends._mysql_target import Target
from tenfold.errors import ConfigError

if TYPE_CHECKING:
    from tenfold._core.sections import DatabaseSettings

_PORT = 3306
_OPTIONS = ("ssl", "ssl_ca")
_SSL = ("off", "on", "verify")


def targets_of(url: str, settings: DatabaseSettings) -> list[Target]:
    """Where to connect, in the order of the URL. Raises ConfigError for what is wrong with it."""
    _, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    authority, _, database = rest.partition("/")
    user, at, hosts = authority.rpartition("@")
    user, _, password = user.partition(":")
    if not at or not user or not database or "/" in database:
        raise _wrong("it needs a user, a host and the name of a database.")
    tls = _tls(dict(parse_qsl(query, keep_blank_values=True)))
    return [
        Target(
            host, port, unquote(user), unquote(password), unquote(database), ssl=tls,
            statement_timeout_s=settings.statement_timeout_s, lock_timeout_s=settings.lock_timeout_s,
            connect_timeout_s=settings.connect_timeout_s,
        )
        for host, port in map(_host, hosts.split(","))
    ]  # fmt: skip


def _host(text: str) -> tuple[str, int]:
    if text.startswith("["):  # an IPv6 address
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    if not host or (port and not (port.isdecimal() and 0 < int(port) < 65536)):
        raise _wrong(f"{text!r} is not a host with a port.")
    return unquote(host), int(port) if port else _PORT


def _tls(options: dict[str, str]) -> ssl.SSLContext | None:
    for name in options:
        if name not in _OPTIONS:
            raise _wrong(f"it has no option {name!r}.{nearest(name, _OPTIONS)}")
    ca = options.get("ssl_ca")
    mode = options.get("ssl", "verify" if ca else "off")
    if mode not in _SSL:
        raise _wrong(f"ssl may be {', '.join(_SSL)}, not {mode!r}.")
    if mode == "off":
        return None
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise _wrong(f"the certificates in ssl_ca cannot be read: {error}.") from error
    if mode == "on":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _wrong(what: str) -> ConfigError:
    return ConfigError(
        f"this is not the URL of a MySQL or MariaDB database: {what}", where="database.url",
        remedy="Write mysql://user:password@host:3306/database, where needed with ?ssl=verify&ssl_ca=/path (ssl=on "
        "encrypts without checking the certificate); several hosts are separated by commas.",
    )  # fmt: skip
