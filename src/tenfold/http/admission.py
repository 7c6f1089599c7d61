"""Admission: the step that lets a request in.

The effective priority is the less urgent of the operation's and the one that the caller asks for in the header
``Tenfold-Priority``: anybody may step back, nobody may push forward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenfold._core.context import Priority
from tenfold.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenfold.guard.admission import Admission, Epoch
    from tenfold.http.build import Build
    from tenfold.http.request import Request

HEADER = b"tenfold-priority"
PRIORITIES = {one.name.lower().encode(): one for one in Priority}


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
    code.use(gate=gate, rooms=gate.rooms, line=gate.line, stand_in_line=Door(gate).wait, hand_on=gate.hand_on)
    behind = "line.size" if own else "(priority and line.size)"
    code.line(  # Admission.enter, written out; and its leave
        f"if gate.in_flight >= rooms[priority] or {behind}: epoch = await stand_in_line(request, priority)",
        "else:",
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


class Door:
    """Where requests stand in line. ``share_of``, when set, says between whom turns are fair; it is asked only of
    those that have to wait."""

    share_of: Callable[[Request], str] | None = None

    def __init__(self, gate: Admission) -> None:
        self._gate = gate

    async def wait(self, request: Request, priority: int) -> Epoch:
        """See :meth:`Admission.wait`."""
        share_of = self.share_of
        return await self._gate.wait(priority, "" if share_of is None else share_of(request))
