"""Overrides in this process: of an app without a database, whose instances know nothing of each other."""

from __future__ import annotations

from tenfold.guard.overrides import Override, OverrideStore


class MemoryOverrides(OverrideStore):
    """All end with the process."""

    durable = False

    def __init__(self) -> None:
        self._kept: dict[str, Override] = {}

    async def read(self) -> list[Override]:
        return list(self._kept.values())

    async def put(self, override: Override) -> None:
        self._kept[override.name] = override

    async def remove(self, name: str) -> bool:
        return self._kept.pop(name, None) is not None

    async def prune(self, now: float) -> None:
        self._kept = {n: o for n, o in self._kept.items() if o.until is None or o.until > now}
