"""E-mail addresses, checked for what mail servers and headers can carry."""

from __future__ import annotations

import re
import unicodedata

import msgspec

ADDRESS_MAX = 254
"""RFC 5321 § 4.5.3.1.3, without the angle brackets."""

LOCAL_MAX = 64

# The dot-atom of RFC 5322. Quoted local parts are legal too; nobody has one, and much software breaks on them.
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_NAMED = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]+)>")


class Address(msgspec.Struct, frozen=True):
    """One mailbox: the address in ASCII, and the name shown beside it."""

    address: str
    name: str = ""

    @property
    def local(self) -> str:
        return self.address.rpartition("@")[0]

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]


def parse_address(text: str) -> Address:
    """``ann@example.org`` or ``Ann Example <ann@example.org>``; other alphabets in the domain become Punycode.

    Raises ValueError with a sentence.
    """
    if any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in text):
        raise ValueError("it has control characters or line breaks.")
    named = _NAMED.fullmatch(text.strip())
    name = named["name"].strip().strip('"').strip() if named else ""
    address = named["address"].strip() if named else text.strip()
    local, at, domain = address.rpartition("@")
    if not at or not _LOCAL.fullmatch(local) or len(local) > LOCAL_MAX:
        raise ValueError("it is not an e-mail address.")
    ascii_domain = _ascii_domain(domain)
    if len(local) + 1 + len(ascii_domain) > ADDRESS_MAX:
        raise ValueError(f"it is longer than {ADDRESS_MAX} characters.")
    return Address(f"{local}@{ascii_domain}", name)


def address_key(text: str) -> str:
    """The form in which addresses are compared: without name, lower case. Raises ValueError.

    Mail servers may tell local parts apart by case; none in use does, and two accounts that look the same are a
    trap.
    """
    return parse_address(text).address.casefold()


def _ascii_domain(domain: str) -> str:
    try:
        text = domain.encode("idna").decode() if not domain.isascii() else domain
    except UnicodeError:
        raise ValueError("its domain is not one.") from None
    labels = text.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
        raise ValueError("its domain is not one.")
    return text.lower()
