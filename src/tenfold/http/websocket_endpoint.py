"""One WebSocket operation as it was understood at start, and how a handshake becomes its arguments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from tenfold.errors import MalformedBody
from tenfold.http.access import admitted, optional
from tenfold.http.collect import Collector, Inputs
from tenfold.http.params import Param
from tenfold.http.request import Request
from tenfold.security.principal import Principal

if TYPE_CHECKING:
    from tenfold._core.container import Plan
    from tenfold.http.websocket import WebSocketOperation
    from tenfold.security.policy import Policy


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What was decided about one operation at start."""

    operation: WebSocketOperation
    policy: Policy
    names: tuple[str, ...]
    params: list[Param]
    inputs: Inputs
    collector: Collector
    plan: Plan
    sockets: tuple[str, ...]
    principals: dict[str, tuple[type[Principal], bool]]


def bind(endpoint: Endpoint, request: Request) -> dict[str, Any]:
    """The handler's arguments from the handshake. Raises InvalidInput with every wrong one."""
    raw = dict(_gathered(endpoint, request))
    adapters = endpoint.inputs.adapters
    arguments: dict[str, Any] = {}
    try:
        plain = {name: value for name, value in raw.items() if name not in adapters}
        struct = msgspec.convert(plain, endpoint.inputs.struct, strict=False)
        arguments = {name: getattr(struct, name) for name in endpoint.inputs.struct.__struct_fields__}
        arguments |= {name: adapters[name].validate_python(raw.get(name, {})) for name in adapters}
    except (msgspec.ValidationError, ValueError) as error:
        problem = endpoint.collector.explain(raw, None, error)
        raise problem or MalformedBody(str(error)) from None
    for name, (type_, may_lack) in endpoint.principals.items():
        judge: Any = optional if may_lack else admitted
        arguments[name] = judge(request.principal, type_)
    return arguments


def _gathered(endpoint: Endpoint, request: Request) -> Iterator[tuple[str, Any]]:
    sources: dict[str, Any] = {
        "path": request.path_params,
        "query": request.query,
        "header": request.headers,
        "cookie": request.cookies,
    }
    for param in endpoint.params:
        source = sources[param.place]
        if param.spread:
            names = Inputs.fields_of(param.type).items()
            yield param.name, {n: _many(source[n], many) for n, many in names if n in source}
        elif (value := source.get(param.wire)) is not None:
            yield param.name, _many(value, param.many)


def _many(value: Any, many: bool) -> Any:
    return [value] if many and not isinstance(value, list) else value
