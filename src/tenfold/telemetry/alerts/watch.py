"""The part that looks at the rules every few seconds, and has people told."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import structs

from tenfold._core.clock import Clock
from tenfold._core.tasks import end_tasks
from tenfold.telemetry import names
from tenfold.telemetry.alerts.facts import Facts
from tenfold.telemetry.alerts.rules import Alert, look
from tenfold.telemetry.alerts.silences import Silence, lasting, silenced
from tenfold.telemetry.alerts.state import State, StateFile
from tenfold.telemetry.alerts.targets import Target
from tenfold.telemetry.log import get_logger
from tenfold.telemetry.metrics import Registry
from tenfold.telemetry.objectives import Objective

TELL_TIMEOUT_S: Final = 20.0
"""For all news of a look together."""

log = get_logger(__name__)


class Teller(ABC):
    """Tells one target. Errors: any exception; what failed is tried again at the next look."""

    @abstractmethod
    async def tell(self, target: Target, alerts: Sequence[Alert]) -> None:
        """Send these."""

    async def stop(self) -> None:
        """Close what is open."""
        return


class Watch:
    """A part. Of processes that share the data folder one looks; each shows what it found."""

    def __init__(
        self,
        facts: Facts,
        targets: Mapping[str, Sequence[Target]],
        teller: Teller,
        clock: Clock,
        *,
        folder: Path,
        instance: str,
        every_s: float,
        registry: Registry,
    ) -> None:
        self.targets = targets
        self.state = State()
        """What the latest look found, here or in another process."""
        self.silences: list[Silence] = []
        """Those that last."""
        self._facts, self._teller, self._clock = facts, teller, clock
        self._file = StateFile(folder)
        self._instance, self._every_s = instance, every_s
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        registry.reading(names.ALERTS, "Alerts by state and severity.", self._read, ("state", "severity"))

    async def start(self) -> None:
        self._task = asyncio.create_task(self._watch(), name="tenfold-alerts")

    async def stop(self) -> None:
        task, self._task = self._task, None
        await end_tasks(task)
        self._file.release()
        await self._teller.stop()

    async def _watch(self) -> None:
        while True:
            try:
                await self.look()
            except OSError as error:
                log.warning(names.LOG_ALERTS_FAILED, why=f"{error.strerror or error}: {error.filename}")
            except Exception as error:  # a rule must not end the watch; it is told with its place
                log.exception(names.LOG_ALERTS_FAILED, why=f"{type(error).__name__}: {error}")
            await self._clock.sleep(self._every_s)

    async def look(self) -> None:
        """Look once, and tell what is new; in another process than the one that watches, read what that one found."""
        async with self._turn:
            now, before = self._clock.now(), await asyncio.to_thread(self._file.read)
            self.silences = silences = lasting(await asyncio.to_thread(self._file.silences), now)
            if not await asyncio.to_thread(self._file.acquire):
                self.state = before
                return
            outcome = look({alert.key: alert for alert in before.alerts}, await self._facts.now(now), now)
            untold, failed = await self._tell([a for a in outcome.news if silenced(a, silences) is None])
            # Who could not be told, or was not to be, is told later, if it is still so then.
            quiet = {alert.key for alert in outcome.news if silenced(alert, silences) is not None} | failed
            alerts = [
                structs.replace(alert, told=_told_before(before, alert)) if alert.key in quiet else alert
                for alert in outcome.alerts.values()
            ]
            self.state = State(now, self._instance, alerts, outcome.left_out, untold)
            await asyncio.to_thread(self._file.write, self.state)

    async def budgets(self) -> list[tuple[str, Objective, float]]:
        """What is left of error budgets; see :meth:`Facts.budgets`."""
        return await self._facts.budgets(self._clock.now())

    async def change(self, change: Callable[[list[Silence]], list[Silence]]) -> None:
        """Change the silences; the process that watches heeds them at its next look."""
        now = self._clock.now()
        changed = await asyncio.to_thread(self._file.change, lambda kept: change(lasting(kept, now)))
        self.silences = lasting(changed, now)

    async def _tell(self, news: Sequence[Alert]) -> tuple[str, set[tuple[str, tuple[tuple[str, str], ...]]]]:
        """Why somebody could not be told, and of which alerts nobody was."""
        sentence, failed = "", set[tuple[str, tuple[tuple[str, str], ...]]]()
        for severity, targets in self.targets.items():
            about = [alert for alert in news if alert.severity == severity]
            if not about or not targets:
                continue
            results = await asyncio.gather(*(self._tell_one(target, about) for target in targets))
            sentence = next((each for each in results if each), sentence)
            if all(results):
                failed |= {alert.key for alert in about if alert.state == "firing"}
        return sentence, failed

    async def _tell_one(self, target: Target, alerts: Sequence[Alert]) -> str:
        """An empty text, or why it failed."""
        try:
            async with asyncio.timeout(TELL_TIMEOUT_S):
                await self._teller.tell(target, alerts)
        except Exception as error:  # whatever a mail server or a webhook does wrong
            why = (
                "no answer in time" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
            )
            sentence = f"{target.shown} could not be told of {len(alerts)}: {why}"
            log.warning(names.LOG_ALERTS_UNTOLD, target=target.shown, alerts=len(alerts), why=why)
            return sentence
        return ""

    def _read(self) -> dict[tuple[str, ...], float]:
        counts = Counter((alert.state, alert.severity) for alert in self.state.alerts)
        return {
            (state, severity): counts[state, severity]
            for state in ("pending", "firing")
            for severity in ("page", "ticket")
        }


def _told_before(before: State, alert: Alert) -> float:
    return next((each.told for each in before.alerts if each.key == alert.key), 0.0)
