"""What goes out to other people's servers: mail, webhooks, calls."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from tenfold._core.sections.kinds import Count, Seconds


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
