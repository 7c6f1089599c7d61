"""The app's definition as parts and connections, and what was measured on each. Pure: an app and series go in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from tenfold._core.text import plural
from tenfold.dashboard import ui
from tenfold.dashboard.diagram import Arrow, Box, Kind, Mood
from tenfold.telemetry import names
from tenfold.telemetry.store.rollup import quantile

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.service import Service
    from tenfold.telemetry.store.records import Series

CLIENTS: Final = "clients"
DATABASE: Final = "database"
CACHE: Final = "cache"
BROKER: Final = "broker"
_NAMED: Final = {
    "sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB", "memory": "Memory",
    "redis": "Redis", "rediss": "Redis", "valkey": "Valkey", "memcached": "Memcached", "kafka": "Kafka",
    "nats": "NATS", "rabbitmq": "RabbitMQ", "amqp": "RabbitMQ", "amqps": "RabbitMQ", "sqs": "SQS",
}  # fmt: skip
FAILS_AT: Final = 0.01
"""From this share of failures on, a connection is drawn as failing."""
FULL_AT: Final = 0.8
"""From this share of its places taken on, as nearly full."""


class Flow(NamedTuple):
    """What was measured on one connection."""

    per_s: float = 0.0
    seconds: float | None = None
    """Latency: the 95th percentile where a histogram is kept, the mean elsewhere; None where nothing is."""
    failed: float = 0.0
    """Share of 1."""
    full: float | None = None
    """Saturation, a share of 1, where the connection has places."""
    note: str = ""
    """What else there is to say: a hit rate, for one."""


class Connection(NamedTuple):
    """Two parts, and what goes from one to the other."""

    source: str
    target: str
    kind: str
    """``requests``, ``calls``, ``events``, ``statements``, ``reads`` or ``calls out``."""
    names: tuple[str, ...]
    """Operations, topics or clients."""
    flow: Flow


class Measured(NamedTuple):
    """Series of the last ``seconds``, by the name of their metric."""

    seconds: float
    series: Mapping[str, Sequence[Series]]

    def sums(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """How much a counter grew in that time, by the values of these labels."""
        found: dict[tuple[str, ...], float] = defaultdict(float)
        for one in self.series.get(name, ()):
            found[tuple(one.labels.get(each, "") for each in labels)] += sum(p.value for p in one.points)
        return found

    def last(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The last reading of a gauge."""
        found: dict[tuple[str, ...], float] = defaultdict(float)
        for one in self.series.get(name, ()):
            if one.points:
                found[tuple(one.labels.get(each, "") for each in labels)] += one.points[-1].value
        return found

    def p95(self, name: str, label: str, wanted: Iterable[str], **also: str) -> float | None:
        """Of histograms whose ``label`` is one of ``wanted``, taken together."""
        chosen, buckets, bounds = set(wanted), list[float](), tuple[float, ...]()
        for one in self.series.get(name, ()):
            if one.labels.get(label) not in chosen or any(one.labels.get(k) != v for k, v in also.items()):
                continue
            bounds = one.bounds or bounds
            for point in one.points:
                if point.buckets:
                    before = buckets or [0.0] * len(point.buckets)
                    buckets = [a + b for a, b in zip(before, point.buckets, strict=True)]
        return quantile(bounds, buckets, 0.95) if sum(buckets) else None


METRICS: Final[Mapping[str, tuple[str, ...]]] = {
    names.HTTP_REQUESTS: (names.OPERATION, names.STATUS),
    names.HTTP_DURATION: (names.OPERATION,),
    names.HTTP_IN_FLIGHT: (names.OPERATION,),
    names.CALLS: (names.CALLER, names.OPERATION, names.OUTCOME),
    names.CALL_DURATION: (names.CALLER, names.OPERATION),
    names.QUEUE_HANDLED: (names.HANDLER, names.OUTCOME),
    names.QUEUE_DURATION: (names.HANDLER,),
    names.DB_STATEMENTS: (names.DATABASE,),
    names.DB_TIMED: (names.DATABASE,),
    names.DB_TIMED_SECONDS: (names.DATABASE,),
    f"{names.CACHE_NUMBERS}_hits_total": (names.CACHE,),
    f"{names.CACHE_NUMBERS}_stale_total": (names.CACHE,),
    f"{names.CACHE_NUMBERS}_misses_total": (names.CACHE,),
    names.CLIENT_REQUESTS: (names.CLIENT, names.OUTCOME),
    names.CLIENT_DURATION: (names.CLIENT,),
    names.CLIENT_IN_FLIGHT: (names.CLIENT,),
}
"""What :func:`connections` reads, and the labels it wants apart."""


# ── connections ───────────────────────────────────────────────────────────────────────────────────


def connections(app: App, measured: Measured) -> list[Connection]:
    """Everything that flows between the parts of an app: as declared, and calls that were seen where a service does not
    declare whom it calls."""
    return [
        *_requests(app, measured),
        *_calls(app, measured),
        *_events(app, measured),
        *_statements(app, measured),
        *_cached(app, measured),
        *_out(app, measured),
    ]


