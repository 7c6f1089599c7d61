"""The two listeners of a process: the public one and the one for operations."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from tenfold._core.sections.kinds import Count, Port, Seconds


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
