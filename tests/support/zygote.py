"""Several processes from one that has imported everything: ``python -m support.zygote MODULE JSON``.

``MODULE`` is what they have in common beside the library. ``JSON`` is a list of ``{"argv": [...], "env": {...}}``: each is
run by a forked child as the command line ``tenfold`` runs it. Ends when it is killed, and with it its process group.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from typing import Any

from support.orphans import die_with_parent
from tenfold.cli import program

LOADED = ("tenfold.cli.run", "tenfold.client.transport", "tenfold.runtime.serve")
"""Beside the module, what every child would import."""


def main() -> None:
    for name in (sys.argv[1], *LOADED):
        importlib.import_module(name)
    for order in json.loads(sys.argv[2]):
        if os.fork() == 0:
            _child(order)
    while True:
        signal.pause()


def _child(order: dict[str, Any]) -> None:
    die_with_parent()
    os.environ.update(order["env"])
    code = 70
    try:
        code = program.run(order["argv"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
