"""A full instance meets a request at its headers: it is refused while no task, no request and no body exist yet, or stands
in line at once. Were it to do that later, in its task, all that came in one turn of the event loop would pass by the last
free place, and most would be refused in the dearest way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tenfold._core.context import Priority
from tenfold.http.admission import HEADER, PRIORITIES, Standing
from tenfold.http.limiting import address_in
from tenfold.runtime.rendering import rendered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tenfold.guard.admission import Admission
    from tenfold.guard.fairness import Callers
    from tenfold.http.compiler import Endpoint
    from tenfold.http.dispatch import Dispatcher
    from tenfold.http.reply import Answer, Headers
    from tenfold.runtime.exchange import Exchange

BODY_MAX_BYTES = 65_536
"""A body of up to this size is read and dropped; of a larger one the client is told by closing the connection."""


class RenderedDoor:
    """Looks into admission for the protocol, and keeps the answers in the bytes that are sent."""

    def __init__(self, gate: Admission, dispatcher: Dispatcher, callers: Callers) -> None:
        self.gate = gate
        self._callers = callers
        self.rooms = gate.rooms
        self.line = gate.line
        self._dispatcher = dispatcher
        self._limit = 0
        self._dated: Headers = []
        self._wholes: dict[int, bytes] = {}

    def meet(
        self,
        exchange: Exchange,
        endpoint: Endpoint,
        method: str,
        by_name: dict[bytes, bytes],
        peer: Mapping[str, Any],
    ) -> Standing | None:
        """Where the request stands in line from now on; to be asked where there is no room. None: it was answered here, or
        needs an answer that only its endpoint makes. ``peer``: its scope, as far as it says from where it comes."""
        gate, priority = self.gate, endpoint.operation.policies.priority
        if HEADER in by_name:
            asked = PRIORITIES.get(by_name[HEADER])
            if asked is None:
                return None
            priority = max(priority, asked)
        share = self._callers.share_of(by_name, address_in(peer))
        if not gate.full(priority, share):
            return Standing(gate, gate.stand(priority, share), share)
        if b"origin" not in by_name and method != "HEAD":
            self._refuse(exchange, priority, by_name)
        return None

    def _refuse(self, exchange: Exchange, priority: Priority, by_name: dict[bytes, bytes]) -> None:
        self.gate.count_refusal(priority)
        if exchange.keep_alive and _is_small(by_name):
            exchange.refuse(self._whole(priority, exchange.default_headers))
        else:
            exchange.keep_alive = False
            exchange.finish(self._answer(priority))

    def _whole(self, priority: Priority, dated: Headers) -> bytes:
        """The bytes of a refusal. They are made anew when the limit that they tell, or the date, is another."""
        gate = self.gate
        if dated is not self._dated or gate.limit != self._limit:
            self._dated, self._limit = dated, gate.limit
            self._wholes.clear()
        whole = self._wholes.get(priority)
        if whole is None:
            whole = self._wholes[priority] = rendered(self._answer(priority), "GET", dated, keep_alive=True)
        return whole

    def _answer(self, priority: Priority) -> Answer:
        return self._dispatcher.problem(self.gate.refusal(priority), "", [])


def _is_small(by_name: dict[bytes, bytes]) -> bool:
    if b"transfer-encoding" in by_name:
        return False
    length = by_name.get(b"content-length", b"0")
    return length.isdigit() and int(length) <= BODY_MAX_BYTES
