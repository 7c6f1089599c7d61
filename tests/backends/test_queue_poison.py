"""What a handler may raise holds up no other message, on every database."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.queues import rig
from tenfold.jobs import Job, Retry
from tenfold.queue.testing import run_pending

pytestmark = pytest.mark.anyio

TEXTS = ["nul \0", "a file's name that is no UTF-8 \udc80"]


@pytest.fixture(params=["sqlite", "postgres_url", "mariadb_url"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = "sqlite:///app.db" if request.param == "sqlite" else request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("text", TEXTS, ids=["nul", "surrogate"])
async def test_an_error_whose_text_no_column_keeps_is_kept_all_the_same(
    tmp_path: Path, url: str, text: str
) -> None:
    async def poison() -> None:
        raise ValueError(text)

    async def good() -> None: ...

    jobs = [Job[Any, None]("s", fn, retry=Retry(attempts=1)) for fn in (poison, good)]
    async with rig(tmp_path, *jobs, database=url) as r:
        async with r.db.tx() as tx:
            for job in jobs:
                await job.enqueue(tx)
        assert await run_pending(r.worker()) == 2
        found = {info.handler: info for info in await r.admin.list(limit=10)}
        assert found["s.good"].state == "done"
        assert found["s.poison"].state == "dead"
        assert text[:-1] + "\ufffd" in (found["s.poison"].error or "")


async def test_a_handler_whose_own_work_was_cancelled_has_failed(tmp_path: Path) -> None:
    """Were it given back, it would run again at once, for ever."""
    runs = 0

    async def poison() -> None:
        nonlocal runs
        runs += 1
        raise asyncio.CancelledError

    job = Job[Any, None]("s", poison)
    async with rig(tmp_path, job) as r:
        async with r.db.tx() as tx:
            await job.enqueue(tx)
        await run_pending(r.worker())
        assert runs == 1
        [info] = await r.admin.list(limit=10)
        assert info.state == "delayed"
        assert "was cancelled by others" in (info.error or "")


async def test_what_is_no_exception_fails_the_message_and_frees_the_slot(tmp_path: Path) -> None:
    class Odd(BaseException):
        pass

    async def poison() -> None:
        raise Odd("no")

    job = Job[Any, None]("s", poison, retry=Retry(attempts=1))
    async with rig(tmp_path, job) as r:
        async with r.db.tx() as tx:
            for _ in range(3):
                await job.enqueue(tx)
        await run_pending(r.worker(settings={"concurrency": 1}))
        assert set((await r.states()).values()) == {"dead"}


class Picky(msgspec.Struct):
    """A type with code of its own."""

    n: int

    def __post_init__(self) -> None:
        if self.n in refused:
            raise KeyError(self.n)


refused: set[int] = set()


async def test_arguments_whose_own_code_fails_fail_the_message(tmp_path: Path) -> None:
    async def takes(picky: Picky) -> None: ...

    job = Job[Any, None]("s", takes, retry=Retry(attempts=1))
    async with rig(tmp_path, job) as r:
        async with r.db.tx() as tx:
            await job.enqueue(tx, Picky(1))
        refused.add(1)
        await run_pending(r.worker())
        [info] = await r.admin.list(limit=10)
        assert info.state == "dead"
        assert "KeyError" in (info.error or "")
