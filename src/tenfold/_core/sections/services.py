"""Services in processes of their own: where they are, who they are, and the gateway in front of them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from tenfold._core.sections.kinds import Count, Percent, Seconds


class PeerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[services.NAME]: where a service is that runs in processes of its own; the service's own settings stand beside"""

    url: str | list[str] = ""
    """For processes that do not serve it: "http://10.0.0.7:8101"; several in a list, or separated by commas;
    "dns+http://orders.internal:8101" for every address of a name; "srv+http://orders.internal" for what its SRV
    records say (needs tenfold[dns])."""
    ca_file: str = ""
    """Certificates (PEM) of who signs those of the service, where that is not one of those the system trusts."""
    identity: str = ""
    """Whose certificate is shown there where identity.tls is on: "balancer" where NGINX or HAProxy takes the connections,
    the service's name where it is reached by another one. Default: the service's."""


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