def _requests(app: App, measured: Measured) -> Iterable[Connection]:
    counted = measured.sums(names.HTTP_REQUESTS, names.OPERATION, names.STATUS)
    busy = measured.last(names.HTTP_IN_FLIGHT, names.OPERATION)
    for service in app.everywhere:
        routed = [operation.name for operation in service.operations if operation.routed]
        if not routed:
            continue
        requests = sum(value for (operation, _), value in counted.items() if operation in routed)
        failed = sum(
            v for (operation, status), v in counted.items() if operation in routed and status == "5xx"
        )
        in_flight = sum(value for (operation,), value in busy.items() if operation in routed)
        flow = Flow(
            requests / measured.seconds,
            measured.p95(names.HTTP_DURATION, names.OPERATION, routed),
            failed / requests if requests else 0.0,
            note=f"{in_flight:,.0f} in progress" if in_flight else "",
        )
        yield Connection(CLIENTS, service.name, "requests", tuple(routed), flow)


def _calls(app: App, measured: Measured) -> Iterable[Connection]:
    declared = app.assembly.edges.declared if app.started else frozenset()
    counted = measured.sums(names.CALLS, names.CALLER, names.OPERATION, names.OUTCOME)
    known = {service.name for service in app.everywhere}
    called: dict[tuple[str, str], set[str]] = defaultdict(set)
    for edge in declared:
        called[edge.caller, edge.callee].add(edge.operation)
    for caller, operation, _ in counted:
        callee = operation.partition(".")[0]
        if caller in known and callee in known and caller != callee:
            called[caller, callee].add(operation)
    for (caller, callee), operations in sorted(called.items()):
        mine = {k: v for k, v in counted.items() if k[0] == caller and k[1] in operations}
        made = sum(mine.values())
        failed = sum(v for (_, _, outcome), v in mine.items() if outcome == "failed")
        seconds = measured.p95(names.CALL_DURATION, names.OPERATION, operations, caller=caller)
        flow = Flow(made / measured.seconds, seconds, failed / made if made else 0.0)
        yield Connection(caller, callee, "calls", tuple(sorted(operations)), flow)


def _events(app: App, measured: Measured) -> Iterable[Connection]:
    handled = measured.sums(names.QUEUE_HANDLED, names.HANDLER, names.OUTCOME)
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for service in app.everywhere:
        for each in service.subscriptions:
            pairs[each.topic.service, service.name].append((each.topic.name, each.name))
    broker = bool(app.settings.events.url)
    for (publisher, subscriber), found in pairs.items():
        handlers = {name for _, name in found}
        mine = {k: v for k, v in handled.items() if k[0] in handlers}
        done = sum(mine.values())
        failed = sum(v for (_, outcome), v in mine.items() if outcome in ("retry", "dead", "crash", "lost"))
        seconds = measured.p95(names.QUEUE_DURATION, names.HANDLER, handlers)
        flow = Flow(done / measured.seconds, seconds, failed / done if done else 0.0)
        topics = tuple(sorted({topic for topic, _ in found}))
        if publisher == subscriber:
            continue
        if broker:
            yield Connection(publisher, BROKER, "events", topics, Flow(flow.per_s))
            yield Connection(BROKER, subscriber, "events", topics, flow)
        else:
            yield Connection(publisher, subscriber, "events", topics, flow)


def _statements(app: App, measured: Measured) -> Iterable[Connection]:
    counted = measured.sums(names.DB_STATEMENTS, names.DATABASE)
    timed = measured.sums(names.DB_TIMED, names.DATABASE)
    seconds = measured.sums(names.DB_TIMED_SECONDS, names.DATABASE)
    full = _pool(app)
    for service in app.everywhere:
        for database in service.databases:
            key = (service.name,)
            mean = seconds[key] / timed[key] if timed[key] else None
            flow = Flow(counted[key] / measured.seconds, mean, full=full)
            yield Connection(service.name, DATABASE, "statements", (database.name,), flow)


def _pool(app: App) -> float | None:
    """How much of the pool of connections this process uses."""
    if not app.started or not app.databases:
        return None
    stats = app.databases[0].stats()
    if "connections" not in stats:
        return None
    return (stats["connections"] - stats.get("connections_idle", 0)) / app.settings.database.pool_max


def _cached(app: App, measured: Measured) -> Iterable[Connection]:
    hits = measured.sums(f"{names.CACHE_NUMBERS}_hits_total", names.CACHE)
    stale = measured.sums(f"{names.CACHE_NUMBERS}_stale_total", names.CACHE)
    misses = measured.sums(f"{names.CACHE_NUMBERS}_misses_total", names.CACHE)
    for service in app.everywhere:
        if not service.caches:
            continue
        own = [(cache.name,) for cache in service.caches]
        found, missed = sum(hits[key] + stale[key] for key in own), sum(misses[key] for key in own)
        asked = found + missed
        note = f"{ui.percent(found / asked)} hits" if asked else ""
        caches = tuple(cache.name for cache in service.caches)
        yield Connection(service.name, CACHE, "reads", caches, Flow(asked / measured.seconds, note=note))


