"""One shape for every list: items, where they stand, and links to the neighbours.

Pages are numbered from 1. A page beyond the end is a 404 that names the last page: a client that walks off
the list has a bug, and an empty page would hide it. The first page of an empty list exists, and is empty.
"""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar
from urllib.parse import urlencode

from msgspec import Meta, Struct

from tenfold.errors import NotFound

T = TypeVar("T")

PageNumber = Annotated[int, Meta(ge=1, le=1_000_000, description="Number of the page, from 1.")]
PerPage = Annotated[int, Meta(ge=1, le=100, description="Items on a page.")]


class Page(Struct, Generic[T]):
    """One page of a list. ``next`` and ``previous`` are links, null at the ends."""

    items: list[T]
    page: int
    pages: int
    total: int
    next: str | None
    previous: str | None


def offset(page: int, per_page: int) -> int:
    """How many items come before the page."""
    return (page - 1) * per_page


def paged(items: list[T], *, total: int, page: int, per_page: int, path: str, **query: str) -> Page[T]:
    """The page, with links that repeat the ``query``. Raises NotFound when there is no such page."""
    pages = max(1, -(-total // per_page))
    if page > pages:
        raise NotFound(
            f"There is no page {page}: the last one is {pages}.", parameter="page", last_page=pages
        )

    def link(number: int) -> str | None:
        if not 1 <= number <= pages:
            return None
        known = {name: value for name, value in query.items() if value}
        return f"{path}?{urlencode({**known, 'page': number, 'per_page': per_page})}"

    return Page(items, page, pages, total, link(page + 1), link(page - 1))
