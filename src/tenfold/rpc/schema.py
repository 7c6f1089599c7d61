"""What the services of an app promise to each other, as a schema that is stored, and what a change of it breaks.

While a service is replaced by its next version, and for as long as other teams take, old callers call new operations
and new callers old ones. Both have to understand each other: arguments are read by the other version of the callee, and
results by the other version of the caller. Members that a reader does not know are ignored, those that are missing have
their defaults; what is left is told in sentences (:mod:`tenfold.events.compat` compares).

Which operations others call, the services declare: ``Service("orders", calls=[catalog])``. Where no service declares
any, every operation that can be called counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from tenfold._core.text import nearest
from tenfold.errors import ConfigError, DeclarationError
from tenfold.events.compat import Misfit, misfits
from tenfold.events.released import schema_of
from tenfold.http.inject import planned
from tenfold.http.request import Request
from tenfold.http.router import path_names
from tenfold.rpc.signature import Signature
from tenfold.security.identity.edges import HasServices, declared_edges

if TYPE_CHECKING:
    from tenfold._core.container import Container
    from tenfold.http.operation import Operation


class Whole(HasServices, Protocol):
    """As much of an app as is needed here."""

    @property
    def name(self) -> str: ...

    @property
    def container(self) -> Container: ...


class OperationSchema(msgspec.Struct, frozen=True):
    """One operation, as JSON Schemas."""

    arguments: dict[str, Any]
    result: dict[str, Any]
    callers: list[str] = []
    """The services that declare that they call it."""


class ServicesSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file: operations by full name, sorted."""

    app: str
    operations: dict[str, OperationSchema]

    def encode(self) -> bytes:
        """The text of the file, ready to be committed."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def called(app: Whole) -> ServicesSchema:
    """The schema of an app as its code is. ``app`` need not have started, but its container has to be filled."""
    callers: dict[str, list[str]] = {}
    for edge in sorted(declared_edges(app)):
        callers.setdefault(edge.operation, []).append(edge.caller)
    found = {
        operation.name: schema
        for service in app.everywhere
        for operation in service.operations
        if not callers or operation.name in callers
        if (schema := _schema_of(operation, app.container, callers.get(operation.name, []))) is not None
    }
    return ServicesSchema(app.name, dict(sorted(found.items())))


def read(path: Path) -> ServicesSchema:
    """A stored schema. Raises ConfigError for a file that is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ServicesSchema)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"it is no stored schema of services: {error}.",
            where=str(path),
            remedy="`tenfold check --schema FILE`, run with the code of then, writes it.",
        ) from None


def broken(old: ServicesSchema, new: ServicesSchema) -> list[str]:
    """What does not go together while both versions run: a sentence each with the way out. Pure."""
    return [
        sentence
        for name, before in old.operations.items()
        for sentence in (
            _compared(name, before, new.operations[name])
            if name in new.operations
            else [_gone(name, before, new)]
        )
    ]


def _schema_of(
    operation: Operation[..., Any], container: Container, callers: list[str]
) -> OperationSchema | None:
    """None for one that only HTTP can reach."""
    names = tuple(path_names(operation.path)) if operation.routed else ()
    try:
        injection = planned(operation, container, names)
        if injection.wants(Request):
            return None
        signature = Signature(operation.fn, injection.names)
    except DeclarationError:
        return None
    return OperationSchema(schema_of(signature.described_type), schema_of(signature.result_type), callers)


def _gone(name: str, before: OperationSchema, new: ServicesSchema) -> str:
    who = (
        f"{', '.join(before.callers)} of the other version"
        if before.callers
        else "callers of the other version"
    )
    return (
        f"{name}: it is not there any more, or nobody declares any more to call it, and {who} may.{nearest(name, new.operations)}"
        " Keep it until nobody runs that version."
    )


def _compared(name: str, before: OperationSchema, now: OperationSchema) -> list[str]:
    return [
        *(
            _sentence(name, "argument", each, "sent by old callers", "new services")
            for each in misfits(before.arguments, now.arguments)
        ),
        *(
            _sentence(name, "argument", each, "sent by new callers", "old services")
            for each in misfits(now.arguments, before.arguments)
        ),
        *(
            _sentence(name, "result", each, "answered by new services", "old callers")
            for each in misfits(now.result, before.result)
        ),
        *(
            _sentence(name, "result", each, "answered by old services", "new callers")
            for each in misfits(before.result, now.result)
        ),
    ]


def _sentence(name: str, what: str, misfit: Misfit, how: str, readers: str) -> str:
    path = misfit.path.removeprefix("$").removeprefix(".")
    place = f"{what} {path}" if path else f"the {what}"
    remedy = (
        "Give it a default"
        if misfit.written == "may be missing"
        else "Keep what was, and add the new beside it"
    )
    return f"{name}: {place} {misfit.written} when {how}, and {readers} {misfit.read}. {remedy}."