def _out(app: App, measured: Measured) -> Iterable[Connection]:
    counted = measured.sums(names.CLIENT_REQUESTS, names.CLIENT, names.OUTCOME)
    busy = measured.last(names.CLIENT_IN_FLIGHT, names.CLIENT)
    for client in app.clients:
        mine = {k: v for k, v in counted.items() if k[0] == client.name}
        made = sum(mine.values())
        failed = sum(v for (_, outcome), v in mine.items() if not outcome.startswith(("2", "3", "4", "ok")))
        flow = Flow(
            made / measured.seconds,
            measured.p95(names.CLIENT_DURATION, names.CLIENT, [client.name]),
            failed / made if made else 0.0,
            busy.get((client.name,), 0.0) / client.declared.concurrency,
        )
        yield Connection(client.service, f"out:{client.name}", "calls out", (client.name,), flow)


# ── boxes and arrows ──────────────────────────────────────────────────────────────────────────────


def picture(
    app: App, found: Sequence[Connection], links: Mapping[str, str], measured: Measured
) -> tuple[list[Box], list[Arrow]]:
    """Boxes of all parts and an arrow for each connection. ``links`` are the addresses that boxes lead to."""
    by_service = {c.target: c.flow for c in found if c.kind == "requests"}
    arriving = sum(flow.per_s for flow in by_service.values())
    boxes = [Box(CLIENTS, "Clients", "outer", (f"{ui.rate(arriving)} requests",), "first")]
    boxes += [_service_box(app, s, by_service.get(s.name), links.get(s.name, "")) for s in app.everywhere]
    settings = app.settings
    if any(c.target == DATABASE for c in found):
        total = sum(c.flow.per_s for c in found if c.target == DATABASE)
        lines = [f"{ui.rate(total)} statements"]
        if settings.database.replicas:
            lines.insert(0, plural(len(settings.database.replicas), "replica"))
        boxes.append(
            Box(
                DATABASE,
                named(settings.database.url),
                "store",
                tuple(lines),
                "last",
                href=links.get(DATABASE, ""),
            )
        )
    if any(c.target == CACHE for c in found):
        hits = next((c.flow.note for c in found if c.target == CACHE and c.flow.note), "no reads now")
        lines = [f"cache, {ui.rate(sum(c.flow.per_s for c in found if c.target == CACHE))}", hits]
        boxes.append(
            Box(CACHE, named(settings.cache.url), "store", tuple(lines), "last", href=links.get(CACHE, ""))
        )
    if any(BROKER in (c.source, c.target) for c in found):
        boxes.append(
            Box(BROKER, named(settings.events.url), "store", ("broker",), "last", href=links.get(BROKER, ""))
        )
    for client in app.clients:
        host = urlsplit(client.url).hostname or "any host"
        boxes.append(Box(f"out:{client.name}", client.name, "outer", (host,), "last"))
    return boxes, [_arrow(c) for c in found]


def named(url: str) -> str:
    """What people call the kind of server that a URL is of."""
    scheme = url.partition(":")[0].partition("+")[0]
    return _NAMED.get(scheme, scheme)


def _service_box(app: App, service: Service, flow: Flow | None, href: str) -> Box:
    counts = (
        (len(service.operations), "operation"), (len(service.jobs), "job"), (len(service.schedules), "schedule"),
    )  # fmt: skip
    said = ", ".join([plural(count, noun) for count, noun in counts if count][:2]) or "nothing declared"
    lines: list[str] = [said]
    if service in app.elsewhere:
        lines.append("in processes of its own")
    elif flow is not None:
        lines.append(said_of(flow) or "idle")
    mood = "down" if flow is not None and flow.failed >= FAILS_AT else ""
    return Box(service.name, service.name, "service", tuple(lines), mood="down" if mood else "", href=href)


def said_of(flow: Flow) -> str:
    """A flow in a few words; nothing where nothing flows."""
    if not flow.per_s:
        return ""
    parts = [ui.rate(flow.per_s)]
    if flow.seconds is not None:
        parts.append(ui.duration(flow.seconds))
    if flow.failed:
        parts.append(f"{ui.percent(flow.failed)} failed")
    return " · ".join(parts)


def _arrow(each: Connection) -> Arrow:
    flow = each.flow
    full = flow.full is not None and flow.full >= FULL_AT
    mood: Mood = "busy" if flow.per_s else ""
    if flow.failed >= FAILS_AT:
        mood = "bad"
    elif full or flow.failed:
        mood = "warn"
    details = [
        f"{each.source} → {each.target.removeprefix('out:')}, {each.kind}",
        said_of(flow) or "nothing now",
    ]
    if flow.full is not None:
        details.append(f"{ui.percent(flow.full)} of its places taken")
    if flow.note:
        details.append(flow.note)
    label = said_of(flow)
    if full and flow.full is not None:
        label += f" · {ui.percent(flow.full)} full"
    kind: Kind = (
        "events" if each.kind == "events" else "call" if each.kind in ("requests", "calls") else "data"
    )
    return Arrow(each.source, each.target, kind, label, "; ".join(details), mood, bool(flow.per_s))
