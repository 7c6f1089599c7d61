"""A process may do a part of the background work only: that of `tenfold run --role relay` and `--role scheduler`."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from tenfold import App, Service
from tenfold.assembly.background import Work

ran: list[str] = []


def app_that(work: Work, folder: Path) -> App:
    service = Service("mails")
    service.database(sa.MetaData())

    @service.job()
    async def send() -> None:
        ran.append(work)

    @service.every("* * * * *")
    async def tick() -> None: ...

    app = App("shop", [service])
    app.configure(environ={}, app__data_dir=str(folder), app__env="test")
    app.work = work
    return app


@pytest.mark.parametrize(("work", "workers"), [("all", 1), ("scheduler", 1), ("relay", 0)])
async def test_a_relay_has_no_worker_and_a_scheduler_one_that_claims_nothing(
    work: Work, workers: int, tmp_path: Path
) -> None:
    app = app_that(work, tmp_path)
    ran.clear()
    await app.start(worker=True)
    try:
        background = app.assembly.background
        assert len(background.worker._started) == workers
        async with app.databases[0].tx() as tx:
            await app.jobs[0].enqueue(tx)
        for worker in background.workers if workers else []:
            await worker.turn()
        claimed = any(worker.runs.held for worker in background.workers)
        assert (claimed or bool(ran)) == (work == "all")
    finally:
        await app.stop()
