"""Rows to medians, ratios and verdicts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from contenders import JUDGED, Target

Rows = list[dict[str, Any]]
Table = tuple[list[str], list[list[str]]]
"""Its head and its lines."""


def values(rows: Rows, who: str, what: str, key: str) -> dict[int, float]:
    """By round."""
    return {r["round"]: r[key] for r in rows if r["who"] == who and r["what"] == what and r[key] is not None}


def middle(rows: Rows, who: str, what: str, key: str) -> float | None:
    found = values(rows, who, what, key).values()
    return median(found) if found else None


def names(rows: Rows, what: str, prefix: str = "") -> list[str]:
    """Contenders of a measure, best median first."""
    who = dict.fromkeys(r["who"] for r in rows if r["what"] == what and r["who"].startswith(prefix))
    return sorted(who, key=lambda w: -(middle(rows, w, what, "rps") or 0))


@dataclass(frozen=True, slots=True)
class Verdict:
    """``ratio``: of requests a second, formed within each round; the median, the quartiles, lowest and highest.

    ``cpu_ratio``: the same of requests per second of server CPU, which other work on the machine disturbs less.
    """

    target: Target
    base: str
    ours: str
    ratio: float
    quartiles: tuple[float, float]
    low: float
    high: float
    cpu_ratio: float
    rounds: int

    @property
    def mark(self) -> str:
        """✓ or ✗ where the middle half of the rounds is on one side of the target, else "?": undecided."""
        if self.quartiles[0] >= self.target.at_least:
            return "✓"
        return "✗" if self.quartiles[1] < self.target.at_least else "?"


def verdicts(rows: Rows, targets: Iterable[Target], judged: Sequence[str] = JUDGED) -> list[Verdict]:
    """Each of ours that is ``judged`` against the best of each target's base."""
    found = []
    for target in targets:
        bases = names(rows, target.against, target.base)
        present = names(rows, target.measure)
        found += [_verdict(rows, target, ours, bases[0]) for ours in judged if bases and ours in present]
    return found


def _verdict(rows: Rows, target: Target, ours: str, base: str) -> Verdict:
    fast = ratios((rows, ours, target.measure), (rows, base, target.against), "rps")
    cpu = ratios((rows, base, target.against), (rows, ours, target.measure), "cpu_us")
    lower, _, upper = quantiles(fast, n=4, method="inclusive") if len(fast) > 1 else fast * 3
    return Verdict(
        target, base, ours, median(fast), (lower, upper), min(fast), max(fast), median(cpu), len(fast)
    )


def ratios(over: tuple[Rows, str, str], under: tuple[Rows, str, str], key: str) -> list[float]:
    """One contender's figure at a measure divided by another's, round by round."""
    upper, lower = values(*over, key), values(*under, key)
    return [upper[n] / lower[n] for n in upper if n in lower]


def number(x: float | None) -> str:
    if x is None:
        return "–"
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def verdict_table(found: Iterable[Verdict]) -> Table:
    head = [
        "", "endpoint", "against", "ours", "target", "ratio", "middle half", "all rounds", "CPU ratio", "N",
    ]  # fmt: skip
    return head, [_verdict_cells(each) for each in found]


def _verdict_cells(v: Verdict) -> list[str]:
    return [
        v.mark, v.target.measure, f"{v.base} {v.target.beside}".strip(), v.ours, f"{v.target.at_least:g}", f"{v.ratio:.2f}",
        f"{v.quartiles[0]:.2f} … {v.quartiles[1]:.2f}", f"{v.low:.2f} … {v.high:.2f}", f"{v.cpu_ratio:.2f}", str(v.rounds),
    ]  # fmt: skip


def median_table(rows: Rows) -> Table:
    what = list(dict.fromkeys(r["what"] for r in rows))
    lines = []
    for who in dict.fromkeys(r["who"] for r in rows):
        cells = [who]
        for m in what:
            rps, cpu = (middle(rows, who, m, key) for key in ("rps", "cpu_us"))
            cells.append("–" if rps is None else f"{number(rps)} ({number(cpu)})")
        lines.append(cells)
    return ["", *what], lines
