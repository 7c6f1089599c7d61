"""CPU-bound jobs for tests: another process imports this module."""

from __future__ import annotations

import os
import time
from typing import Any

from tenfold.errors import RetryLater
from tenfold.jobs import Job, current_job


def where(n: int) -> dict[str, int]:
    print("a job may print")
    return {"pid": os.getpid(), "square": n * n, "attempt": current_job().attempt}


async def steps(total: int) -> str:
    for done in range(total):
        await current_job().progress(done + 1, total, "working")
    return "finished"


def fails(how: str) -> None:
    if how == "later":
        raise RetryLater(7, "not now")
    if how == "die":
        os._exit(9)
    raise ValueError(f"failed by {how}")


def sleeps() -> None:
    time.sleep(60)


all_jobs: dict[str, Job[Any, Any]] = {
    fn.__name__: Job("cpu", fn, cpu=True, result_ttl=60, timeout=20) for fn in (where, steps, fails, sleeps)
}
