"""``TestApp``: an app started for tests, and everything that a test asks of it."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from tenfold.errors import JobFailed, NotBound
from tenfold.testing.acting import ActingAuthenticator
from tenfold.testing.client import Answer, Client
from tenfold.testing.clock import START, TestClock
from tenfold.testing.outward import Blocked, Fake
from tenfold.testing.records import Enqueued, Mail, Published, Recorder

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.client.client import HttpClient
    from tenfold.queue.worker import Worker
    from tenfold.security.principal import Principal

Jobs = Literal["inline", "captured"]

_SETTINGS: dict[str, Any] = {
    "app__env": "test",
    "database__url": "sqlite:///:memory:",
    "cache__url": "memory:",
    "events__url": "",
    "mail__url": "memory:",
    "worker__enabled": False,
}


class TestApp:
    """``async with TestApp(app) as t:`` starts the app, and forgets at the end everything it did.

    The database is a fresh one in memory with the declared tables; mails stay in the process; time stands still
    until :meth:`advance`. ``jobs="inline"`` runs jobs, subscribers and ticks at the end of the request that
    enqueued them (or at :meth:`run_jobs`); ``"captured"`` leaves them in the queue. With ``raise_errors``, an
    operation that failed for a reason nobody foresaw raises its error in the test instead of answering 500, and
    a job that failed raises :class:`~tenfold.errors.JobFailed`.

    Calls out are not made: say what they answer with :meth:`fake`, or let them leave the test with ``network``.

    ``settings`` are paths with ``__`` for dots (``http__timeout_s=1.0``), over those of ``tenfold.toml``;
    environment variables are not read. One app has one TestApp at a time.
    """

    __test__ = False  # not a test class, whatever its name says to pytest

    def __init__(
        self,
        app: App,
        *,
        jobs: Jobs = "inline",
        raise_errors: bool = True,
        now: float = START,
        network: bool = False,
        **settings: Any,
    ) -> None:
        self.app = app
        self.clock = TestClock(now)
        self.client = Client(app, after=self._after_request)
        self.jobs_mode: Jobs = jobs
        """May be changed within a test."""
        self.raise_errors = raise_errors
        """May be changed within a test."""
        self._network = network
        self._defaults = (jobs, raise_errors)
        self._settings = {**_SETTINGS, **settings}
        self._acting = ActingAuthenticator()
        self._recorder = Recorder()
        self._unforeseen = _Unforeseen()
        self._worker: Worker | None = None
        self._enqueued = False
        """Since jobs were run last."""
        self._stack = AsyncExitStack()
        self._overrides = ExitStack()

    # ── life ──

    async def __aenter__(self) -> Self:
        await self.start()
        await self._stack.enter_async_context(self.sandbox())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the app, once for many :meth:`sandbox` blocks."""
        app, stack = self.app, self._stack
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tenfold-test-"))
        before = (app.clock, app.impersonate, app._loaded)
        stack.callback(self._restore, *before)
        app.clock, app.impersonate = self.clock, self._acting.wrap
        overrides: dict[str, Any] = {"app__data_dir": folder, **self._settings}
        app.configure(None, environ={}, **overrides)
        logging.getLogger("tenfold").addHandler(self._unforeseen)
        stack.callback(logging.getLogger("tenfold").removeHandler, self._unforeseen)
        try:
            await app.start(worker=False)
            stack.push_async_callback(app.stop)
            self._keep_in()
            await self._prepare_jobs()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop the app and give it back the clock and settings it had."""
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()

    @asynccontextmanager
    async def sandbox(self) -> AsyncGenerator[TestApp]:
        """One test's world: at the end the database, the clock, caches and records are as they were."""
        databases = self.app.databases
        async with AsyncExitStack() as stack:
            if databases:  # they share one backend, and it is the backend that is undone
                await stack.enter_async_context(databases[0].sandbox())
            stack.push_async_callback(self._forget)
            yield self

    async def _forget(self) -> None:
        self._overrides.close()
        self.logout()
        self.client.headers.clear()
        self.client.cookies.clear()
        self.jobs_mode, self.raise_errors = self._defaults
        self._recorder.clear()
        self._enqueued = False
        self._unforeseen.error = None
        self._mailbox().clear()
        for cache in (*self.app.caches, self.app.assembly.response_cache):
            await cache.clear()
        for client in self.app.clients:
            client.forget()
        self.clock.rewind()

    def _restore(self, clock: Any, impersonate: Any, loaded: Any) -> None:
        self.app.clock, self.app.impersonate, self.app._loaded = clock, impersonate, loaded

    def _keep_in(self) -> None:
        """No call leaves the test unless it may."""
        for client in self.app.clients:
            way_out = None if self._network else Blocked(client.name)
            self._stack.enter_context(client.through(way_out))

    async def _prepare_jobs(self) -> None:
        background = self.app.assembly.background
        for queue in background.queues.all():
            queue.watcher = self._recorder
        if not background.workers:
            return
        from tenfold.queue.testing import prepare

        self._worker = background.workers[0]
        self._stack.push_async_callback(self._worker.stop)
        self._stack.callback(self._worker.queue.on_wake(self._wake))
        await self._worker.adopt()
        await prepare(self._worker)

    # ── what happened ──

    @property
    def jobs(self) -> list[Enqueued]:
        """Jobs whose transaction committed in this test, in that order, run or not."""
        return self._recorder.jobs

    @property
    def events(self) -> list[Published]:
        """Events whose transaction committed in this test, in that order."""
        return self._recorder.events

    @property
    def mails(self) -> list[Mail]:
        """Mails sent in this test."""
        return [Mail.of(envelope) for envelope in self._mailbox().values()]

    # ── what the test does ──

    def login(self, principal: Principal) -> None:
        """Requests without credentials come from ``principal`` from now on, until :meth:`logout` or the end."""
        self._acting.principal = principal

    def logout(self) -> None:
        """Requests without credentials are anonymous again."""
        self._acting.principal = None

    def override(self, factory: Any, other: Callable[..., Any]) -> None:
        """Until the end of the test, ``other`` makes what ``factory`` would.

        ``factory`` is what ``Depends`` names, or a type that is provided (a service's settings, for one).
        """
        self._overrides.enter_context(self.app.container.override(factory, other))

    def fake(self, client: HttpClient) -> Fake:
        """Until the end of the test, what the client calls is what the test says: ``fake.answer("GET", "/x", json=…)``.

        Everything else of the client works as ever: second tries (which are not waited for), breakers, decoding.
        """
        fake = Fake(client.name, client.base_path)
        self._overrides.enter_context(client.through(fake))
        return fake

    async def run_jobs(self) -> int:
        """Run everything that is due, and what that enqueues; how many runs ended.

        Raises :class:`~tenfold.errors.JobFailed` when one failed, unless ``raise_errors`` is off.
        """
        if self._worker is None:
            return 0
        from tenfold.queue.testing import run_pending

        self._enqueued = False
        before = dict(self._worker.runs.counts)
        ended = await run_pending(self._worker)
        while await self.app.assembly.eventstores.pump() + await self.app.assembly.background.events.pump():
            ended += await run_pending(self._worker)
        if self.raise_errors and any(
            self._worker.runs.counts[v] > before[v] for v in ("retry", "dead", "park")
        ):
            await self._raise_failure()
        return ended

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass; delayed jobs, retries and schedules run at their times on the way."""
        end = self.clock.now() + seconds
        if self._worker is not None and self.jobs_mode == "inline":
            from tenfold.queue.testing import next_due

            await self.run_jobs()
            while (due := await next_due(self._worker)) is not None and due <= end:
                await self.clock.leap(due - self.clock.now())
                await self.run_jobs()
        await self.clock.leap(end - self.clock.now())
        if self.jobs_mode == "inline":
            await self.run_jobs()

    async def _after_request(self, answer: Answer) -> None:
        error, self._unforeseen.error = self._unforeseen.error, None
        if error is not None and self.raise_errors and answer.status == 500:
            raise error
        if self.jobs_mode == "inline" and self._enqueued:
            await self.run_jobs()

    def _wake(self) -> None:
        self._enqueued = True

    async def _raise_failure(self) -> None:
        from tenfold.queue.admin import Admin

        assert self._worker is not None
        found = await Admin(self._worker.queue).list(limit=500)
        failed = next((m for m in found if m.error and (m.failures or m.state in ("dead", "parked"))), None)
        if failed is not None:
            raise JobFailed(f"{failed.handler} failed: {failed.error}")

    def _mailbox(self) -> dict[str, Any]:
        from tenfold.mail.backends.memory import Backend

        backend = self.app.assembly.mailer.backend
        if not isinstance(backend, Backend):
            raise NotBound("Mails are captured only with mail__url='memory:', the default of TestApp.")
        return backend.sent


class _Unforeseen(logging.Handler):
    """Keeps the error of the operation that failed last."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.error: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "tenfold.http" and record.exc_info:
            self.error = record.exc_info[1]
