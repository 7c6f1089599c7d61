"""``tenfold routes``: the operations, and with ``--policies`` what surrounds each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tenfold.cli import console, target
from tenfold.cli.target import Config, Target

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.http.operation import Operation

COLOURS = {
    "GET": console.CYAN,
    "POST": console.GREEN,
    "PUT": console.YELLOW,
    "PATCH": console.YELLOW,
    "DELETE": console.RED,
}


def routes(
    app: Target = None,
    /,
    *,
    policies: Annotated[
        bool, Parameter(negative=(), help="Show who may use each, and what surrounds it.")
    ] = False,
    config: Config = None,
) -> int:
    """List the operations, web sockets and mounted apps."""
    loaded = target.load(app, config)
    loaded.configure(config)
    rows = [(o.method, o.path, o.name, _policies(o, loaded)) for o in loaded.operations if o.routed]
    rows += [("WS", w.path, w.name, _auth(w.auth)) for service in loaded.services for w in service.websockets]
    rows += [("*", f"{m.path}/…", service.name, _auth(m.auth)) for service, m in _mounts(loaded)]
    rows += [("call", "", o.name, "other services only") for o in loaded.operations if not o.routed]
    headings = ("method", "path", "operation", "policies")
    shown = [(_painted(row[0]), *row[1 : 4 if policies else 3]) for row in rows]
    console.table(shown, headings=headings[: 4 if policies else 3])
    return 0


def _painted(method: str) -> str:
    return console.paint(method, COLOURS[method]) if method in COLOURS else method


def _mounts(app: App) -> list[tuple[Any, Any]]:
    return [(service, mount) for service in app.services for mount in service.mounts]


def _auth(auth: Any) -> str:
    from tenfold.http.operation import UNSET
    from tenfold.security.policy import as_policy

    return "no policy!" if auth is UNSET else as_policy(auth).describe()


def _policies(operation: Operation[..., Any], app: App) -> str:
    from tenfold.http.limiting import limits_of

    found = operation.policies
    parts = [_auth(found.auth)]
    if found.idempotent:
        parts.append("key required" if found.idempotent == "required" else "idempotent")
    parts += [str(limit) for _, limit in limits_of(operation, app.limits)]
    if found.cache is not None:
        parts.append(f"cached {found.cache.ttl_s:g} s")
    if found.timeout_s is not None:
        parts.append(f"within {found.timeout_s:g} s")
    if found.body_max_bytes is not None:
        parts.append(f"body ≤ {found.body_max_bytes:,} bytes")
    if found.deprecated:
        parts.append("deprecated")
    return ", ".join(parts)
