"""Where data is kept: the database, the cache, and what guards use."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from tenfold._core.sections.kinds import Count, Seconds


class DatabaseSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[database]"""

    url: str = "sqlite:///app.db"
    """Relative SQLite paths are below app.data_dir."""
    readers: Count = 4
    """SQLite: connections that read at the same time as the writer."""
    pool_max: Count = 10
    """Servers: connections of one process at most for requests and jobs. Heartbeats, settling and health checks have up
    to 2 more when all of these are taken."""
    pool_wait_s: Seconds = 5.0
    """Servers: how long work waits for a connection when all are taken; then 503 with Retry-After. Work with an
    earlier deadline waits until shortly before it."""
    connect_timeout_s: Seconds = 5.0
    """Servers: how long making a connection may take."""
    replicas: list[str] = []
    """Servers: URLs of copies of the database at ``url``, which answer reads. The same in every process of the app."""
    lag_max_s: Seconds = 10.0
    """A replica that is further behind is left out until it has caught up."""
    replica_wait_s: Annotated[float, Meta(ge=0)] = 0.0
    """How long a read waits for a replica to have its caller's last write before it goes to the primary."""
    statement_timeout_s: Seconds = 30.0
    """For work without a deadline."""
    lock_timeout_s: Seconds = 10.0
    """How long a transaction waits for the writer (SQLite), or for a row that another one holds."""
    rows_max: Annotated[int, Meta(ge=0)] = 100_000
    """A select of more rows than these is not read into memory at once, but fails; 0: without a bound. The drivers of MariaDB
    and of psycopg have read them by then."""
    watch: bool = True
    """Find slow and repeated statements and missing indexes: in the log, and at /database of the operations listener."""
    slow_s: Seconds = 0.2
    """A statement that takes longer is called slow."""
    migrate: Literal["auto", "check"] | None = None
    """Apply migrations at start, or refuse to start when behind. Default: auto in development, check in production."""


class CacheSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[cache]"""

    url: str = "memory:"
    """"memory:" (this process), "redis://…" or "memcached://host:port,host2:port" (shared by all)."""
    entries_max: Count = 100_000
    """Entries kept in this process by each cache of the memory backend."""
    ttl_max_s: Seconds = 86_400.0
    """Ceiling on any entry's life."""
    loads_max: Count = 64
    """Values loaded at a time in this process; more wait for a place. Spares the database after a cold start."""
    prefix: str = "tenfold"
    """First part of every key in a shared store; apps that share one must differ in it."""
    timeout_s: Seconds = 0.05
    """How long a read waits for a shared store. After that, nobody waits until it answers again."""
    near_entries: Annotated[int, Meta(ge=0)] = 10_000
    """Copies kept in this process by each cache of a shared store; 0 for none."""
    near_ttl_s: Seconds = 1.0
    """How stale such a copy may be at most, whatever is lost between the processes and the store."""
    lease_s: Seconds = 2.0
    """A process that died while it loaded a value is waited for so long at most; then another loads it."""
    busy_s: Seconds = 60.0
    """Longest time from the end of a transaction's work to the end of its commit. Until then, what it invalidates
    is read from the source, also when its process died."""


class GuardSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[guard]: rate limits, idempotency keys, leases, sessions"""

    url: str = ""
    """Where they are kept: "redis://…", or "memory:" (this process only). Empty: the service's database."""
    away: Literal["open", "closed", "local"] = "local"
    """What a rate limit does while its store is away: admit all, refuse all (503), or count in each process by itself."""
    timeout_s: Seconds = 0.25
    """How long a rate limit waits for the store before it counts as away; other work waits eight times as long."""
    lease_s: Annotated[float, Meta(ge=0, le=10)] = 1.0
    """How long units of a busy rate limit are taken ahead from a shared store at most, so that most checks need no
    round trip; 0: each check asks the store."""
    prefix: str = "tenfold"
    """Begins the names of keys in Redis; apps that share a server need different ones."""
