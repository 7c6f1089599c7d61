"""Is the process alive, and should it get traffic? Parts register checks; the operations listener answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from tenfold._core.clock import Clock
from tenfold.telemetry import names
from tenfold.telemetry.metrics import Registry
from tenfold.telemetry.redact import Redactor

CHECK_TIMEOUT_S: Final = 2.0
FRESH_S: Final = 1.0

Check = Callable[[], Awaitable[str]]
"""Returns a sentence about what is well, or raises: the error's text is then the sentence."""


class CheckResult(msgspec.Struct, frozen=True):
    """What one check said."""

    name: str
    ok: bool
    sentence: str
    took_ms: float


class Readiness(msgspec.Struct, frozen=True):
    """``ready`` when no check failed and the process is not draining."""

    ready: bool
    sentence: str
    checks: tuple[CheckResult, ...]


class Checks:
    """The checks of one app. Each gets two seconds; an answer is reused for one second, so that nobody can
    load the database through the health page."""

    def __init__(
        self, clock: Clock, *, redactor: Redactor | None = None, registry: Registry | None = None
    ) -> None:
        self.draining = False
        """Set when the process is about to stop: it is then not ready, so that balancers send others."""
        self._clock, self._redactor = clock, redactor or Redactor()
        self._checks: dict[str, Check] = {}
        self._last: tuple[float, tuple[CheckResult, ...]] | None = None
        self._running: asyncio.Task[tuple[CheckResult, ...]] | None = None
        if registry is not None:
            registry.reading(
                names.HEALTH, "1 where the check last succeeded, else 0.", self._reading, (names.CHECK,)
            )

    def add(self, name: str, check: Check) -> None:
        """Register a check; one of the same name is replaced."""
        self._checks[name] = check
        self._last = None

    async def ready(self) -> Readiness:
        """Run every check at once, or reuse answers that are younger than a second."""
        results = await self._results()
        failed = [result.name for result in results if not result.ok]
        if self.draining:
            return Readiness(False, "The process is draining: it finishes its work and stops.", results)
        if failed:
            return Readiness(False, f"Not ready, because of: {', '.join(failed)}.", results)
        return Readiness(True, "Ready.", results)

    async def _results(self) -> tuple[CheckResult, ...]:
        if self._last is not None and self._clock.monotonic() - self._last[0] < FRESH_S:
            return self._last[1]
        if self._running is None:
            self._running = asyncio.create_task(self._run_all(), name="tenfold-health-checks")
        # Shielded: a prober that hangs up must not cancel the answer that others wait for.
        return await asyncio.shield(self._running)

    async def _run_all(self) -> tuple[CheckResult, ...]:
        try:
            checks = [self._run(name, check) for name, check in self._checks.items()]
            results = tuple(await asyncio.gather(*checks))
            self._last = (self._clock.monotonic(), results)
            return results
        finally:
            self._running = None

    async def _run(self, name: str, check: Check) -> CheckResult:
        start, ok = self._clock.monotonic(), False
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                sentence = await check()
            ok = True
        except TimeoutError:
            sentence = f"No answer within {CHECK_TIMEOUT_S:g} seconds."
        except Exception as error:  # any failure of a check is an answer
            sentence = str(error) or type(error).__name__
        took_ms = round((self._clock.monotonic() - start) * 1000, 2)
        return CheckResult(name, ok, self._redactor.text(sentence), took_ms)

    def _reading(self) -> dict[tuple[str, ...], float]:
        results = self._last[1] if self._last else ()
        return {(result.name,): float(result.ok) for result in results}
