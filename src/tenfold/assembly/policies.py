"""The policies of a running app: looked at and changed at the operations listener's ``/policies``, by scripts. People
have the dashboard's page of the same address.

    GET /policies                           every operation's policies, and what is changed
    GET /policies/orders.place_order.limit  the change of one policy; 404 while it is as declared
    PUT …/orders.place_order.limit          {"value": "5/minute", "by": "ann", "why": "flood", "until": "2h"}
    DELETE …/orders.place_order.limit       {"by": "ann", "why": "over"}

Refusals are problem documents. A web page cannot send these: other origins may not PUT or DELETE without being allowed
to, and nobody is (the listener answers no preflight).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from tenfold.errors import (
    FieldError,
    InvalidInput,
    MalformedBody,
    MethodNotAllowed,
    NotFound,
    Problem,
    TenfoldError,
)
from tenfold.guard.overrides import Override
from tenfold.http.overview import OperationRow, overview
from tenfold.http.problems import problem_of
from tenfold.telemetry import names
from tenfold.telemetry.metrics import Family, Sample
from tenfold.telemetry.ops import read_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tenfold.app import App
    from tenfold.assembly.adjusting import Changes
    from tenfold.guard.bulkhead import Bulkhead
    from tenfold.guard.overrides import Overrides
    from tenfold.http.wiring import Wiring
    from tenfold.telemetry.hub import Hub
    from tenfold.telemetry.ops import Receive, Scope, Send

T = TypeVar("T")

BODY_MAX_BYTES = 16_384
ABOUT = "What surrounds each operation, and changing it while the app runs (JSON)."


class Policies(msgspec.Struct):
    """The answer of ``GET /policies``."""

    operations: list[OperationRow]
    overrides: list[Override]
    names: list[str]
    """Everything that can be changed."""


class Change(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a PUT."""

    value: str | int | float | bool | None
    by: str
    why: str
    until: str | float | None = None


class Withdrawal(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a DELETE."""

    by: str
    why: str = ""


class PoliciesPart:
    """Starts when everything adjustable runs, so that the first request finds the changes in force."""

    def __init__(self, app: App, overrides: Overrides, changes: Changes, telemetry: Hub) -> None:
        self._app, self._overrides = app, overrides
        self._changes, self._telemetry = changes, telemetry

    async def start(self) -> None:
        await self._overrides.start()
        self._telemetry.pages.add("/policies", "Policies", ABOUT, PoliciesPage(self))
        about = "Policies that are changed at run time, and changes that this process put into force."
        overrides = self._overrides
        self._telemetry.numbers(
            names.OVERRIDES,
            about,
            ({}, lambda: {"in_force": len(overrides.in_force), "applied_total": overrides.applied}),
        )

    def show_bulkheads(self, wiring: Wiring) -> None:
        """Add the bulkheads to the metrics."""
        self._telemetry.registry.collector(lambda: _bulkheads(wiring), names.BULKHEAD)

    async def stop(self) -> None:
        await self._overrides.stop()

    def read(self) -> Policies:
        """Everything, as it is now in this process."""
        app = self._app
        rows = overview(
            app.operations,
            app.inherited,
            self._changes.limits,
            app.settings.http,
            before=self._changes.layers,
        )
        return Policies(rows, self._overrides.in_force, self._overrides.names)

    async def act(self, method: str, name: str, receive: Receive) -> Any:
        """What to answer. Raises a Problem."""
        if not name:
            if method not in ("GET", "HEAD"):
                raise MethodNotAllowed("/policies answers GET; /policies/NAME PUT and DELETE too.")
            return self.read()
        match method:
            case "GET" | "HEAD":
                found = self._overrides.get(name)
                if found is None:
                    raise NotFound(f"{name} is as code and settings say.")
                return found
            case "PUT":
                change = await _read(receive, Change)
                return await self._overrides.set(
                    name, change.value, by=change.by, why=change.why, until=change.until
                )
            case "DELETE":
                withdrawal = await _read(receive, Withdrawal)
                removed = await self._overrides.unset(name, by=withdrawal.by, why=withdrawal.why)
                return {"removed": removed}
            case _:
                raise MethodNotAllowed(
                    f"/policies/{name} answers GET, PUT and DELETE.", headers={"Allow": "GET, PUT, DELETE"}
                )


def _bulkheads(wiring: Wiring) -> Iterable[Family]:
    """One set of labels per operation that has a bound, so as many as the code has."""
    shown: tuple[tuple[str, Literal["gauge", "counter"], str, Callable[[Bulkhead], int]], ...] = (
        ("in_flight", "gauge", "", lambda each: each.in_flight),
        ("limit", "gauge", "", lambda each: each.most),
        ("refused", "counter", "_total", lambda each: each.refused),
    )
    for name, kind, suffix, read in shown:
        samples = [
            Sample(suffix, {names.OPERATION: each.name}, read(each)) for each in wiring.bulkheads.values()
        ]
        yield Family(
            f"{names.BULKHEAD}_{name}", kind, "Operations with a bound of their own (concurrency=).", samples
        )


class PoliciesPage:
    """An ASGI application for :class:`~tenfold.telemetry.ops.Pages`."""

    def __init__(self, policies: PoliciesPart) -> None:
        self._policies = policies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].removeprefix(scope["root_path"]).strip("/")
        try:
            said, status, kind = await self._policies.act(scope["method"], name, receive), 200, b"json"
            extra: dict[str, str] = {}
        except TenfoldError as error:
            problem = error if isinstance(error, Problem) else problem_of(error)
            said, status, kind = problem.document(scope["path"]), problem.status, b"problem+json"
            extra = problem.headers
        body = msgspec.json.format(msgspec.json.encode(said), indent=2) + b"\n"
        headers = [
            (b"content-type", b"application/" + kind),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            *((key.lower().encode(), value.encode()) for key, value in extra.items()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _read(receive: Receive, type_: type[T]) -> T:
    body = await read_body(receive, BODY_MAX_BYTES)
    try:
        return msgspec.json.decode(body, type=type_)
    except msgspec.ValidationError as error:
        sentence, _, path = str(error).partition(" - at `$")
        raise InvalidInput(
            errors=[FieldError("body", path.rstrip("`").lstrip("."), f"{sentence}.")]
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(f"The body is not JSON: {error}.") from None
