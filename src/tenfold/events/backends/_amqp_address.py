"""Where a RabbitMQ server is, and how to log in."""

from __future__ import annotations

import re
import ssl
from urllib.parse import parse_qs, unquote, urlsplit

from tenfold.errors import ConfigError

SETTLE_S = 2.0
"""A node of RabbitMQ 3.10 that was killed up to 0.8 s after its first quorum queues were declared came back with queues that
confirm nothing (4 of 4 kills); after a second or more with all of them (5 of 5)."""
_FORM = 'Write "rabbitmq://[user:password@]host[:port][/vhost]", special characters percent-encoded.'


class Address:
    """``rabbitmq[s]://[user[:password]@]host[:port][/vhost]``, or with ``amqp[s]``; the ``s`` is TLS. Without a user it
    is ``guest``, without a path the virtual host ``/``. ``?ssl_ca_certs=file`` names the authority to trust, and
    ``?settle_s=2`` the seconds that a new queue is given to reach the server's disk."""

    def __init__(self, url: str, where: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise _malformed(where, "its port is no number up to 65535, or its host is malformed") from None
        query = parse_qs(parts.query, keep_blank_values=True)
        if not parts.hostname:
            raise _malformed(where, "it names no host")
        if set(query) - {"ssl_ca_certs", "settle_s"}:
            raise _malformed(where, "after the ? it has another option than ssl_ca_certs or settle_s")
        settle = query.get("settle_s", [str(SETTLE_S)])[0]
        if not re.fullmatch(r"\d{1,3}(\.\d+)?", settle):
            raise _malformed(where, "its settle_s is no number of seconds below 1000")
        self.settle_s = float(settle)
        secure = parts.scheme in ("rabbitmqs", "amqps")
        self.host, self.port = parts.hostname, port or (5671 if secure else 5672)
        self.user = unquote(parts.username or "guest")
        self.password = unquote(parts.password or ("" if parts.username else "guest"))
        self.vhost = unquote(parts.path[1:]) or "/"
        self.tls = _tls(query.get("ssl_ca_certs", [""])[0], where) if secure else None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}{'' if self.vhost == '/' else '/' + self.vhost}"


def _malformed(where: str, what: str) -> ConfigError:
    """Quotes nothing of the URL: any part may be the rest of a password."""
    return ConfigError(f"{what}.", where=where, remedy=_FORM)


def _tls(ca_file: str, where: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:
        raise ConfigError(
            f"the file {ca_file} of ssl_ca_certs cannot be read: {error}.", where=where
        ) from None
