"""The one thread that writes: takes what waits, decides which traces stay, and commits it as one transaction.

Every half second, whether there is much or little: waking it for every request would cost more than the request's
record. A file that refuses costs the batch, which is counted, and a sentence in the log, at most once a minute;
the next batch is tried anew, after a second, then two, up to half a minute.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from typing import Final

from tenfold._core.clock import Clock
from tenfold.telemetry.recording import Recording
from tenfold.telemetry.redact import Redactor
from tenfold.telemetry.store.feed import Batch, Feed
from tenfold.telemetry.store.file import Damaged, StoreFile, StoreTrouble
from tenfold.telemetry.store.housekeeping import Housekeeping
from tenfold.telemetry.store.inserts import Inserts
from tenfold.telemetry.store.points import Differ
from tenfold.telemetry.store.records import Why
from tenfold.telemetry.store.tail import Tail

TURN_S: Final = 0.5
HOUSEKEEPING_S: Final = 20.0
COMPLAIN_S: Final = 60.0
PAUSE_MAX_S: Final = 30.0
FREE_MIN_BYTES: Final = 64 << 20
"""The disk's last bytes belong to the app's own data: with fewer left, nothing is written."""

log = logging.getLogger("tenfold.telemetry")

Slow = Callable[[str, float], None]
"""Told what is slow for an operation from now on."""


class Writer:
    """See the module's docstring. :meth:`turn` is what the thread does again and again."""

    def __init__(
        self,
        file: StoreFile,
        feed: Feed,
        clock: Clock,
        *,
        instance: str,
        redactor: Redactor,
        housekeeping: Housekeeping,
        tail: Tail,
        slow: Slow = lambda operation, seconds: None,
    ) -> None:
        self.sentence = ""
        """What is wrong; empty when nothing is."""
        self.tail = tail
        self.differ = Differ(instance)
        self._file, self._feed, self._clock = file, feed, clock
        self._inserts = Inserts(file, instance, redactor)
        self._housekeeping = housekeeping
        self._slow = slow
        self._kept_house_at = clock.monotonic()
        self._complained_at = float("-inf")
        self._pause_s = 0.0
        self._retry_at = float("-inf")
        self._turn = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="tenfold-telemetry", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Write what waits, once, and end the thread. Idempotent."""
        self._over.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(timeout_s)
            if thread.is_alive():  # the disk hangs; its connection is the thread's
                return
        self._file.close()

    def _run(self) -> None:
        while not self._over.wait(TURN_S):
            self._guarded()
        self._guarded()

    def _guarded(self) -> None:
        try:
            self.turn()
        except Exception:  # a mistake of ours must not end the thread, or the rings stay full for ever
            self._feed.dropped["batch error"] += 1
            self._inserts.known.forget()
            if self._may_complain():
                log.exception("what telemetry was to be kept could not be")

    def turn(self) -> None:
        """Write what waits; now and then, tidy up. Never raises for what is wrong with the file or the disk."""
        with self._turn:  # the thread's, and that of whoever will not wait for it
            self._take_turn()

    def _take_turn(self) -> None:
        batch = self._feed.take()
        now = self._clock.monotonic()
        if now < self._retry_at:
            self._feed.lost(batch, "disk")
            return
        try:
            self._check_room()
            if self._file.renew():
                self._inserts.known.forget()
            if batch:
                self._write(batch)
            if now - self._kept_house_at >= HOUSEKEEPING_S:
                self._kept_house_at = now
                self._housekeeping.tidy(self._clock.now(), now)
        except StoreTrouble as trouble:
            self._trouble(trouble, batch, now)
        else:
            self._pause_s = 0.0
            self.sentence = self._housekeeping.sentence

    def _write(self, batch: Batch) -> None:
        inserts, now = self._inserts, self._clock.monotonic()
        self._learn(batch)
        kept: list[tuple[Recording, Why]] = []
        for recording in batch.recordings:
            if (why := self._why(recording, now)) is not None:
                kept.append((recording, why))
        try:
            with self._file.transaction():
                instance = inserts.known.instance(self._clock.now())
                inserts.requests([summary for summary, _ in batch.requests], instance)
                inserts.jobs(batch.jobs, instance)
                inserts.logs(batch.logs, instance)
                inserts.traces(kept, instance)
                for snapshot in batch.snapshots:
                    inserts.points(self.differ.grown(snapshot.families, snapshot.at), snapshot.at)
        except BaseException:
            inserts.known.forget()
            raise

    def _learn(self, batch: Batch) -> None:
        slow: dict[str, float] = {}
        for summary, fair in batch.requests:
            if fair and summary.status < 500:
                slow[summary.operation] = self.tail.observe(summary.operation, summary.seconds)
        for operation, seconds in slow.items():
            self._slow(operation, seconds)
        for job in batch.jobs:
            if job.outcome == "done":
                self.tail.observe(job.handler, job.seconds)

    def _why(self, recording: Recording, now: float) -> Why | None:
        root = recording.spans[-1]
        return self.tail.decide(
            recording.operation,
            root.ended - root.started,
            failed=recording.failed,
            trace_id=recording.trace_id,
            now=now,
        )

    def _check_room(self) -> None:
        folder = self._file.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
        except OSError as error:
            raise StoreTrouble("disk", f"{folder} cannot be used: {error.strerror or error}.") from error
        if free < FREE_MIN_BYTES:
            raise StoreTrouble(
                "disk",
                f"the disk with {folder} has only {free >> 20} MiB left, and the last {FREE_MIN_BYTES >> 20} MiB are "
                "not telemetry's.",
            )

    def _trouble(self, trouble: StoreTrouble, batch: Batch, now: float) -> None:
        self._feed.lost(batch, trouble.reason)
        self.sentence = f"Telemetry is not kept: {trouble}"
        if isinstance(trouble, Damaged):
            self._begin_anew(trouble)
            return
        if trouble.reason != "busy":  # another instance's turn is over soon
            self._pause_s = min(PAUSE_MAX_S, self._pause_s * 2 or 1.0)
            self._retry_at = now + self._pause_s
        if self._may_complain():
            log.warning("%s It is tried again.", self.sentence)

    def _begin_anew(self, trouble: Damaged) -> None:
        self._inserts.known.forget()
        try:
            aside = self._file.begin_anew()
        except OSError as error:
            self.sentence = (
                f"Telemetry is not kept: {trouble} It cannot be put aside: {error.strerror or error}."
            )
        else:
            self.sentence = f"{trouble} It was put aside as {aside}, and a new file begun."
        if self._may_complain():
            log.warning("%s", self.sentence)

    def _may_complain(self) -> bool:
        now = self._clock.monotonic()
        if now - self._complained_at < COMPLAIN_S:
            return False
        self._complained_at = now
        return True
