"""Where a broker is and how to log in, from ``events.url``: one form for Kafka, NATS and SQS."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from tenfold._core.text import nearest
from tenfold.errors import ConfigError

WHERE = "events.url"
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


@dataclass(frozen=True, slots=True)
class Address:
    """``scheme://[user[:password]@]host[:port][,host…][/path][?option=value&…]``, taken apart."""

    hosts: tuple[str, ...]
    """Each ``host:port``."""
    user: str
    password: str
    options: Mapping[str, str]

    @classmethod
    def parse(cls, url: str, *, form: str, options: tuple[str, ...], port: int | None) -> Address:
        """``port`` stands where the URL has none. Raises ConfigError, which quotes nothing of the URL but the name of
        an option: where it is malformed, any part may be the rest of a password."""
        try:
            parts = urlsplit(url)
        except ValueError:
            raise malformed("its host is no address", form) from None
        login, _, hosts = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        if "@" in parts.query and not login:
            raise malformed("it has a ? in the user or password, which is written %3F there", form)
        found = dict(parse_qsl(parts.query, keep_blank_values=True))
        for name in found:
            if name not in options:
                raise malformed(f"it has no option {name!r}.{nearest(name, options)}".rstrip("."), form)
        named = tuple(_host(host, port, form) for host in hosts.split(",") if host)
        if not named:
            raise malformed("it names no host", form)
        return cls(named, unquote(user), unquote(password), found)

    def flag(self, name: str, default: bool) -> bool:
        """An option that is on or off."""
        value = self.options.get(name, "").lower()
        if not value:
            return default
        if value not in _TRUE + _FALSE:
            raise malformed(f"its option {name} is neither true nor false", "")
        return value in _TRUE

    def number(self, name: str, default: int, *, least: int = 1) -> int:
        """An option that is a whole number."""
        value = self.options.get(name, "")
        if not value:
            return default
        if not value.isdecimal() or int(value) < least:
            raise malformed(f"its option {name} is no whole number from {least} on", "")
        return int(value)

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """An option that is one of a few words; the first where it is missing."""
        value = self.options.get(name, choices[0])
        if value not in choices:
            raise malformed(f"its option {name} is none of {', '.join(choices)}", "")
        return value

    def tls(self) -> ssl.SSLContext | None:
        """Asked for by ``tls=true``, or by naming the authority to trust: ``ssl_ca_certs=file``."""
        ca_file = self.options.get("ssl_ca_certs", "")
        if not self.flag("tls", bool(ca_file)):
            return None
        try:
            return ssl.create_default_context(cafile=ca_file or None)
        except OSError as error:
            raise ConfigError(
                f"the file {ca_file} of ssl_ca_certs cannot be read: {error}.", where=WHERE
            ) from None

    def __str__(self) -> str:
        return ",".join(self.hosts)


def malformed(what: str, form: str) -> ConfigError:
    """The URL is not what it should be."""
    remedy = f'Write "{form}", special characters in the password percent-encoded.' if form else ""
    return ConfigError(f"{what}.", where=WHERE, remedy=remedy)


def _host(text: str, port: int | None, form: str) -> str:
    try:
        parts = urlsplit(f"//{text}")
        number = parts.port or port
    except ValueError:
        raise malformed("a port is no number from 1 to 65535", form) from None
    host = parts.hostname or ""
    if not host:
        raise malformed("it names no host", form)
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{number}" if number else host
