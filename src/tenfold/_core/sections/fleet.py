"""What `tenfold up` keeps running: instances, their number, the balancer, development servers."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from tenfold._core.sections.kinds import Count, Seconds


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
    """An instance with more resident memory ("512MiB"), processes that it started included, is replaced in order. Empty: no
    limit."""
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


class ScaleSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[scale]: how many instances of a role run, where its count is a range"""

    concurrency: Annotated[float, Meta(gt=0, le=1)] = 0.8
    """Share of what a single instance can have in progress (its learned limit) that is aimed at. Several together need less
    spare: n of them √n times that of one."""
    cpu: Annotated[float, Meta(gt=0, le=1)] = 0.85
    """Share of one core that an instance is to use."""
    latency_s: Seconds = 1.0
    """99 of 100 requests are to be answered in so long; what is slower asks for more instances while they are busy."""
    queue_age_s: Seconds = 30.0
    """How long a job may be due before somebody begins it; older ones ask for more workers."""
    start_s: Seconds = 10.0
    """How long an instance takes to get ready, until that was seen; the load is looked ahead for so long."""
    tolerance: Annotated[float, Meta(ge=0, le=0.5)] = 0.1
    """So much more or less than what a single instance is to do changes nothing; √n times that with n of them."""
    window_s: Seconds = 90.0
    """Instances are given up that nobody needed for so long."""
    pause_s: Seconds = 20.0
    """Shortest time between two reductions, of which each takes half of the instances at most."""
    turns_max: Count = 2
    """How often in an hour a growing fleet may begin to shrink. After that it stays as large as it is."""
    dry_run: bool = False
    """Say what would be done, and change nothing."""


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
    redirect_port: Annotated[int, Meta(ge=1, le=65_535)] | None = None
    """Port where plain HTTP is answered with a redirect (308) to `port`, which has to speak TLS: mostly 80."""
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


class CompanionSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[companions]: servers that `tenfold up` starts along, for development"""

    postgresql: bool = False
    redis: bool = False
    rabbitmq: bool = False
    compose: str = ""
    """A file of Docker Compose whose services run while the fleet does: "compose.yaml". Where they are, their settings say."""
