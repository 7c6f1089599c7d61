"""What ties caches to a database: its transactions announce, commit and forget what they invalidate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tenfold.cache.cache import Cache
from tenfold.cache.contract import CacheBackend

if TYPE_CHECKING:
    from tenfold.db.database import Database


def follow(database: Database, backend: CacheBackend, caches: Iterable[Cache]) -> Callable[[], None]:
    """Let ``tx.invalidate(…)`` of the database reach the caches, which are bound to the backend.

    Before the commit the backend is told what is about to change (it then gives it to nobody), after it this
    process forgets it at once, and the backend is told the outcome. Returns the function that ends this.
    """
    ends = [database.on_invalidate(cache.forget) for cache in caches]
    ends.append(database.on_announce(backend.announce))

    def end() -> None:
        for unfollow in ends:
            unfollow()

    return end
