"""``tenfold top``: what pages of metrics say, as a screen. Pure: readings in, something that rich draws out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from msgspec import Struct
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tenfold.observe.reading import Reading, Traffic, operations, quantile, traffic
from tenfold.telemetry import names

SPARKS: Final = "▁▂▃▄▅▆▇█"
ROWS_MAX: Final = 200
WIDE: Final = 110
"""Columns from which on every number is shown."""
_CPU: Final = "process_cpu_seconds_total"


class Seen(Struct, frozen=True):
    """One instance, at two times; ``error`` where it did not answer."""

    name: str
    before: Reading | None = None
    after: Reading | None = None
    error: str = ""


def screen(
    app: str, instances: Sequence[Seen], history: Sequence[float], *, rows: int = ROWS_MAX, width: int = WIDE
) -> RenderableType:
    """The whole screen; ``history`` are requests per second of earlier looks, ``rows`` how many operations fit, ``width``
    the columns of the terminal."""
    pairs = [
        (seen.before, seen.after) for seen in instances if seen.before is not None and seen.after is not None
    ]
    parts: list[RenderableType] = [_head(app, instances, pairs, history), _silent(instances)]
    if pairs:
        parts += [
            _instances(instances, width),
            Text(),
            _operations(pairs, rows, width),
            _work([after for _, after in pairs]),
        ]
    return Group(*parts)


def _head(
    app: str, instances: Sequence[Seen], pairs: Sequence[tuple[Reading, Reading]], history: Sequence[float]
) -> Text:
    every = [traffic(*pair) for pair in pairs]
    requests, errors = sum(t.requests_per_s for t in every), sum(t.errors_per_s for t in every)
    answering = f"{len(pairs)} of {len(instances)} instances" if len(instances) > 1 else ""
    line = Text.assemble(
        (app, "bold"), "  ", (f"{requests:,.1f}", "bold"), " requests/s  ",
        (f"{errors:,.1f} failed/s", "red" if errors else "dim"), "  ",
        (spark(history), "cyan"), "  ", (answering, "dim" if len(pairs) == len(instances) else "red"),
    )  # fmt: skip
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _instances(instances: Sequence[Seen], width: int) -> Table:
    table = _Rows(width, "instance", ("p50", "in flight", "limit", "lag p99"))
    for seen in instances:
        if seen.before is not None and seen.after is not None:
            table.add(_instance(seen.name, seen.before, seen.after))
    return table.made


def _instance(name: str, before: Reading, page: Reading) -> Mapping[str, RenderableType]:
    did = traffic(before, page)
    cpu = page.total(_CPU) - before.total(_CPU)
    pages = page.total(names.ALERTS, {"state": "firing", "severity": "page"})
    tickets = page.total(names.ALERTS, {"state": "firing", "severity": "ticket"})
    overloaded = page.total(f"{names.ADMISSION}_overloaded") > 0
    return {
        "instance": Text(name, style="bold"),
        "req/s": f"{did.requests_per_s:,.1f}",
        "failed/s": _counted(did.errors_per_s),
        "p50": _time(did.p50_s),
        "p99": _time(did.p99_s),
        "in flight": f"{did.in_flight:,.0f}",
        "limit": Text(f"{page.total(f'{names.ADMISSION}_limit'):,.0f}", style="red" if overloaded else ""),
        "lag p99": _time(_lag(before, page)),
        "cpu": f"{max(0.0, cpu) / max(page.at - before.at, 0.001) * 100:.0f} %",
        "memory": f"{page.total('process_resident_memory_bytes') / 1_048_576:,.0f} MiB",
        "page / ticket": Text(
            f"{pages:.0f} / {tickets:.0f}", style="bold red" if pages else "yellow" if tickets else "dim"
        ),
    }


def _silent(instances: Sequence[Seen]) -> Text:
    """Those that do not answer."""
    lines = [(f"{seen.name} does not answer: {seen.error}\n", "red") for seen in instances if seen.error]
    return Text.assemble(*lines)


def _operations(pairs: Sequence[tuple[Reading, Reading]], rows: int, width: int) -> Table:
    table = _Rows(width, "operation", ("p50", "in flight"))
    known = sorted({name for _, after in pairs for name in operations(after)})
    found = [(_together([traffic(*pair, name) for pair in pairs]), name) for name in known]
    found.sort(key=lambda each: (-each[0].requests_per_s, each[1]))
    for did, name in found[: max(1, rows)]:
        table.add(
            {
                "operation": name,
                "req/s": f"{did.requests_per_s:,.1f}",
                "failed/s": _counted(did.errors_per_s),
                "p50": _time(did.p50_s),
                "p99": _time(did.p99_s),
                "in flight": f"{did.in_flight:,.0f}",
                "bad of objective": _spent(pairs, name),
            }
        )
    if len(found) > rows:
        table.add({"operation": Text(f"and {len(found) - rows} more", style="dim")})
    return table.made


def _together(each: Sequence[Traffic]) -> Traffic:
    """Several instances as one; of percentiles the worst, since they cannot be added up."""
    p50 = [t.p50_s for t in each if t.p50_s is not None]
    p99 = [t.p99_s for t in each if t.p99_s is not None]
    return Traffic(
        each[0].operation,
        sum(t.requests_per_s for t in each),
        sum(t.errors_per_s for t in each),
        max(p50, default=None),
        max(p99, default=None),
        sum(t.in_flight for t in each),
    )


def _spent(pairs: Sequence[tuple[Reading, Reading]], name: str) -> Text:
    """Which share of the requests since the start was bad, where there is an objective."""
    labels = {names.OPERATION: name}
    all_ = sum(after.total(names.SLO_REQUESTS, labels) for _, after in pairs)
    bad = sum(after.total(names.SLO_BAD, labels) for _, after in pairs)
    texts = [
        line.labels.get(names.OBJECTIVE, "")
        for _, after in pairs
        for line in after.of(names.SLO_REQUESTS, labels)
    ]
    if not texts:
        return Text("–", style="dim")
    share = bad / all_ if all_ else 0.0
    return Text(f"{share:.2%} of {texts[0]}", style="red" if bad else "green")


def _work(pages: Sequence[Reading]) -> Text:
    """Queues, events and what was lost, in one line: they are the fleet's, so the largest number counts."""
    depth = {
        state: max(page.total(names.QUEUE_MESSAGES, {"state": state}) for page in pages)
        for state in ("ready", "running", "dead")
    }
    oldest = max(page.most(names.QUEUE_OLDEST) for page in pages)
    events = max(page.most(names.EVENTS_OLDEST) for page in pages)
    parts = [
        ("jobs  ", "bold"),
        (f"{depth['ready']:,.0f} ready  {depth['running']:,.0f} running  ", ""),
        (f"{depth['dead']:,.0f} dead  ", "red" if depth["dead"] else "dim"),
        (f"oldest {oldest:,.1f} s  ", "red" if oldest > 60 else "dim"),
    ]
    if events:
        parts.append((f"oldest unsent event {events:,.1f} s", "red" if events > 60 else "dim"))
    return Text.assemble("\n", *parts)


