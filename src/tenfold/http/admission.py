"""Admission: the step that lets a request in.

The effective priority is the less urgent of the operation's and the one that the caller asks for in the header
``Tenfold-Priority``: anybody may step back, nobody may push forward.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from tenfold._core.context import Priority
from tenfold.errors import BadRequest
from tenfold.guard.fairness import of_principal
from tenfold.http.deadline import too_late
from tenfold.http.limiting import address_of

if TYPE_CHECKING:
    from tenfold.guard.admission import Admission, Epoch, Turn
    from tenfold.guard.fairness import Callers
    from tenfold.guard.shedding.line import Place
    from tenfold.http.build import Build
    from tenfold.http.request import Request
    from tenfold.security.principal import Principal


HEADER = b"tenfold-priority"
FAR = 2
"""A deadline that is so many times as far away as the line's patience ends in no line: the line itself sends away before.
A timer for each who waits would cost as much as all else that waiting does."""
PRIORITIES = {one.name.lower().encode(): one for one in Priority}


class Standing(NamedTuple):
    """A place in line that the request has since its headers came, and as whose it was given."""

    gate: Admission
    place: Place[Turn]
    share: str


def write(build: Build) -> None:
    """The step: no call when there is room."""
    code, gate, own = build.code, build.wiring.admission, build.operation.policies.priority
    code.use(lowered=lowered)
    code.line(
        f"priority = {int(own)}",
        f"if {HEADER!r} in headers: priority = context.priority = lowered(headers[{HEADER!r}], priority)",
    )
    if gate is None:
        return
    door = Door(gate, build.wiring.callers, build.timeout_s)
    code.use(gate=gate, rooms=gate.rooms, line=gate.line, hand_on=gate.hand_on)
    code.use(stand_in_line=door.wait, settle=door.settle)
    behind = "line.size" if own else "(priority and line.size)"
    code.line(  # Admission.enter, written out; and its leave
        f"if request.standing is not None or gate.in_flight >= rooms[priority] or {behind}:",
        "    epoch, guessed = await stand_in_line(request, priority)",
        "else:",
        "    guessed = None",
        "    epoch = gate.epoch",
        "    epoch[0] += 1",
        "    gate.in_flight += 1",
        "    gate.admitted += 1",
    )
    code.open("try:", "finally:", " epoch[0] -= 1", " gate.in_flight -= 1", " if line.size: hand_on()")


def lowered(asked: bytes, own: int) -> Priority:
    """The less urgent of both. Raises BadRequest for a word that is no priority."""
    priority = PRIORITIES.get(asked.strip().lower())
    if priority is None:
        raise BadRequest(
            f"The header Tenfold-Priority is {asked.decode('latin-1')[:40]!r}; it may be "
            f"{', '.join(word.decode() for word in PRIORITIES)}."
        )
    return Priority(max(priority, own))


def left_s(request: Request) -> float | None:
    """Seconds until the request's deadline."""
    context = request.context
    return None if context.deadline is None else context.deadline - context.monotonic()


class Door:
    """Where requests stand in line, in turns between tenants: between those of the credentials that are known, and
    between addresses."""

    def __init__(self, gate: Admission, callers: Callers, timeout_s: float) -> None:
        self._gate, self._callers, self._timeout_s = gate, callers, timeout_s

    async def wait(self, request: Request, priority: int) -> tuple[Epoch, str]:
        """See :meth:`Admission.wait`. Answers also as whose request this one has waited. Raises DeadlineExceeded for one
        whose time ends in the line: the sweeper does not know it yet."""
        standing = request.standing or self._stand(request, priority)
        request.standing = None
        left = left_s(request)
        if left is None or left > FAR * self._gate.line.wait_s:
            return await self._gate.turn(standing.place), standing.share
        limit = asyncio.timeout(left)
        try:
            async with limit:
                return await self._gate.turn(standing.place), standing.share
        except TimeoutError:
            if limit.expired():
                raise too_late(request, self._timeout_s) from None
            raise

    def _stand(self, request: Request, priority: int) -> Standing:
        share = self._callers.share_of(request.header_bytes, address_of(request))
        return Standing(self._gate, self._gate.stand(priority, share), share)

    def settle(self, request: Request, priority: int, guessed: str, principal: Principal) -> None:
        """One that has waited was authenticated. Raises Overloaded, see :meth:`Admission.settle`."""
        share = of_principal(principal)
        if share != guessed:
            self._callers.learn(request.header_bytes, principal)
            self._gate.settle(priority, guessed, share)
