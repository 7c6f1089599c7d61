"""The sections of ``tenfold.toml``, with the default of every setting."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from tenfold._core.sections_alerts import AlertsSettings
from tenfold._core.sections_otlp import OtlpSettings
from tenfold._core.sections_telemetry import TelemetrySettings

Port = Annotated[int, Meta(ge=0, le=65_535)]
Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]


class AppSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[app]"""

    target: str = ""
    """What the commands run when they name none: "shop.app:app"."""
    env: Literal["development", "production", "test"] = "development"
    data_dir: str = "data"
    """Folder of everything the embedded backends keep."""
    secret_key: str = ""
    """Signs tokens. Required in production; made and kept in data_dir in development."""
    stop_timeout_s: Seconds = 15.0
    """How long running work may take to end after SIGTERM."""


class HttpSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[http]: the public listener and its limits"""

    host: str = "127.0.0.1"
    port: Port = 8000
    server: Literal["uvicorn", "granian"] = "uvicorn"
    timeout_s: Seconds = 30.0
    """Deadline of an operation that declares none."""
    header_timeout_s: Seconds = 10.0
    """How long a client may take to send the request line and the headers, from its connecting or their first byte on;
    then 408."""
    body_timeout_s: Seconds = 20.0
    """How long a client may take to send its body, and a second longer for each ``bytes_per_s_min`` of it that came."""
    write_timeout_s: Seconds = 20.0
    """A client that takes fewer than ``bytes_per_s_min`` of its answer over so long is disconnected."""
    bytes_per_s_min: Count = 1024
    """Slowest rate at which bodies may come and answers be taken, in bytes a second."""
    keep_alive_s: Seconds = 75.0
    """How long a connection may be idle between two requests. Longer than the idle time-out of the usual balancers (NGINX
    60 s), so that they close first."""
    connections_max: Count = 10_000
    """Connections at a time, of which each is a file. Beyond it, the one that has been silent longest since it came, or the
    newest idle one, makes room."""
    body_max_bytes: Count = 1_048_576
    upload_max_bytes: Count = 33_554_432
    """The same for multipart bodies, which are spooled to disk."""
    buffered_max_bytes: Count = 268_435_456
    """Memory for the bodies of all requests in progress together, beyond the first 64 KiB of each, and as much for answers
    that clients are slow to take. A body waits for its place, up to 5 s, and is then refused (503)."""
    header_max_bytes: Count = 16_384
    headers_max: Count = 100
    """Headers of one request."""
    query_max_params: Count = 200
    json_max_depth: Count = 32
    concurrency: Literal["adaptive"] | Count = "adaptive"
    """Requests that run at a time in this process: a number, or as many as it finds it can serve in time. Beyond it
    ``waiting_max`` wait for up to half a second, and the rest are refused at once (503), the least urgent first."""
    concurrency_max: Annotated[int, Meta(ge=0)] = 1000
    """Requests in progress at a time at most, also those that only wait for something outside of this process (a slow
    dependency, a long poll), which ``concurrency`` does not count. 0 turns admission off."""
    waiting_max: Annotated[int, Meta(ge=0)] = 100
    threads: Count = 16
    """Handlers that are plain functions run in a pool of this size."""
    blocked_loop_warn_s: Seconds = 0.1
    """A handler that holds the event loop longer is named in the log."""
    cors_origins: list[str] = []
    """Origins that browsers may call from; ["*"] for any."""
    trusted_proxies: list[str] = []
    """Networks whose X-Forwarded-… headers are believed."""
    compress_min_bytes: int = 1024
    """Bodies of at least this size are compressed with gzip; 0 turns it off."""
    docs: bool | None = None
    """Serve /openapi.json and the API explorer at /docs. Default: yes, but not in production."""


class OpsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[ops]: the operations listener (dashboard, metrics, health)"""

    host: str = "127.0.0.1"
    port: Port = 8001
    token: str = ""
    """Bearer token asked of every page but the health checks; required when host is not loopback. Who has it operates."""
    read_token: str = ""
    """The same for those who may look and change nothing."""
    operators: list[str] = []
    """Roles of the app's accounts that may sign in at the dashboard and operate; "*": every account."""
    readers: list[str] = []
    """Roles of the app's accounts that may sign in at the dashboard and look; "*": every account."""


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


class WorkerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[worker]: runs jobs, subscribers and schedules"""

    enabled: bool = True
    concurrency: Count = 64
    batch: Count = 200
    """Messages claimed at a time."""
    lease_s: Seconds = 15.0
    """A worker that is silent for so long loses its messages to another."""
    poll_s: Seconds = 1.0
    """Longest time between two looks at the queue when no notification came."""
    processes: Count = 2
    """Size of the pool for CPU-bound jobs."""
    retention_s: Seconds = 604_800.0
    """How long finished messages and inbox rows are kept."""


class EventsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[events]: what carries events from topics to subscriptions"""

    url: str = ""
    """A broker: "rabbitmq://…", "kafka://h1:9092,h2:9092", "nats://…", "redis://…" (streams) or "sqs://…". Empty: the
    app's own database carries them."""
    prefix: str = "tenfold"
    """Begins every name that is made at the broker; apps that share one and are not to share events differ in it."""
    batch: Count = 2_000
    """Events that are published, or taken in, at a time."""
    timeout_s: Seconds = 10.0
    """How long the broker may take to confirm a batch, or to answer anything else."""
    poll_s: Seconds = 1.0
    """Longest time between two looks at the outbox when nobody told of something new."""
    lease_s: Seconds = 15.0
    """A process that publishes or takes in alone, and is silent for so long, is replaced by another."""
    redeliver_s: Seconds = 60.0
    """What was handed to a process that then fell silent is handed to another after so long."""
    outbox_keep_s: Seconds = 604_800.0
    """How long published events are kept, so that they can be published again to a broker that lost them."""
    inbox_keep_s: Seconds = 1_209_600.0
    """How long is remembered which events were handled. Longer than ``outbox_keep_s``, and than the broker keeps
    messages, or an old one that comes again would be handled again."""
    retry_max_s: Seconds = 30.0
    """Longest pause before the broker is tried again after it failed; the first ones are shorter."""


class QueueSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[queues.NAME]: one queue; what is not said here is as declared with ``service.queue``"""

    rate: str | None = None
    """How many messages may start: "100/minute", or "100/minute burst 10"; empty for no limit."""
    concurrency: Count | None = None
    """How many messages may run at a time, in the whole fleet."""
    fair: bool | None = None
    """Whether tenants take turns. Default: yes."""
    keep_done_s: Seconds | None = None
    """How long messages that are done are kept. Default: worker.retention_s."""
    keep_dead_s: Seconds | None = None
    """How long dead ones are kept. Default: 90 days, or worker.retention_s where that is longer."""
    keep_cancelled_s: Seconds | None = None
    """How long cancelled ones are kept. Default: worker.retention_s."""


class TenantSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[tenants.NAME]: one tenant; who is not named here is as ``App(tenant_weight=…)`` says, or has weight 1"""

    weight: Annotated[float, Meta(ge=0.01, le=1000)] = 1.0
    """How many turns it has, where tenants take turns under pressure, for every one of a tenant of weight 1."""


class AuthSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[auth]"""

    access_ttl_s: Seconds = 900.0
    refresh_ttl_s: Seconds = 2_592_000.0
    session_ttl_s: Seconds = 1_209_600.0
    hash_threads: Count = 2
    """Passwords are hashed in a pool of this size."""


class MailSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[mail]"""

    url: str = ""
    """smtp://user:password@host:port; empty writes mails to data_dir/mailbox."""
    sender: str = "no-reply@localhost"


class WebhookSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[webhooks]: events sent to other people's servers, and theirs taken in"""

    allow: list[str] = []
    """Networks that webhooks may be sent to although they are not public: ["10.1.0.0/16", "127.0.0.1"]."""
    plain_http: bool | None = None
    """Whether endpoints may begin with http://. Default: yes, but not in production."""
    timeout_s: Annotated[float, Meta(gt=0, le=45)] = 15.0
    """How long one attempt may take, from the look-up of the name to the end of the answer."""
    answer_max_bytes: Count = 65_536
    """So much of an answer is read, and the connection closed when there is more."""
    keep_s: Seconds = 2_592_000.0
    """How long events and the log of their deliveries are kept, so that they can be replayed."""
    tolerance_s: Seconds = 300.0
    """How far the signed time of an incoming webhook may be from now."""


class ClientSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[clients.NAME]: one client for calls out; what is not said here is as declared with ``service.http``"""

    url: str | None = None
    """Where the other side is: "https://api.example/v1"."""
    token: str = ""
    """Sent as bearer token with every call to ``url``."""
    allow: list[str] = []
    """Networks that may be called although they are not public: ["10.1.0.0/16", "127.0.0.1"]."""
    plain_http: bool | None = None
    """Whether URLs may begin with http://. Default: where ``url`` does; without one, not in production."""
    ca_file: str = ""
    """Certificates (PEM) of who signs the other side's, where that is not one of those the system trusts."""
    timeout_s: Seconds | None = None
    """A call with all its tries takes no longer than this, and no longer than its caller's deadline. Declared: 10."""
    connect_timeout_s: Seconds | None = None
    """For the look-up of the name and the connection together, and once more for TLS. Declared: 2."""
    read_timeout_s: Seconds | None = None
    """Longest silence within an answer. Declared: timeout_s."""
    concurrency: Count | None = None
    """Calls under way at a time in this process. Declared: 64."""
    concurrency_per_host: Count | None = None
    """The same for each host. Declared: as many as in all."""
    waiting_max: Annotated[int, Meta(ge=0)] | None = None
    """So many more may wait for a place. Declared: 64."""
    wait_s: Annotated[float, Meta(ge=0)] | None = None
    """How long they may wait; then the call is refused. Declared: 0.5."""
    attempts: Count | None = None
    """Tries of one call at most. Declared: 3."""
    retry_share: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Second tries of all calls together are at most this share of the first ones. Declared: 0.1."""
    hedge_share: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Share of slow reads that are sent once more, the first answer counting. Declared: 0."""
    redirects_max: Annotated[int, Meta(ge=0, le=20)] | None = None
    """Redirects that a GET or HEAD follows. Declared: 0."""
    answer_max_bytes: Count | None = None
    """Largest body that is read, unpacked. Declared: 8 MiB."""
    download_max_bytes: Count | None = None
    """The same for a body that is streamed. Declared: 1 GiB."""
    breaker: bool | None = None
    """Leave a host alone for a while after too many failures. Declared: yes."""
    breaker_open_max_s: Seconds | None = None
    """Longest while. Declared: 5."""
    ours: bool | None = None
    """The other side is a backend of ours: the causal token, the request id and who calls go along. Declared: no."""


class ScaleSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[scale]: how many instances of a role run, where its count is a range"""

    concurrency: Annotated[float, Meta(gt=0, le=1)] = 0.8
    """Share of what an instance can have in progress (its learned limit) that is aimed at."""
    cpu: Annotated[float, Meta(gt=0, le=1)] = 0.85
    """Share of one core that an instance is to use."""
    latency_s: Seconds = 1.0
    """99 of 100 requests are to be answered in so long; what is slower asks for more instances while they are busy."""
    queue_age_s: Seconds = 30.0
    """How long a job may be due before somebody begins it; older ones ask for more workers."""
    start_s: Seconds = 10.0
    """How long an instance takes to get ready, until that was seen; the load is looked ahead for so long."""
    tolerance: Annotated[float, Meta(ge=0, le=0.5)] = 0.1
    """So much more or less than what is aimed at changes nothing."""
    window_s: Seconds = 90.0
    """Instances are given up that nobody needed for so long."""
    pause_s: Seconds = 20.0
    """Shortest time between two reductions, of which each takes half of the instances at most."""
    turns_max: Count = 2
    """How often in an hour a growing fleet may begin to shrink. After that it stays as large as it is."""
    dry_run: bool = False
    """Say what would be done, and change nothing."""


Percent = Annotated[float, Meta(ge=0, le=100)]


class GatewayRoute(Struct, frozen=True, forbid_unknown_fields=True):
    """[gateway.routes.NAME]"""

    service: str
    """The service that answers."""
    path: str = "/"
    """What begins so, at the end of a segment, takes this route; the longest path wins."""
    host: str = ""
    """Only requests to this host: "api.shop.example" or "*.shop.example". Default: any."""
    strip: bool = False
    """The service does not see the path of the route."""
    auth: Literal["service", "required"] = "service"
    """"required": the gateway lets only callers through that the app's authenticator knows. The service judges their
    credentials again, whatever this says."""
    canary: dict[str, Percent] = {}
    """Other services that get so many percent of the callers. A caller stays with one."""
    limit: str | None = None
    """Rate limit, as "100/minute per principal"."""
    timeout_s: Seconds | None = None
    """Until the head of the answer. Default: http.timeout_s."""
    concurrency: Count | None = None
    """Requests under way on this route at a time in this process."""
    priority: Literal["critical", "default", "sheddable", "background"] = "default"
    body_max_bytes: Count | None = None
    """Largest body of a request; it is passed on while it comes. Default: http.body_max_bytes."""
    cache: bool = False
    """Keep answers for as long as their Cache-Control says, for callers without credentials."""


class GatewaySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[gateway]: the role that stands in front of services"""

    routes: dict[str, GatewayRoute] = {}
    services: dict[str, PeerSettings] = {}
    """Where services are that the app does not declare: another version of one, or a backend of somebody else's. Those of
    the app are where [services.NAME] url says."""
    attempts: Count = 3
    """Tries of a request at most. A second one goes elsewhere where it can, and is made only for what was never begun:
    nobody took the connection, or it broke off before an answer and the method is idempotent."""
    retry_share: Annotated[float, Meta(ge=0, le=1)] = 0.1
    """Second tries are at most this share of the first ones, for each service."""
    connect_timeout_s: Seconds = 1.0
    silence_s: Seconds = 60.0
    """Longest silence within an answer or a WebSocket's closing. Server-sent events have a heartbeat every 15 s."""
    concurrency: Count = 1000
    """Requests under way to each service at a time in this process."""
    cache_body_max_bytes: Count = 1_048_576
    """Larger answers are not kept."""


class BalancerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[balancer]: the NGINX or HAProxy that `tenfold up` runs in front of the web instances"""

    kind: Literal["none", "nginx", "haproxy"] = "none"
    program: str = ""
    """Path of its binary. Default: the one that is installed."""
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65_535)] = 8080
    tls_certificate: str = ""
    """File (PEM) with the certificate and those between it and its root; turns TLS and HTTP/2 on."""
    tls_key: str = ""
    """File (PEM) with its private key."""
    tls_client_ca: str = ""
    """Only clients with a certificate signed by one of those in this file are let in."""
    names: list[str] = []
    """Host names that clients use. The certificate has to be valid for each."""
    http2: bool = True
    sticky: bool = False
    """A client stays with one instance while that lives."""
    static: list[str] = []
    """Folders that NGINX serves by itself: ["/assets=public/assets"]. HAProxy serves no files."""
    micro_cache: bool = False
    """Keep answers for as long as their Cache-Control says, for callers without credentials."""
    micro_cache_max_bytes: Annotated[int, Meta(ge=1_048_576)] = 67_108_864
    compress: bool = True
    """gzip, of what the app did not compress."""
    tries: Count = 3
    """Instances that a request is tried on at most. Another one is tried where no connection was made, or where it broke off
    before an answer and the method is idempotent."""
    connect_timeout_s: Seconds = 1.0
    timeout_s: Seconds | None = None
    """Longest silence of an instance. Default: http.timeout_s and 5 s more. Longer than the longest timeout of an operation,
    or the app cannot say itself that it is late."""
    slow_start_s: Annotated[float, Meta(ge=0)] = 5.0
    """A new instance gets its full share after so long (HAProxy)."""
    drain_s: Annotated[float, Meta(ge=0)] = 2.0
    """How long clients' connections are told to end before those that stayed silent are closed, when upstreams change."""
    stop_timeout_s: Seconds = 30.0
    """How long what is in progress may take when it is stopped or its configuration replaced."""


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[log]"""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] | None = None
    """Default: text on a terminal, JSON elsewhere."""
    access: bool = True
    """One line per request."""


class TraceSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[trace]"""

    ratio: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of the traces that start here which are recorded; a caller's decision is followed."""
    exporter: str = "none:"
    """Where finished spans go: "none:" or "console:"."""
    ring: Count = 1000
    """Finished spans kept in memory."""


class UpSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[up]: what `tenfold up` keeps running on this machine"""

    app: str = ""
    """The app, as "shop.app:app". Default: app.target, or the only one there is."""
    web: int | str = 1
    """Instances that answer requests: a count, or a range such as "2..4" within which they follow the load."""
    worker: int | str = 0
    """Instances that run jobs, subscribers and schedules. With 0, those that answer requests do it beside."""
    relay: int | str = 0
    """Instances that do nothing but move events to and from the broker. Workers do that too."""
    scheduler: int | str = 0
    """Instances that do nothing but let schedules tick. Workers do that too, and no tick comes twice."""
    gateway: int | str = 0
    """Instances of the one public entry in front of services of their own."""
    services: dict[str, int | str] = {}
    """Services with instances of their own, each with its count or range; `web` then counts those of the others."""
    memory_max: str = ""
    """An instance with more resident memory ("512MiB") is replaced in order. Empty: no limit."""
    ready_timeout_s: Seconds = 30.0
    """An instance that is not ready so long after its start is ended and started again."""
    silent_timeout_s: Seconds = 60.0
    """An instance that lives and has answered no question about its health for so long is replaced. One that answers that it
    is not ready, since its database is away, stays: another one would not be either."""
    drain_s: Annotated[float, Meta(ge=0)] = 1.0
    """How long a balancer has known that an instance leaves before the instance is told."""
    restart_base_s: Seconds = 0.5
    """An instance that ends by itself is started again after a wait below this, which doubles with each that fails."""
    restart_most_s: Seconds = 30.0
    """Longest wait."""
    crashes_max: Count = 5
    """Of a role, so many instances may end within `crash_window_s` before they were of use; then it is held."""
    crash_window_s: Seconds = 60.0
    hold_s: Seconds = 60.0
    """What is held starts one instance after so long, and goes on when that one gets ready."""


class CompanionSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[companions]: servers that `tenfold up` starts along, for development"""

    postgresql: bool = False
    redis: bool = False
    rabbitmq: bool = False


class PeerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[services.NAME]: where a service is that runs in processes of its own; the service's own settings stand beside"""

    url: str | list[str] = ""
    """For processes that do not serve it: "http://10.0.0.7:8101"; several in a list, or separated by commas;
    "dns+http://orders.internal:8101" for every address of a name; "srv+http://orders.internal" for what its SRV
    records say (needs tenfold[dns])."""
    ca_file: str = ""
    """Certificates (PEM) of who signs those of the service, where that is not one of those the system trusts."""


class IdentitySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[identity]: by what the services of an app know each other, where they run in processes of their own"""

    folder: str = ""
    """Where their keys are (`tenfold identity`); relative paths are below app.data_dir. Empty: they prove nothing to each
    other, and take calls from their own machine only, which production refuses."""
    trust_domain: str = ""
    """First part of their names, spiffe://DOMAIN/service/NAME. Default: the app's name."""
    token_ttl_s: Annotated[float, Meta(gt=0, le=300)] = 60.0
    """How long a token lives. Who steals one can use it against one service for so long."""
    tls: bool = False
    """Processes that serve one of the services take connections of other services only, which show their certificates, and
    make connections likewise (mutual TLS)."""
    database_roles: Literal["warn", "refuse"] | None = None
    """PostgreSQL, where a process serves some of the services: what happens when its role can reach the tables of others
    ("warn": it is said in the log; "refuse": the process does not start). Default: refuse in production."""


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a running app reads, checked once at start."""

    app: AppSettings = AppSettings()
    http: HttpSettings = HttpSettings()
    ops: OpsSettings = OpsSettings()
    database: DatabaseSettings = DatabaseSettings()
    cache: CacheSettings = CacheSettings()
    guard: GuardSettings = GuardSettings()
    worker: WorkerSettings = WorkerSettings()
    queues: dict[str, QueueSettings] = {}
    """Per queue, what differs from its declaration."""
    tenants: dict[str, TenantSettings] = {}
    """Per tenant, what differs from the others."""
    events: EventsSettings = EventsSettings()
    auth: AuthSettings = AuthSettings()
    mail: MailSettings = MailSettings()
    webhooks: WebhookSettings = WebhookSettings()
    clients: dict[str, ClientSettings] = {}
    """Per client for calls out, what differs from its declaration."""
    scale: ScaleSettings = ScaleSettings()
    gateway: GatewaySettings = GatewaySettings()
    balancer: BalancerSettings = BalancerSettings()
    identity: IdentitySettings = IdentitySettings()
    log: LogSettings = LogSettings()
    trace: TraceSettings = TraceSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    otlp: OtlpSettings = OtlpSettings()
    alerts: AlertsSettings = AlertsSettings()
    up: UpSettings = UpSettings()
    companions: CompanionSettings = CompanionSettings()
    services: dict[str, Any] = {}
    """Per service, an instance of the class it declared."""
    peers: dict[str, PeerSettings] = {}
    """Per service, where it is; written under ``[services.NAME]``, too."""

    @property
    def shows_docs(self) -> bool:
        """Whether the public listener serves the API's documentation."""
        return self.app.env != "production" if self.http.docs is None else self.http.docs
