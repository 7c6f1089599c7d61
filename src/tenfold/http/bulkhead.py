"""The step of ``concurrency=``: a place among the requests of one operation, for those that declare how many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenfold.http.build import Build


def write(build: Build) -> None:
    """Enter or be told 503; not a call when there is room."""
    most = build.operation.policies.concurrency
    if most is None:
        return
    code, bulkhead = build.code, build.wiring.bulkhead(build.operation.name, most)
    code.use(bulkhead=bulkhead)
    code.line(  # Bulkhead.enter, written out; and its leave
        "if bulkhead.in_flight >= bulkhead.most: raise bulkhead.refusal()",
        "bulkhead.in_flight += 1",
    )
    code.open("try:", "finally:", " bulkhead.in_flight -= 1")