def _lag(before: Reading, after: Reading) -> float | None:
    found: dict[float, float] = {}
    for reading, sign in ((after, 1.0), (before, -1.0)):
        for each in reading.of(f"{names.LOOP_LAG}_bucket"):
            bound = float(each.labels.get("le", "inf"))
            found[bound] = found.get(bound, 0.0) + sign * each.value
    return quantile(found, 0.99)


def spark(values: Sequence[float]) -> str:
    """A line of blocks, the highest value as a whole one."""
    most = max(values, default=0.0)
    return "".join(
        SPARKS[min(len(SPARKS) - 1, int(value / most * len(SPARKS)))] if most else SPARKS[0]
        for value in values
    )


class _Rows:
    """A table whose less important columns are left out where the terminal is narrow."""

    def __init__(self, width: int, first: str, minor: Sequence[str]) -> None:
        self.made = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        self._first, self._minor = first, minor if width < WIDE else ()
        self._columns: list[str] = []

    def add(self, row: Mapping[str, RenderableType]) -> None:
        if not self._columns:
            self._columns = [column for column in row if column not in self._minor]
            for column in self._columns:
                justify: Literal["left", "right"] = "left" if column == self._first else "right"
                self.made.add_column(column, justify=justify, no_wrap=True, overflow="ellipsis")
        self.made.add_row(*(row.get(column, "") for column in self._columns))


def _time(seconds: float | None) -> Text:
    if seconds is None:
        return Text("–", style="dim")
    text = f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
    return Text(text, style="red" if seconds >= 1 else "yellow" if seconds >= 0.25 else "")


def _counted(per_s: float) -> Text:
    return Text(f"{per_s:,.1f}", style="red" if per_s else "dim")
