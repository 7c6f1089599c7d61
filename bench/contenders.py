"""Who is measured, at what, and what Tenfold has to reach: data only."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

GRANIAN = (
    "granian --host 127.0.0.1 --port {port} --workers 1 --loop uvloop --no-ws --log-level warning --interface"
)
UVICORN = "uvicorn --host 127.0.0.1 --port {port} --loop uvloop --http httptools --no-access-log --log-level warning"
RUN = "tenfold run tenfold_app:app --port {port} --ops-port 0 --no-worker"
QUIET = {"TENFOLD_LOG_ACCESS": "false"}
EVERYTHING = {
    "FEATURES": "all",
    "TENFOLD_LOG_ACCESS": "true",
    "TENFOLD_LOG_FORMAT": "json",
    "TENFOLD_TRACE_RATIO": "0.01",
}


@dataclass(frozen=True, slots=True)
class Contender:
    """``whose``: ``peer`` programs stand in the shared folder and run in the peers' virtual environment."""

    name: str
    command: str
    whose: Literal["tenfold", "peer"] = "peer"
    env: dict[str, str] = field(default_factory=dict)
    measures: frozenset[str] = frozenset({"json", "items", "post", "product_mem"})
    token: bool = False
    """Its /items asks for a bearer token, which it gives at POST /token."""


def ours(name: str, command: str, **more: Any) -> Contender:
    return Contender(f"Tenfold/{name}", command, "tenfold", **more)


JUDGED = ("Tenfold/tenfold run", "Tenfold/granian, RSGI")
"""Compared with every target, each on a line of its own; chosen beforehand, not by who did best: what
``tenfold run`` serves by default, and the entry for Granian."""

RAW = "raw RSGI limit"
CONTENDERS = [
    Contender(RAW, f"{GRANIAN} rsgi raw_rsgi:app"),
    ours("granian, RSGI", f"{GRANIAN} rsgi tenfold_app:app"),
    ours("uvicorn", f"{UVICORN} tenfold_app:app"),
    ours("tenfold run", RUN, env=QUIET),
    ours("tenfold run, granian", f"{RUN} --server granian", env=QUIET),
    ours("tenfold run, log+trace+token", RUN, env=EVERYTHING, measures=frozenset({"items"}), token=True),
    Contender("BlackSheep/uvicorn", f"{UVICORN} blacksheep_app:app"),
    Contender("BlackSheep/granian", f"{GRANIAN} asgi blacksheep_app:app"),
    Contender("Litestar/uvicorn", f"{UVICORN} litestar_app:app"),
    Contender("Litestar/granian", f"{GRANIAN} asgi litestar_app:app"),
    Contender("FastAPI/uvicorn", f"{UVICORN} fastapi_app:app"),
]

# On PostgreSQL, with 8 connections each.
PG = {
    "TENFOLD_DATABASE_URL": "{dsn}", "TENFOLD_DATABASE_POOL_MAX": "8", "TENFOLD_CACHE_URL": "{redis}/5",
    "TENFOLD_LOG_ACCESS": "false", "TENFOLD_WORKER_ENABLED": "false",
}  # fmt: skip
_READS = frozenset({"db", "queries", "fortunes"})
_ORM = frozenset({"db_orm", "fortunes_orm"})
_ALL = _READS | {"orders", "product_redis"}
_OURS = _ALL | {"queries_each"}
_QUEUES = frozenset({"orders_pgqueuer", "orders_procrastinate"})
RUN_PG = "tenfold run tenfold_pg:app --port {port} --ops-port 0 --no-worker"
PG_CONTENDERS = [
    Contender(RAW, f"{GRANIAN} rsgi raw_rsgi:app", measures=_ALL),
    ours("granian, RSGI", f"{GRANIAN} rsgi tenfold_pg:app", env=PG, measures=_OURS | _ORM),
    ours("tenfold run", RUN_PG, env=PG, measures=_OURS | _ORM),
    Contender("BlackSheep/uvicorn", f"{UVICORN} blacksheep_app:app", measures=_READS | {"db_orm"}),
    Contender("Litestar/uvicorn", f"{UVICORN} litestar_app:app", measures=_READS | _ORM),
    Contender(
        "FastAPI/uvicorn",
        f"{UVICORN} fastapi_app:app",
        measures=_READS | _ORM | _QUEUES | {"product_redis"},
    ),
]

POST = b'{"name":"widget","price":9.5,"tags":["a","b"]}'
ORDER = b'{"sku":"abc-1","qty":3}'


