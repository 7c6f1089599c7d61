"""A bulkhead: so many of one kind of work at a time, and the next one is refused at once.

A limit on requests in progress protects the process; a bulkhead protects it from one operation, which could take every
place there is when what it waits for has become slow (Nygard, *Release It!*, 2007). Nobody waits in front of it: who
may wait has done so at admission already, and a second line would only hold what the first one let in.
"""

from __future__ import annotations

from tenfold.errors import Unavailable

RETRY_AFTER_S = 1


class Bulkhead:
    """At most ``most`` at a time. The counts are plain attributes, to be read by metrics at any time.

    ``most`` may change while work is in progress: what runs goes on, and newcomers are judged by the new number. The
    endpoints' generated code does what :meth:`enter` and :meth:`leave` do, without the calls.
    """

    __slots__ = ("in_flight", "most", "name", "refused")

    def __init__(self, name: str, most: int) -> None:
        self.name = name
        self.most = most
        self.in_flight = 0
        self.refused = 0

    def enter(self) -> None:
        """Begin; then :meth:`leave` is due. Raises Unavailable (503, with Retry-After) when all places are taken."""
        if self.in_flight >= self.most:
            raise self.refusal()
        self.in_flight += 1

    def leave(self) -> None:
        """The work ended."""
        self.in_flight -= 1

    def refusal(self) -> Unavailable:
        """What who found no place is told; counts it."""
        self.refused += 1
        return Unavailable(
            f"{self.name} is done {self.most} at a time, and all of these places are taken; try again in a moment.",
            headers={"Retry-After": str(RETRY_AFTER_S)},
            limit="concurrency",
            value=self.most,
        )
