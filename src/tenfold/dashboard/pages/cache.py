"""The caches: how often they answer, with what, and which keys are asked for most."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from tenfold.dashboard import shown, ui
from tenfold.dashboard.html import Child, Html, join, tag
from tenfold.dashboard.page import Page, action, live
from tenfold.dashboard.view import View
from tenfold.errors import NotFound
from tenfold.telemetry import names

if TYPE_CHECKING:
    from tenfold.cache.cache import Cache as CacheOf

KEYS_SHOWN: Final = 12
LOW: Final = 0.5
"""Below this hit rate, a busy cache costs more than it spares."""
READS_MIN: Final = 100
"""Of fewer reads, a rate says nothing."""
_RESPONSE: Final = re.compile(
    r"^(?P<operation>[\w.]+) \((?P<segments>.*?),?\)\?b(?P<quote>['\"])(?P<query>.*)(?P=quote)$"
)
"""How keys of whole responses are written."""


class Cache(Page):
    path = "/cache"
    title = "Cache"
    about = "What is answered without asking the source, what is served stale, and which keys are hot."
    group = "Data"
    key = "c"
    windowed = True

    def _caches(self) -> list[CacheOf]:
        """The app's own, and that of whole responses where it holds any or was asked."""
        responses = self.app.assembly.response_cache
        used = bool(responses.stats.loads or responses.stats.hits)
        return [*self.app.caches, *([responses] if used else [])]

    def present(self) -> bool:
        caching = any(operation.policies.cache is not None for operation in self.app.operations)
        return bool(self.app.caches) or caching

    async def body(self, view: View) -> Html:
        return join(
            await view.live(self.now),
            await view.live(self.over_time),
            await view.live(self.each),
            await view.live(self.hottest),
        )

    @live(every_s=2)
    async def now(self, view: View) -> Html:
        caches = self._caches()
        hits = sum(cache.stats.hits for cache in caches)
        misses = sum(cache.stats.misses for cache in caches)
        stale = sum(cache.stats.stale for cache in caches)
        errors = sum(cache.stats.load_errors for cache in caches)
        away = sum(cache.stats.store_errors for cache in caches)
        reads = hits + misses + stale
        return ui.figures(
            ui.figure("Answered from the cache", _rate(hits + stale, reads), f"of {reads:,} reads since the start"),
            ui.figure("Served stale", f"{stale:,}", "while a new value was loaded"),
            ui.figure("Failed loads", f"{errors:,}", "the source said no", "warn" if errors else ""),
            ui.figure("Kept in this process", f"{sum(map(len, caches)):,}", "entries"),
            ui.figure(
                "Store", view.app.settings.cache.url.partition(":")[0],
                f"{away:,} times away" if away else "shared by all instances" if _shared(view) else "this process only",
                "warn" if away else "",
            ),
        )  # fmt: skip

    @live(every_s=5)
    async def over_time(self, view: View) -> Html:
        prefix = names.CACHE_NUMBERS
        hits, misses, stale, loads, errors = await asyncio.gather(
            *(
                view.records.series(f"{prefix}_{name}_total", since=view.since, by=())
                for name in ("hits", "misses", "stale", "loads", "load_errors")
            )
        )
        times = shown.times_of([*hits, *misses, *stale])
        by_kind = [shown.per_s(series, times) for series in (hits, misses, stale)]
        shares = [
            (hit + old) / (hit + miss + old) if hit + miss + old else None
            for hit, miss, old in zip(*by_kind, strict=True)
        ]
        rate = ui.chart(
            "Answered from the cache", view.time, times, ui.Line("hit rate", shares, fill=True), unit="%"
        )
        reads = ui.chart(
            "Reads per second",
            view.time,
            times,
            ui.Line("hits", by_kind[0], fill=True),
            ui.Line("misses", by_kind[1]),
            ui.Line("stale", by_kind[2], "warn"),
            unit="/s",
        )
        loading = shown.times_of([*loads, *errors])
        loaded = ui.chart(
            "Loads per second",
            view.time,
            loading,
            ui.Line("loads", shown.per_s(loads, loading), fill=True),
            ui.Line("failed", shown.per_s(errors, loading), "bad"),
            unit="/s",
        )
        return ui.grid(
            ui.card("Hit rate", rate), ui.card("Reads", reads), ui.card("Loads", loaded), columns=3
        )  # fmt: skip

    @live(every_s=2)
    async def each(self, view: View) -> Html:
        columns = (
            ui.Column("cache", wide=True), "hit rate", ui.Column("hits", number=True), ui.Column("misses", number=True),
            ui.Column("stale", number=True), ui.Column("loads", number=True), ui.Column("failed", number=True),
            ui.Column("invalidated", number=True), ui.Column("evicted", number=True), ui.Column("entries", number=True), "",
        )  # fmt: skip
        rows = [self._row(view, cache) for cache in self._caches()]
        listed = ui.table(columns, rows, nothing="No cache has been asked yet.", caption="Caches")
        return ui.card("Caches of this process", listed, flush=True)

    def _row(self, view: View, cache: CacheOf) -> tuple[Child, ...]:
        stats = cache.stats
        reads = stats.hits + stats.misses + stats.stale
        share = (stats.hits + stats.stale) / reads if reads else 0.0
        mood: ui.Mood = "warn" if reads >= READS_MIN and share < LOW else "good"
        life = f"lives {ui.duration(cache.life.ttl_s)}"
        if cache.life.stale_s:
            life += f", then {ui.duration(cache.life.stale_s)} stale"
        if cache.strict:
            life += ", strict"
        return (
            join(cache.name, tag("span", life, class_="below")),
            ui.meter(share, ui.percent(share), mood) if reads else ui.muted("not asked"),
            *(value or ui.muted("0") for value in (stats.hits, stats.misses, stats.stale, stats.loads)),
            ui.badge(f"{stats.load_errors:,}", "bad") if stats.load_errors else ui.muted("0"),
            *(value or ui.muted("0") for value in (stats.invalidations, stats.evictions, len(cache))),
            view.button(self.clear, cache=cache.name),
        )

    @live(every_s=2)
    async def hottest(self, view: View) -> Html:
        cards = [self._hot(view, cache) for cache in self._caches() if cache.hot.seen]
        if not cards:
            return ui.card("Hottest keys", ui.empty("No key was read in the last minutes."))
        return ui.grid(*cards)

    def _hot(self, view: View, cache: CacheOf) -> Html:
        rows = [
            (
                ui.code(shown.line(view, _readable(hot.key), 160)),
                ui.meter(hot.share, ui.percent(hot.share), "good"),
            )
            for hot in cache.hot.top(KEYS_SHOWN)
        ]
        listed = ui.table(
            (ui.Column("key", wide=True), "share of reads"),
            rows,
            nothing="",
            caption=f"Hottest keys of {cache.name}",
        )
        return ui.card(f"Hottest keys of {cache.name}", listed, aside="of a sample, lately", flush=True)

    @action("Clear", confirm="Drop everything that {cache} holds? Every key is loaded anew.", danger=True)
    async def clear(self, view: View) -> str:
        name = view.field("cache")
        found = next((cache for cache in self._caches() if cache.name == name), None)
        if found is None:
            raise NotFound(f"There is no cache {name!r}.")
        held = len(found)
        await found.clear()
        return f"{name} is empty: {held:,} entries of this process are gone."


def _readable(key: str) -> str:
    """The key of a whole response as a caller would write it; other keys are as their service made them."""
    found = _RESPONSE.match(key)
    if found is None:
        return key
    segments = f" {found['segments']}" if found["segments"] else ""
    return f"{found['operation']}{segments}" + (f" ?{found['query']}" if found["query"] else "")


def _rate(found: int, reads: int) -> str:
    return ui.percent(found / reads) if reads else "–"


def _shared(view: View) -> bool:
    return view.app.settings.cache.url.partition(":")[0] != "memory"
