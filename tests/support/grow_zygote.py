"""Runs ``tenfold grow`` again and again in forked processes, so that importing everything is paid for once.

One JSON object a line: ``{"options": [...], "env": {...}, "failpoint": ""}`` in, ``{"status", "out", "err"}`` out.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any

import alembic.autogenerate  # noqa: F401 - loaded for the children
import psycopg  # noqa: F401

import tenfold.db.backends.postgresql
import tenfold.grow.growth  # noqa: F401
from support import grow_app  # noqa: F401
from tenfold._core.failpoints import failpoints
from tenfold.cli import program


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


def _run(order: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            _child(order)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return {"status": status, "out": _read(out), "err": _read(err)}


def _child(order: dict[str, Any]) -> None:
    os.environ.update(order["env"])
    if order["failpoint"]:
        failpoints.configure(f"{order['failpoint']}=kill")
    code = 70
    try:
        code = program.run(["grow", "support.grow_app:app", *order["options"]])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _read(file: Any) -> str:
    file.seek(0)
    return str(file.read())


if __name__ == "__main__":
    main()
