"""The command line ``tenfold`` in a child of :mod:`support.forked`, which has imported it and the app already."""

from __future__ import annotations

import tenfold.cli.run
import tenfold.client.transport
import tenfold.runtime.serve  # noqa: F401 - loaded for the children
from tenfold.cli import program


def child(*words: str) -> None:
    code = program.run([*words])
    if code:
        raise SystemExit(code)
