"""Whether whoever sent a request tries again by itself: then calls out of its work are not tried again here, too.

Compiled into endpoints only where the app calls out. Anybody may say so: it can only make less of us.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenfold.http.build import Build


def write(build: Build) -> None:
    """The step."""
    if build.wiring.calls_out:
        build.code.line("if b'tenfold-retries' in headers: context.retried = True")
