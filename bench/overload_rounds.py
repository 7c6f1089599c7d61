"""Overload: what is served in time at 0.5 to 10 times the peak, ours beside the peers, and a plot of it.

``/work`` is a read of one row and 5 ms of computing. The peak is what wrk gets with 8 connections. Then requests leave
as a Poisson process, to a fresh server for each load; clients give up after 2 s. The first 3 s are sent and not
counted: until a queue has built up even a collapsing server is quick. Goodput is what was answered with 200 within
500 ms of the intended time.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import environment
from contenders import GRANIAN, PG, RUN_PG, UVICORN, Contender, ours
from servers import LOAD_CPU, Failed, Server

TITLE = "Overload"
ABOUT = """`/work` reads one row and computes for 5 ms. The peak is what wrk gets with 8 connections; then requests leave as a
Poisson process, whether or not earlier ones were answered, to a fresh server for each load. The first 3 s are not
counted. A request is served in time when 200 comes within 500 ms of its intended time. "well after": seconds after 7 s
at 10 times the peak until 99 % of every half second at half the peak are served in time. Tenfold runs with its
defaults; the peers also with the limits that their servers offer.
"""

HERE = Path(__file__).parent
FACTORS = (0.5, 1, 2, 5, 10)
GOALS = {2: 0.95, 5: 0.9, 10: 0.85}
SECONDS, SKIP_S, AFTER_S = 7.0, 3.0, 8.0
OURS = "Tenfold/tenfold run"
MIXED = "Tenfold, by priority"
CONTENDERS = [
    ours("tenfold run", RUN_PG, env={name: value for name, value in PG.items() if "CACHE" not in name}),
    Contender("FastAPI/uvicorn", f"{UVICORN} fastapi_app:app"),
    Contender("FastAPI/uvicorn --limit-concurrency 32", f"{UVICORN} --limit-concurrency 32 fastapi_app:app"),
    Contender("Litestar/granian", f"{GRANIAN} asgi litestar_app:app"),
    Contender("Litestar/granian --backpressure 32", f"{GRANIAN} asgi --backpressure 32 litestar_app:app"),
]
ALL = [["all", 1.0, "/work", ""]]
PRIORITIES = [
    ["critical", 0.1, "/work/critical", ""],
    ["default", 0.6, "/work", ""],
    ["sheddable", 0.3, "/work", "Tenfold-Priority: sheddable\r\n"],
]


def measure(only: list[str], rounds: int, out: Path, progress: Any) -> list[dict[str, Any]]:
    """One row per round, contender and load. A contender that fails is named and left out of that round."""
    chosen = [c for c in CONTENDERS if not only or any(part.lower() in c.name.lower() for part in only)]
    if not environment.SHARED.exists():
        chosen = [c for c in chosen if c.whose == "tenfold"]
    rows: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        env = {"BENCH_DSN": stack.enter_context(environment.postgres())}
        env["BENCH_REDIS"] = stack.enter_context(environment.redis())
        for number in range(rounds):
            for at, contender in enumerate(chosen):
                progress(number * len(chosen) + at, rounds * len(chosen), contender.name)
                try:
                    found = _round(contender, env, out)
                except (Failed, subprocess.CalledProcessError) as error:
                    print(f"{contender.name}: {error}", file=sys.stderr)
                    continue
                rows += [{"round": number, **row} for row in found]
    return rows


def _round(contender: Contender, env: dict[str, str], out: Path) -> list[dict[str, Any]]:
    def fresh(work: Callable[[int], Any]) -> Any:
        peer = contender.whose == "peer"
        folder = environment.SHARED / "http" if peer else HERE / "http"
        bin_ = environment.peers_bin() if peer else Path(sys.executable).parent
        server = Server(contender, folder, bin_, env, out)
        try:
            server.wait()
            return work(server.port)
        finally:
            server.stop()

    peak = fresh(_peak)
    rows = [
        {"who": contender.name, "factor": factor, "peak": peak, **fresh(lambda port, f=factor: _load(port, peak, f, ALL))}
        for factor in FACTORS
    ]  # fmt: skip
    if contender.whose == "tenfold":
        mixed = fresh(lambda port: _load(port, peak, 5, PRIORITIES))
        rows.append({"who": MIXED, "factor": 5, "peak": peak, **mixed})
    return rows


def _peak(port: int) -> float:
    """Answers of 200 a second, of 8 clients that wait for each."""
    command = ["taskset", "-c", LOAD_CPU, "wrk", "-t1", "-c8", "-d3s", f"http://127.0.0.1:{port}/work"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    done = re.search(r"(\d+) requests in ([\d.]+)s", told)
    if done is None:
        raise Failed(f"wrk said: {told[-200:]}")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", told)
    return (int(done[1]) - (int(bad[1]) if bad else 0)) / float(done[2])


def _load(port: int, peak: float, factor: float, mix: list[list[Any]]) -> dict[str, Any]:
    """Figures of :mod:`openload`; above the peak, half of it follows, to see how long the server is ill."""
    what = {
        "rate": peak * factor, "seconds": SECONDS, "skip_s": SKIP_S, "deadline_ms": 500, "give_up_s": 2, "seed": 1,
        "mix": mix, **({"then": [peak / 2, AFTER_S]} if factor > 1 else {}),
    }  # fmt: skip
    command = [
        "taskset",
        "-c",
        LOAD_CPU,
        sys.executable,
        str(HERE / "openload.py"),
        str(port),
        json.dumps(what),
    ]
    return dict(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


# ── results ──


def table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Medians: goodput as a share of the peak, p99 of the served in ms, seconds until all is well again."""
    lines = []
    for who in dict.fromkeys(row["who"] for row in rows if row["who"] != MIXED):
        cells = [who, f"{_middle(rows, who, 0.5, 'peak'):,.0f}"]
        for factor in FACTORS:
            share, p99 = _share(rows, who, factor), _middle(rows, who, factor, "p99")
            cells.append("–" if share is None else f"{share:.2f}; {'–' if p99 is None else f'{p99:,.0f}'}")
        ill = _middle(rows, who, 10, "recovered_s")
        lines.append([*cells, "not in 8" if ill is None else f"{ill:g}"])
    return ["", "peak /s", *(f"{f:g}×: share; p99" for f in FACTORS), "well after s"], lines


