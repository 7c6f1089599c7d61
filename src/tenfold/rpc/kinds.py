"""Classes by name, between processes that may run different versions of the code.

A class travels as the names of itself and of what it inherits from, the nearest first; whoever reads takes the first
that it has. Nothing is imported for a name: only classes that exist already, below one root, are found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import tenfold.errors

T = TypeVar("T")


def names_of(kind: type, root: type) -> list[str]:
    """``kind`` and its bases down to ``root``, which needs no name."""
    return [_name(each) for each in kind.__mro__ if issubclass(each, root) and each is not root]


def known(names: Sequence[str], root: type[T]) -> type[T]:
    """The first of the names that is a class below ``root``; ``root`` itself when none is."""
    if not names:
        return root
    by_name = {_name(each): each for each in _below(root)}
    return next((by_name[name] for name in names if name in by_name), root)


def _name(kind: type) -> str:
    """``NotFound`` for our own, ``shop.orders:SoldOut`` for others."""
    if kind.__module__ == tenfold.errors.__name__:
        return kind.__name__
    return f"{kind.__module__}:{kind.__qualname__}"


def _below(root: type[T]) -> Iterator[type[T]]:
    for kind in root.__subclasses__():
        yield kind
        yield from _below(kind)
