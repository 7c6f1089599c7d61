"""What is said of one queue: how fast, how many at a time, whether tenants take turns, and what is kept how long.

Declared with ``service.queue("mail", rate="100/minute")``; what ``[queues.mail]`` says goes before. A queue of which
nothing is said runs as fast as workers can, and its tenants take turns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tenfold._core.text import nearest
from tenfold.errors import DeclarationError
from tenfold.guard.rates import Window, parse
from tenfold.queue.contract import USUAL_KEEP, Keep
from tenfold.queue.message import FINISHED

if TYPE_CHECKING:
    from tenfold._core.sections import QueueSettings, WorkerSettings

NAME_MAX_CHARS = 64

LIMITED = "*"
"""The lane of messages in a queue that bounds how many run at a time: so they are counted without walking over all
that run."""


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """``rate`` is a limit on starts, such as "100/minute" or "100/minute burst 10"; ``concurrency`` how many run at a
    time, in the whole fleet. ``fair``: the tenants of its messages take turns, else the oldest goes first whoever's
    it is. ``keep`` maps the states done, dead and cancelled to seconds."""

    name: str
    rate: str = ""
    concurrency: int | None = None
    fair: bool = True
    keep: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        where = f"queue {self.name!r}"
        if not 1 <= len(self.name) <= NAME_MAX_CHARS:
            raise DeclarationError(
                f"its name has {len(self.name)} characters.",
                where=where,
                remedy=f"Take 1 to {NAME_MAX_CHARS}.",
            )
        if self.concurrency is not None and self.concurrency < 1:
            raise DeclarationError(
                f"its concurrency is {self.concurrency}, so nothing would ever run.",
                where=where,
                remedy=f"`tenfold queues pause {self.name}` stops it for a while.",
            )
        if unknown := [state for state in self.keep or () if state not in FINISHED]:
            raise DeclarationError(
                f"messages are not kept as {unknown[0]!r}.",
                where=where,
                remedy=f"Finished ones are {', '.join(FINISHED)}.",
            )
        _check_rate(self.rate, where)

    @property
    def window(self) -> Window | None:
        """The rate, if there is one."""
        return parse(self.rate)[0] if self.rate else None

    @property
    def limited(self) -> bool:
        """Whether its messages are counted before they start."""
        return bool(self.rate) or self.concurrency is not None

    @property
    def lane(self) -> str:
        """Of messages whose handler has none of its own."""
        return LIMITED if self.concurrency is not None else ""


def _check_rate(rate: str, where: str) -> None:
    if not rate:
        return
    try:
        windows = parse(rate)
    except DeclarationError as error:
        raise DeclarationError(error.what, where=f"{where}, its rate {rate!r}", remedy=error.remedy) from None
    if len(windows) > 1 or " per " in rate:
        raise DeclarationError(
            "a queue has one rate, over all of its messages.",
            where=f"{where}, its rate {rate!r}",
            remedy='Write it as "100/minute", or "100/minute burst 10".',
        )


def merged(
    declared: Iterable[QueueOptions], settings: Mapping[str, QueueSettings], used: Iterable[str]
) -> dict[str, QueueOptions]:
    """What holds, by queue. ``used`` are the queues that something is put into.

    Raises :class:`DeclarationError` for two declarations of one queue that differ, and for settings of a queue that
    nothing uses (which would be a slip of the pen).
    """
    found: dict[str, QueueOptions] = {}
    for options in declared:
        if found.setdefault(options.name, options) != options:
            raise DeclarationError(
                "two services say different things of it.",
                where=f"queue {options.name!r}",
                remedy="Declare it once, or alike.",
            )
    known = {"default", *found, *used}
    for name, said in settings.items():
        if name not in known:
            raise DeclarationError(
                f"nothing is put into a queue of this name.{nearest(name, known)}", where=f"queues.{name}"
            )
        found[name] = _as_set(found.get(name, QueueOptions(name)), said)
    return found


def _as_set(options: QueueOptions, said: QueueSettings) -> QueueOptions:
    """``options`` with what the settings say instead."""
    kept = {state: s for state, s in _kept_s(said).items() if s is not None}
    return replace(
        options,
        rate=options.rate if said.rate is None else said.rate,
        concurrency=options.concurrency if said.concurrency is None else said.concurrency,
        fair=options.fair if said.fair is None else said.fair,
        keep={**(options.keep or {}), **kept} or None,
    )


def _kept_s(said: QueueSettings) -> dict[str, float | None]:
    return {"done": said.keep_done_s, "dead": said.keep_dead_s, "cancelled": said.keep_cancelled_s}


def retention(
    settings: WorkerSettings, options: Mapping[str, QueueOptions], inbox_s: float = USUAL_KEEP.inbox_s
) -> Keep:
    """How long finished messages are kept, by queue and state, and events remembered."""
    dead_s = max(settings.retention_s, USUAL_KEEP.dead_s)
    usual = Keep(settings.retention_s, dead_s, settings.retention_s, inbox_s=inbox_s)
    queues = {
        name: Keep(
            said.keep.get("done", usual.done_s),
            said.keep.get("dead", usual.dead_s),
            said.keep.get("cancelled", usual.cancelled_s),
        )
        for name, said in options.items()
        if said.keep
    }
    return usual._replace(queues=queues) if queues else usual