@dataclass(frozen=True, slots=True)
class Measure:
    """``shape`` tells load.lua what to send; ``right`` judges the decoded answer to ``probe``."""

    path: str
    right: Callable[[Any], bool]
    shape: str = ""
    probe: str = ""


MEASURES = {
    "json": Measure("/json", lambda d: bool(d == {"message": "Hello, World!"})),
    "items": Measure("/items/42?q=abc", lambda d: bool(d == {"id": 42, "name": "x", "q": "abc"})),
    "post": Measure("/post", lambda d: bool(d == json.loads(POST)), "post"),
    "product_mem": Measure(
        "/product_mem/", lambda d: bool(d["name"] == "product 7"), "ids", "/product_mem/7"
    ),
}
PG_MEASURES = {
    "db": Measure("/db", lambda d: set(d) == {"id", "randomNumber"}),
    "queries": Measure("/queries?n=20", lambda d: len(d) == 20),
    "queries_each": Measure("/queries_each?n=20", lambda d: len(d) == 20),
    "fortunes": Measure("/fortunes", lambda d: len(d) == 12 and d == sorted(d, key=lambda f: f["message"])),
    "db_orm": Measure("/db_orm", lambda d: set(d) == {"id", "randomNumber"}),
    "fortunes_orm": Measure("/fortunes_orm", lambda d: len(d) == 12),
    "orders": Measure("/orders", lambda d: d["id"] > 0, "order"),
    "orders_pgqueuer": Measure("/orders_pgqueuer", lambda d: d["id"] > 0, "order"),
    "orders_procrastinate": Measure("/orders_procrastinate", lambda d: d["id"] > 0, "order"),
    "product_redis": Measure(
        "/product_redis/", lambda d: bool(d["name"] == "product 7"), "ids", "/product_redis/7"
    ),
}


@dataclass(frozen=True, slots=True)
class Target:
    """``at_least`` times the requests a second of the best contender whose name begins with ``base``, at ``beside``
    (another measure of the same work, where that is named)."""

    measure: str
    base: str
    at_least: float
    beside: str = ""

    @property
    def against(self) -> str:
        """The measure that the base is taken at."""
        return self.beside or self.measure


TARGETS = [
    *(
        Target(measure, base, at_least)
        for measure in ("json", "items")
        for base, at_least in (("BlackSheep", 1.0), (RAW, 0.7), ("Litestar", 2.2), ("FastAPI", 3.5))
    ),
    Target("post", RAW, 0.8),
    Target("product_mem", RAW, 0.8),
]

PG_TARGETS = [
    *(Target(measure, RAW, 1.0) for measure in ("db", "queries", "fortunes")),
    *(Target(measure, "FastAPI", 1.3) for measure in ("db_orm", "fortunes_orm")),
    Target("queries_each", RAW, 1.0, beside="queries"),
    Target("db", "FastAPI", 4.0, beside="db_orm"),
    Target("orders", RAW, 0.85),
    Target("orders", "FastAPI", 2.2, beside="orders_pgqueuer"),
    Target("product_redis", RAW, 3.0),
]


# What everything that a service in production has costs: the same operations with and without it.
RUN_COST = "tenfold run tenfold_cost:app --port {port} --ops-port 0 --no-worker"
_COSTS = frozenset({"items", "row"})
_PG_QUIET = {name: value for name, value in PG.items() if name != "TENFOLD_CACHE_URL"}
PLAIN = "Tenfold/as it comes"
COST_CONTENDERS = [
    ours("as it comes", RUN_COST, env=_PG_QUIET, measures=_COSTS),
    ours(
        "everything on, limits in memory",
        RUN_COST,
        env={**_PG_QUIET, **EVERYTHING, "TENFOLD_GUARD_URL": "memory:"},
        measures=_COSTS,
        token=True,
    ),
    ours(
        "everything on, limits in Redis",
        RUN_COST,
        env={**_PG_QUIET, **EVERYTHING, "TENFOLD_GUARD_URL": "{redis}/6"},
        measures=_COSTS,
        token=True,
    ),
]
COST_MEASURES = {
    "items": MEASURES["items"],
    "row": Measure("/db", lambda d: set(d) == {"id", "randomNumber"}),
}
COST_TARGETS = [Target(measure, PLAIN, 0.8) for measure in sorted(_COSTS)]


