"""The autoscaler in simulated time beside one that knows thresholds only: ``PYTHONPATH=src:tests python
bench/autoscale_rounds.py [docs/plots/autoscale.svg]``.

Prints a table, and draws one recorded day and one spike. It needs no machine to itself: time is simulated, and two runs give
the same numbers. SHOP_LEDGER names the ledger that the day is made from (tests/support/scaling.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean

from support.scaling import Decides, Fleet, Ran, Threshold, any_spike, ramp, recorded, spike, square, wave
from tenfold._core.sections import ScaleSettings
from tenfold.runtime.scale import Scaler

HEIGHTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.2, 1.5, 1.9)
PEAKS = (2.0, 3.3, 5.0, 7.5, 12.0)
WIDTH, HEIGHT, LEFT, GAP = 860, 190, 56, 70
SCALERS: dict[str, Callable[[], Decides]] = {
    "tenfold": lambda: Scaler(ScaleSettings()),
    "thresholds": Threshold,
}
COLOURS = {"load": "#8a93a5", "tenfold": "#18794e", "thresholds": "#d4621a"}


def rows() -> Iterator[tuple[str, str, list[Ran]]]:
    """(traffic, scaler, runs)"""
    for name, scaler in SCALERS.items():
        yield "recorded", name, [Fleet(scaler()).run(*recorded(peak=peak)) for peak in PEAKS]
        yield "spike ×8", name, [Fleet(scaler(), seed=round(h * 100)).run(spike(h), 3600.0) for h in HEIGHTS]
        yield "any spike", name, [any_spike(scaler(), seed) for seed in range(200)]
        yield "wave", name, [Fleet(scaler()).run(wave(), 86_400.0)]
        yield "ramp", name, [Fleet(scaler()).run(ramp(), 3600.0)]
        yield (
            "square",
            name,
            [Fleet(scaler()).run(square(half=half), 7200.0) for half in (30.0, 150.0, 400.0)],
        )


def table() -> Iterator[str]:
    """Markdown."""
    yield "| traffic | scaler | runs | time in target: mean, least | instance-hours over the ideal: mean, 9 of 10, most | changes of direction in the worst hour |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for traffic, name, runs in rows():
        target, cost = [ran.in_target for ran in runs], sorted(ran.cost for ran in runs)
        turns = max(ran.turns_per_hour() for ran in runs)
        yield (
            f"| {traffic} | {name} | {len(runs)} | {mean(target):.2%}, {min(target):.2%} "
            f"| {mean(cost):.2f}, {cost[(len(cost) * 9 - 1) // 10]:.2f}, {cost[-1]:.2f} | {turns} |"
        )


def plot(to: Path) -> None:
    """Instances over time, a panel for each traffic."""
    traffic, seconds = recorded()
    panels = [
        ("a recorded day", traffic, seconds / 2),
        ("eight times as much for 20 minutes", spike(), 3600.0),
    ]
    height = len(panels) * (HEIGHT + GAP) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + LEFT + 40} {height}" font-family="system-ui, '
        'sans-serif" font-size="13" role="img" aria-label="Load and instances over time">',
        "<style>text{fill:#5d6678}.grid{stroke:#8a93a5;stroke-opacity:.3}polyline{fill:none}</style>",
    ]
    for number, (title, load, lasts) in enumerate(panels):
        runs = {name: Fleet(scaler()).run(load, lasts) for name, scaler in reversed(SCALERS.items())}
        parts += _panel(title, runs, lasts, 30 + number * (HEIGHT + GAP))
    for number, (name, colour) in enumerate(COLOURS.items()):
        at = LEFT + number * 180
        text = "load, in instances" if name == "load" else name
        parts.append(
            f'<line x1="{at}" x2="{at + 24}" y1="{height - 12}" y2="{height - 12}" stroke="{colour}" stroke-width="3"/>'
        )
        parts.append(f'<text x="{at + 30}" y="{height - 8}">{text}</text>')
    to.write_text("\n".join([*parts, "</svg>"]) + "\n")


def _panel(title: str, runs: dict[str, Ran], lasts: float, top: float) -> Iterator[str]:
    most = max(count for ran in runs.values() for _, _, count in ran.line)
    y = lambda value: round(top + HEIGHT - value / most * HEIGHT, 1)  # noqa: E731 - a scale
    x = lambda at: float(round(LEFT + at / lasts * WIDTH))  # noqa: E731 - a scale
    yield f'<text x="{LEFT}" y="{top - 10}">{title}</text>'
    for value in range(0, most + 1, 2):
        yield f'<line class="grid" x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y(value)}" y2="{y(value)}"/>'
        yield f'<text x="{LEFT - 8}" y="{y(value) + 4}" text-anchor="end">{value}</text>'
    for part in range(5):
        at = lasts * part / 4
        told = f"{at / 3600:.3g} h" if lasts > 7200 else f"{at / 60:.0f} min"
        yield f'<text x="{x(at)}" y="{top + HEIGHT + 18}" text-anchor="middle">{told}</text>'
    for name, ran in runs.items():
        width = 2.5 if name == "tenfold" else 0.6
        yield _line(COLOURS[name], width, [(x(at), y(count)) for at, count in _steps(ran)])
    line = next(iter(runs.values())).line
    every = max(1, len(line) // 300)
    yield _line(COLOURS["load"], 2.0, [(x(at), y(load)) for at, load, _ in line[::every]])


def _steps(ran: Ran) -> Iterator[tuple[float, int]]:
    """The corners of the ready instances over time."""
    before = -1
    for at, _, count in ran.line:
        if count != before:
            if before >= 0:
                yield at, before
            yield at, count
            before = count
    yield ran.line[-1][0], before


def _line(colour: str, width: float, points: list[tuple[float, float]]) -> str:
    near = list(dict.fromkeys(points))  # thousands of moves fall on the same pixels
    return f'<polyline stroke="{colour}" stroke-width="{width}" points="{" ".join(f"{a:g},{b:g}" for a, b in near)}"/>'


if __name__ == "__main__":
    print("\n".join(table()))
    plot(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/plots/autoscale.svg"))