def priorities(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """At 5 times the peak: share served in each priority."""
    lines = []
    for name, share, *_ in PRIORITIES:
        of = [row["by"][name] for row in rows if row["who"] == MIXED]
        if of:
            served = median([one["ok"] / max(one["sent"], 1) for one in of])
            p99 = median([one["p99"] or 0.0 for one in of])
            lines.append([name, f"{share:.0%}", f"{served:.1%}", f"{p99:,.0f}" if served else "–"])
    return ["priority", "of the load", "served", "p99 ms"], lines


def verdicts(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """What Tenfold has to reach."""
    calm, lines = _middle(rows, OURS, 0.5, "p99"), []
    for factor, goal in GOALS.items():
        share, p99 = _share(rows, OURS, factor), _middle(rows, OURS, factor, "p99")
        if share is None or p99 is None or calm is None:
            continue
        lines.append(["✓" if share >= goal else "✗", f"goodput at {factor}×", f"≥ {goal}", f"{share:.2f}"])
        ratio = p99 / calm
        lines.append(
            ["✓" if ratio <= 2 else "✗", f"p99 at {factor}×, of that at 0.5×", "≤ 2", f"{ratio:.2f}"]
        )
        ill = _middle(rows, OURS, factor, "recovered_s")
        lines.append(
            [
                "✓" if ill is not None and ill <= 5 else "✗", f"well again after {factor}×", "≤ 5 s",
                "no" if ill is None else f"{ill:g} s",
            ]
        )  # fmt: skip
    return ["", "what", "target", "measured"], lines


def _middle(rows: list[dict[str, Any]], who: str, factor: float, key: str) -> float | None:
    found = [
        row[key] for row in rows if row["who"] == who and row["factor"] == factor and row.get(key) is not None
    ]
    return median(found) if found else None


def _share(rows: list[dict[str, Any]], who: str, factor: float) -> float | None:
    found = [row["goodput"] / row["peak"] for row in rows if row["who"] == who and row["factor"] == factor]
    return median(found) if found else None


COLOURS = ("#0b6e4f", "#c1121f", "#e07a5f", "#3d5a80", "#8d99ae")


def plot(rows: list[dict[str, Any]], to: Path) -> None:
    """Goodput as a share of the peak over the load: a small SVG by hand."""
    x = {factor: 70 + at * 120 for at, factor in enumerate(FACTORS)}
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 440" font-family="sans-serif" font-size="12">',
        '<rect width="640" height="440" fill="white"/>',
        '<text x="20" y="22" font-size="14">Served in time, as a share of the peak, over the load offered</text>',
    ]
    for share in (0, 0.25, 0.5, 0.75, 1.0):
        y = _y(share)
        parts.append(f'<line x1="60" y1="{y}" x2="570" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="52" y="{y + 4}" text-anchor="end">{share:g}</text>')
    parts += [f'<text x="{at}" y="300" text-anchor="middle">{f:g}×</text>' for f, at in x.items()]
    who = dict.fromkeys(row["who"] for row in rows if row["who"] != MIXED)
    for number, (name, colour) in enumerate(zip(who, COLOURS, strict=False)):
        shares = {factor: _share(rows, name, factor) for factor in FACTORS}
        points = [(x[factor], _y(share)) for factor, share in shares.items() if share is not None]
        line = " ".join(f"{at},{y}" for at, y in points)
        width = 3 if name == OURS else 1.5
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
        parts += [f'<circle cx="{at}" cy="{y}" r="3" fill="{colour}"/>' for at, y in points]
        y = 325 + number * 20
        parts.append(f'<line x1="60" y1="{y}" x2="90" y2="{y}" stroke="{colour}" stroke-width="{width}"/>')
        parts.append(f'<text x="98" y="{y + 4}">{name}</text>')
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text("\n".join([*parts, "</svg>"]) + "\n")


def _y(share: float) -> float:
    return round(280 - min(share, 1.1) * 220, 1)
