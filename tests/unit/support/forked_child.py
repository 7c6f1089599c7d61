"""What test_forked.py has forked."""

from __future__ import annotations

import os
import sys
import time

from tenfold._core.failpoints import failpoints


def child(what: str) -> None:
    print(what, os.environ.get("FORKED", ""), os.getpgid(0) == os.getpid())
    if what == "fails":
        raise ValueError("on purpose")
    if what == "exits":
        sys.exit(3)
    if what == "visits":
        failpoints.visit("flow.asleep")
    if what == "stays":
        time.sleep(60)
