"""Identifiers from names of the wire and of the app: idiomatic, and unique where they stand. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

_WORD = re.compile(r"[A-Z]+(?=[A-Z][^\W\d_A-Z])|[A-Z]?[^\W\d_A-Z]+|[A-Z]+|[0-9]+")
_GENERIC = re.compile(r"^([^\[]+)\[(.*)\]$")


def words(name: str) -> list[str]:
    """``HTTPStatus``, ``http-status`` and ``http_status`` are two words.

    >>> words("HTTPStatus"), words("per_page"), words("orders.payment-confirmed")
    (['HTTP', 'Status'], ['per', 'page'], ['orders', 'payment', 'confirmed'])
    """
    found = _WORD.findall(name)
    joined: list[str] = []
    for word in found:
        if word.isdigit() and joined:
            joined[-1] += word  # "sha256" is one word
        else:
            joined.append(word)
    return joined


def snake(name: str) -> str:
    """``perPage`` → ``per_page``."""
    return _begun("_".join(word.lower() for word in words(name)))


def camel(name: str) -> str:
    """``per_page`` → ``perPage``."""
    first, *rest = words(name) or ["_"]
    return _begun(first.lower() + "".join(_capital(word) for word in rest))


def pascal(name: str) -> str:
    """``out-of-stock`` → ``OutOfStock``; the name of a generic ends with what is generic: ``Page[Order]`` → ``OrderPage``.

    >>> pascal("Page[Order]"), pascal("Pair[str, Page[Order]]"), pascal("HTTPStatus")
    ('OrderPage', 'StrOrderPagePair', 'HTTPStatus')
    """
    if generic := _GENERIC.match(name):
        return "".join(map(pascal, _arguments(generic[2]))) + pascal(generic[1])
    return _begun("".join(_capital(word) for word in words(name.rpartition(".")[2])))


def constant(value: str | int) -> str:
    """A member of an enumeration, from its value: ``in-transit`` → ``IN_TRANSIT``, 3 → ``VALUE_3``."""
    if isinstance(value, int):
        return f"VALUE_{value}".replace("-", "MINUS_")
    made = "_".join(word.upper() for word in words(value))
    return made if made and not made[0].isdigit() else f"VALUE_{made}".rstrip("_")


def members(values: Iterable[str | int]) -> dict[str | int, str]:
    """Names of an enumeration's members by their values."""
    names: dict[str | int, str] = {}
    for value in values:
        names[value] = unique(constant(value), names.values())
    return names


def unique(name: str, taken: Collection[str]) -> str:
    """``name``, with a number behind it when it is taken."""
    found, number = name, 2
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    return found


def type_names(keys: Iterable[tuple[str, str]], taken: Collection[str]) -> dict[str, str]:
    """Names of types by the keys of their components. ``keys`` are (key, title).

    Where two have one name, the module stands before it (``InventoryDelivery``); a name that the client needs for
    itself gets ``Data`` behind it.
    """
    wanted = {key: pascal(title if "." not in key else key) for key, title in keys}
    shared = {name for name in wanted.values() if list(wanted.values()).count(name) > 1}
    names: dict[str, str] = {}
    for key, name in wanted.items():
        full = pascal(key.split(".")[-2]) + name if name in shared and "." in key else name
        names[key] = unique(f"{full}Data" if full in taken else full, names.values())
    return names


def _arguments(text: str) -> Iterable[str]:
    """``str, Page[A, B]`` are two."""
    depth, begun = 0, 0
    for at, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            yield text[begun:at].strip()
            begun = at + 1
    yield text[begun:].strip()


def _capital(word: str) -> str:
    return word[:1].upper() + word[1:]


def _begun(name: str) -> str:
    return f"_{name}" if not name or name[0].isdigit() else name