# What watching costs: the same operations with all of telemetry, with each part of it, and with metrics alone.
UNWATCHED = "Tenfold/metrics alone"
_OFF = {
    **_PG_QUIET, "TENFOLD_LOG_ACCESS": "false", "TENFOLD_TELEMETRY_STORE": "false", "TENFOLD_TRACE_RATIO": "0",
}  # fmt: skip
_LOG = {"TENFOLD_LOG_ACCESS": "true", "TENFOLD_LOG_FORMAT": "json"}
_TRACES = {"TENFOLD_TRACE_RATIO": "0.01"}
_STORE = {"TENFOLD_TELEMETRY_STORE": "true"}
_WATCHED = {
    "metrics alone": {}, "all of telemetry": {**_LOG, **_TRACES, **_STORE},
    "access log": _LOG, "traces of 1 %": _TRACES, "store": _STORE,
}  # fmt: skip
TELEMETRY_CONTENDERS = [
    ours(name, RUN_COST, env={**_OFF, **env}, measures=_COSTS) for name, env in _WATCHED.items()
]
TELEMETRY_TARGETS = [Target("items", UNWATCHED, 0.9), Target("row", UNWATCHED, 0.95)]


@dataclass(frozen=True, slots=True)
class Field:
    """Who is measured at what, together."""

    title: str
    about: str
    contenders: list[Contender]
    measures: dict[str, Measure]
    targets: list[Target]
    judged: tuple[str, ...] = JUDGED


FIELDS = {
    "http": Field(
        "HTTP",
        """One server process pinned to CPU 0, wrk with one thread and 32 keep-alive connections on CPU 1. All servers are
up during the whole run and get their load one after another, in short bursts, while the others are stopped (SIGSTOP), so
that their timers disturb nobody; a round is one burst for each, and
every ratio is formed within a round. The table has the median of the rounds, their middle half, the lowest and
highest. ✓ and ✗ are given where the middle half lies on one side of the target; "?" means undecided. Two of ours
are judged, named beforehand: what `tenfold run` serves, and the entry for Granian; of a peer on two servers, its faster one. The CPU
ratio compares requests per second of CPU time that the server used (user and system, with its children): other
work on the machine disturbs it less. uvloop everywhere; uvicorn with httptools; access logs off, but in the row
that says otherwise. Tenfold runs with its defaults: metrics, deadlines, security headers, request ids, limits.
wrk sends the same headers with every request, as most clients do; `tenfold run` parses those of a connection once (decision 0058).
"raw RSGI limit" is a hand-written dispatch on Granian with msgspec, without any of these. The peers' programs use
each one's own documentation as their model.
""",
        CONTENDERS,
        MEASURES,
        TARGETS,
    ),
    "postgresql": Field(
        "HTTP with PostgreSQL and Redis",
        """The same method; every server has 8 connections to one PostgreSQL (`fsync=off`: the disk is nobody's merit), which shares
both CPUs with everything else, so the CPU ratio says more than requests a second. `orders` writes a row and a job in
one transaction; `queries` reads 20 rows, and waits for each, `queries_each` asks for the same at once (`one_each`);
`db_orm` and `fortunes_orm` go through SQLAlchemy's ORM on both sides; `product_redis` is a cached read
with Redis as the second tier. A name behind the contender is the endpoint of theirs that does the same work.
""",
        PG_CONTENDERS,
        PG_MEASURES,
        PG_TARGETS,
    ),
    "cost": Field(
        "What everything on costs",
        """By the method of HTTP above: a typed GET and a read of one row from PostgreSQL. The servers start
anew every two rounds, since two of the same code differ by some 4 %. "as it comes" is `tenfold run` without
access log and traces; "everything on" has rate limits, a bearer token that is verified, the access log and 1 % of traces
besides, with the counts of the limits in memory or in Redis. Admission, deadlines and metrics are on in all of them.
""",
        COST_CONTENDERS,
        COST_MEASURES,
        COST_TARGETS,
        tuple(c.name for c in COST_CONTENDERS[1:]),
    ),
    "telemetry": Field(
        "What telemetry costs",
        """By the method of HTTP above: a typed GET and a read of one row from PostgreSQL. The servers start
anew every two rounds, since two of the same code differ by some 4 %. "all of telemetry" is the access log as
JSON, 1 % of traces sampled, the store, and with it traces recorded to be kept if slow or failed; then each part of it
alone. Metrics are on in all of them.
""",
        TELEMETRY_CONTENDERS,
        COST_MEASURES,
        TELEMETRY_TARGETS,
        ("Tenfold/all of telemetry",),
    ),
}
