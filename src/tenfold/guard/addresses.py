"""Where calls out may go: no request of ours reaches what only we can reach (G30). Pure.

A URL is checked twice. When it is entered, its form is checked, and an address written as digits. Each time it is
used, every address that its name stands for *now* is checked, and the connection goes to the checked address, not
to the name: between the check and the connection there is no second look-up that could answer otherwise.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import quote, urlsplit

from msgspec import Struct

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

URL_MAX = 2000

_TRANSLATED = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")))
"""NAT64, its local prefix, and the IPv4-compatible addresses of old: the last four bytes say where they lead."""
_MORE = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "fec0::/10")))
"""Protocol assignments, relays of 6to4 and site-local addresses, which not every Python counts as not public."""
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


class Place(Struct, frozen=True):
    """A URL that is fit to be used, in its parts."""

    scheme: str
    host: str
    """A name in ASCII and lower case, or an address; without brackets."""
    port: int
    target: str
    """Path and query, percent-encoded."""

    @property
    def authority(self) -> str:
        """Host and port as a URL and the header ``Host`` have them."""
        return _authority(self.scheme, self.host, self.port)

    @property
    def url(self) -> str:
        """The URL, in one form only."""
        return f"{self.scheme}://{self.authority}{self.target}"


@lru_cache(maxsize=4096)
def _authority(scheme: str, host: str, port: int) -> str:
    host = f"[{host}]" if ":" in host else host
    return host if port == {"https": 443, "http": 80}[scheme] else f"{host}:{port}"


def place_of(url: str, *, plain_http: bool, allowed: Iterable[Network]) -> Place:
    """The parts of a URL that calls may go to. Raises ValueError with a sentence."""
    if len(url) > URL_MAX:
        raise ValueError(f"it is longer than {URL_MAX:,} characters.")
    if not url.isprintable() or " " in url or "\\" in url:
        raise ValueError("it has blanks, backslashes or invisible characters.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("it is not a URL.") from None
    scheme = parts.scheme
    if scheme not in ("https", "http") or (scheme == "http" and not plain_http):
        raise ValueError("it does not begin with https://")
    if "@" in parts.netloc:
        raise ValueError("it has a user or a password in it.")
    if parts.fragment:
        raise ValueError("it has a fragment (#…), which no server would see.")
    host = _host(parts.hostname or "")
    address = _written(host)
    if address is not None:
        if reason := refusal(address, tuple(allowed)):
            raise ValueError(reason)
        host = str(address)
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    if parts.query:
        target += "?" + quote(parts.query, safe="/?%:@!$&'()*+,;=~-._[]")
    if port == 0:
        raise ValueError("its port is 0.")
    return Place(scheme, host, port or (443 if scheme == "https" else 80), target)


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Parsed networks; raises ValueError with a sentence for the first that is none."""
    found: list[Network] = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError as error:
            why = "" if "does not appear to be" in str(error) else f": {error}"
            raise ValueError(f"{text!r} is not a network{why}.") from None
    return tuple(found)


def refusal(address: IPAddress, allowed: Sequence[Network]) -> str:
    """Why nothing may be sent to ``address``; empty when it may.

    An IPv6 address that leads to an IPv4 address is judged by that: alone where it means nothing else (mapped,
    NAT64), together with itself where it is routed on its own (6to4, Teredo).
    """
    if _is_in(address, allowed):
        return ""
    for one in _judged(address):
        if not _is_in(one, allowed) and (reason := _what_is_wrong(one)):
            return f"the address {address} is {reason}; calls out go to public addresses only."
    return ""


def _is_in(address: IPAddress, allowed: Sequence[Network]) -> bool:
    return any(one.version == address.version and address in one for one in allowed)


def _what_is_wrong(address: IPAddress) -> str:
    for wrong, name in (
        (address.is_unspecified, "unspecified"),
        (address.is_loopback, "this machine's own"),
        (address.is_link_local, "link-local"),
        (address.is_multicast, "a multicast address"),
        (address.is_private, "private"),
        (address.is_reserved or not address.is_global or _is_in(address, _MORE), "not public"),
    ):
        if wrong:
            return name
    return ""


def _judged(address: IPAddress) -> tuple[IPAddress, ...]:
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if any(address in network for network in _TRANSLATED) and int(address) > 1:
        return (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF),)
    if address.sixtofour is not None:
        return (address, address.sixtofour)
    if address.teredo is not None:
        return (address, *address.teredo)
    return (address,)


def _host(host: str) -> str:
    if not host:
        raise ValueError("it names no host.")
    if "%" in host:
        raise ValueError("its host has a percent sign in it.")
    if ":" in host:
        return host
    try:
        ascii_host = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise ValueError("its host is not a name.") from None
    name = ascii_host.lower().removesuffix(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError("its host is not a name.")
    return name


def _written(host: str) -> IPAddress | None:
    """The address that ``host`` is in digits, in any form that resolvers understand (``0x7f.1``, ``2130706433``)."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        if ":" in host:
            raise ValueError("its host is not an address.") from None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None
