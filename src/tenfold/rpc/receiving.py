"""The other end of a call: an endpoint that takes what another process sends, on the way that local calls take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from tenfold._core.causal import merged, received
from tenfold._core.context import Context, Priority
from tenfold._core.deadlines import TIMEOUT_MAX_MS
from tenfold._core.text import nearest
from tenfold.client import outward
from tenfold.errors import BadRequest, NotFound, TenfoldError, UnsupportedMedia
from tenfold.http.operation import Operation, Policies
from tenfold.http.reply import Response
from tenfold.http.request import Request
from tenfold.rpc import wire as wires
from tenfold.rpc.faults import fault_of
from tenfold.rpc.local import NotCallable, Received
from tenfold.rpc.wire import JSON, MSGPACK, PATH, PRINCIPAL, WIRES, Wire
from tenfold.security.policy import public

if TYPE_CHECKING:
    from tenfold.rpc.door import Door

Receiver = Received | NotCallable
_PRIORITIES: Final = {each.name.lower(): each for each in Priority}
_SERVICE_CHARS_MAX: Final = 200


class Receiving:
    """``operations`` are the names that may be called; ``receiver`` makes what runs one, the first time it is called.

    ``reads_causal``: the HTTP layer looks after the causal token itself (where replicas are read from).
    """

    def __init__(
        self,
        operations: Mapping[str, Any],
        receiver: Callable[[str, Wire], Receiver],
        door: Door,
        *,
        reads_causal: bool,
    ) -> None:
        self._operations, self._make, self._door = operations, receiver, door
        self._reads_causal = reads_causal
        self._made: dict[tuple[str, str], Receiver] = {}

    def operation(self, body_max_bytes: int) -> Operation[..., Any]:
        """The endpoint. Who may call is the door's to say, and what the operation allows whom, its policy's; its time
        is that of the operation, so there is none here but the caller's."""

        async def call(operation: str, request: Request) -> Response:
            return await self._answered(operation, request)

        policies = Policies(
            auth=public, hidden=True, timeout_s=TIMEOUT_MAX_MS / 1000, body_max_bytes=body_max_bytes
        )
        return Operation(call, service="tenfold", method="POST", path=PATH + "{operation}", policies=policies)

    def made(self) -> list[Receiver]:
        """What runs operations that were called already."""
        return list(self._made.values())

    async def _answered(self, name: str, request: Request) -> Response:
        headers = request.headers
        caller = self._door.admit(request, name, headers.get(outward.CALLER.lower(), "")[:_SERVICE_CHARS_MAX])
        wire = _wire_of(request)
        receiver = self._receiver(name, wire)
        context = request.context
        asked = _take_over(context, headers, caller)
        try:
            content, status = await receiver(await request.body()), 200
            told = {}
        except TenfoldError as error:
            content, status = fault_of(error, wire), error.status
            told = {outward.ERROR: type(error).__name__}
        if not self._reads_causal and context.causal != asked:
            told[outward.CAUSAL] = context.causal
        return Response(content, status, told, media_type=wire.media_type)

    def _receiver(self, name: str, wire: Wire) -> Receiver:
        found = self._made.get((name, wire.name))
        if found is None:
            if name not in self._operations:
                raise NotFound(f"No operation {name!r} is served here.{nearest(name, self._operations)}")
            found = self._made[name, wire.name] = self._make(name, wire)
        return found


def _wire_of(request: Request) -> Wire:
    kind = request.content_type.partition(";")[0].strip().lower()
    if kind not in WIRES:
        raise UnsupportedMedia(
            f"The arguments of a call are {MSGPACK.media_type} or {JSON.media_type}, and these are {kind or 'of no type'}."
        )
    return WIRES[kind]


def _take_over(context: Context, headers: Mapping[str, str], caller: str) -> str:
    """What the caller's work is to go on with here; answers the causal token that it has sent. Its trace and its
    deadline, the pipeline has taken over already. Raises BadRequest."""
    context.service = caller
    context.principal = wires.principal_of(headers.get(PRINCIPAL.lower(), ""))
    if context.principal is not None:
        context.tenant = context.principal.tenant
    context.retried = outward.RETRIES.lower() in headers
    if word := headers.get(outward.PRIORITY.lower(), ""):
        if word not in _PRIORITIES:
            raise BadRequest(f"The header {outward.PRIORITY} is {word[:40]!r}.")
        context.priority = _PRIORITIES[word]  # it may be more urgent than what admission let it in as
    if request_id := headers.get(outward.REQUEST_ID.lower(), ""):
        context.request_id = "".join(char for char in request_id[:128] if " " < char <= "~")
    asked = received(headers.get(outward.CAUSAL.lower(), "").strip())
    context.causal = merged(context.causal, asked)
    return context.causal
