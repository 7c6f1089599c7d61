"""Overload: what is served in time at 1 to 10 times the peak, ours beside the peers, and a plot of it.

``/work`` is a read of one row and 5 ms of computing, of the server's CPU time: the machine's speed drifts by a third within
seconds, and what is compared is what a server makes of its core, not what the core was at two moments. A *run* is one contender at one load, in one fresh server, and
everything that it is judged by is measured in it, a few seconds apart: the peak, the calm before, the overload, the calm after, the peak again. Ratios are formed within a
run; rounds repeat the runs in turn. The server has a core of its own; generator and PostgreSQL share the other one, and how
much of it the generator took and how late it was are told beside the figures. A run in which other work kept the server
from its core tells of the machine: it is left out, and counted.

The first 3 s of the overload are sent and not counted: until a queue has built up even a collapsing server is quick.
Goodput is what was answered with 200 within 500 ms of the intended time; clients give up after 2 s.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from statistics import mean, median, quantiles
from typing import Any, NamedTuple

import environment
from contenders import GRANIAN, PG, RUN_PG, UVICORN, Contender, ours
from servers import LOAD_CPU, SERVER_CPU, Failed, Server

TITLE = "Overload"
ABOUT = """`/work` reads one row and computes for 5 ms of CPU time. A run is one load in a fresh server: 2.5 s of eight clients that wait for each
answer (the peak), 4 s at half the peak, 7 s at the load, 6 s at half the peak, and the peak again. Requests leave as a
Poisson process, whether or not earlier ones were answered. Goodput is compared with the mean of both peaks of its own run,
p99 with that at half the peak before and after; rounds repeat the runs in turn. The first 3 s of the load are not counted.
A request is served in time when 200 comes within 500 ms of its intended time. "well after": seconds after the load until
99 % of every half second at half the peak are served in time, in the worst run. The server has CPU 0 to itself, generator
and PostgreSQL share CPU 1. ✓ and ✗ where the middle half of the runs lies on one side. Tenfold runs with its defaults; the
peers also with the limits that their servers offer. In one more run of ours no client keeps its connection.
"""

HERE = Path(__file__).parent
OURS_IN = HERE / "http"
FACTORS = (1, 2, 5, 10)
GOALS = {2: 0.95, 5: 0.9, 10: 0.85}
PHASES = (
    ["peak", {"connections": 8}, 2.5],
    ["calm", {"peaks": 0.5}, 4.0],
    ["load", {}, 7.0],
    ["after", {"peaks": 0.5}, 6.0],
    ["peak again", {"connections": 8}, 2.5],
)
HELD_MAX = 0.05
"""Of the time of a phase in which others ran on the server's core; more tells of the machine."""
SKIP_S = {"peak": 0.5, "calm": 0.5, "load": 3.0, "after": 2.0, "peak again": 0.5}
OURS = "Tenfold/tenfold run"
MIXED = "Tenfold, by priority"
ANEW = "Tenfold/tenfold run, a connection for each request"
CONTENDERS = [
    ours("tenfold run", RUN_PG, env={name: value for name, value in PG.items() if "CACHE" not in name}),
    Contender("FastAPI/uvicorn", f"{UVICORN} fastapi_app:app"),
    Contender("FastAPI/uvicorn --limit-concurrency 32", f"{UVICORN} --limit-concurrency 32 fastapi_app:app"),
    Contender("Litestar/granian", f"{GRANIAN} asgi litestar_app:app"),
    Contender("Litestar/granian --backpressure 32", f"{GRANIAN} asgi --backpressure 32 litestar_app:app"),
]
ALL: list[list[Any]] = [["all", 1.0, "/work", ""]]
ALL_ANEW: list[list[Any]] = [["all", 1.0, "/work", "Connection: close\r\n"]]
PRIORITIES: list[list[Any]] = [
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
        stack.enter_context(_on(LOAD_CPU))
        env = {"BENCH_DSN": stack.enter_context(environment.postgres())}
        env["BENCH_REDIS"] = stack.enter_context(environment.redis())
        folders = {"tenfold": OURS_IN, "peer": stack.enter_context(_peers())}
        runs = [(contender, *load) for contender in chosen for load in _loads(contender)]
        for number in range(rounds):
            for at, (contender, who, factor, mix) in enumerate(runs):
                progress(number * len(runs) + at, rounds * len(runs), f"{who} {factor}×")
                try:
                    found = judged(
                        _run(contender, folders[contender.whose], env, out, factor, mix, number + 1)
                    )
                except (Failed, subprocess.CalledProcessError) as error:
                    print(f"{who}: {error}", file=sys.stderr)
                    continue
                rows.append({"round": number, "who": who, "factor": factor, **found})
    return rows


@contextlib.contextmanager
def _on(cpu: str) -> Generator[None]:
    """What is started here stays there, unless it says otherwise, as servers do."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(cpu)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def _peers() -> Generator[Path]:
    """The peers' programs, computing as ours do."""
    with tempfile.TemporaryDirectory(prefix="tenfold-bench-") as made:
        if (theirs := environment.SHARED / "http").exists():
            shutil.copytree(theirs, made, dirs_exist_ok=True)
            shutil.copy(OURS_IN / "burn.py", made)
            with Path(made, "shared.py").open("a") as shared:
                shared.write("\n\nfrom burn import burn\n")
        yield Path(made)


def _loads(contender: Contender) -> list[tuple[str, float, list[list[Any]]]]:
    loads: list[tuple[str, float, list[list[Any]]]] = [(contender.name, factor, ALL) for factor in FACTORS]
    if contender.whose == "tenfold":
        loads += [(MIXED, 5, PRIORITIES), (ANEW, 5, ALL_ANEW)]
    return loads


def _run(
    contender: Contender,
    folder: Path,
    env: dict[str, str],
    out: Path,
    factor: float,
    mix: list[list[Any]],
    seed: int,
) -> dict[str, Any]:
    """Figures of :mod:`openload` from one fresh server."""
    bin_ = environment.peers_bin() if contender.whose == "peer" else Path(sys.executable).parent
    server = Server(contender, folder, bin_, env, out)
    phases = [[name, how or {"peaks": factor}, seconds] for name, how, seconds in PHASES]
    try:
        server.wait()
        what = {
            "phases": phases, "skip_s": SKIP_S, "deadline_ms": 500, "give_up_s": 2, "seed": seed, "mix": mix,
            "pid": server.pid, "core": SERVER_CPU,
        }  # fmt: skip
        command = [sys.executable, str(HERE / "openload.py"), str(server.port), json.dumps(what)]
        return dict(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    finally:
        server.stop()


def judged(found: dict[str, Any]) -> dict[str, Any]:
    """What a run says. Pure."""
    by = {phase["name"]: phase for phase in found["phases"]}
    load, well_after_s = by["load"], by["after"]["well_after_s"]
    # The second peak of a server that is still ill is not what it can do.
    peaks = [by["peak"]] if well_after_s is None else [by["peak"], by["peak again"]]
    peak = mean(each["good_per_s"] for each in peaks)
    # By the server's CPU time: what other work on the machine took from it is not counted against it, nor for it.
    per_cpu_s = mean(each["good_per_s"] / max(each["server_cpu"], 1e-3) for each in peaks)
    calm = by["calm"]["took_ms"]
    if well_after_s is not None and well_after_s <= SKIP_S["after"]:
        calm = sorted(calm + by["after"]["took_ms"])
    calm_p99 = calm[min(len(calm) - 1, int(len(calm) * 0.99))] if calm else None
    return {
        "peaks": [each["good_per_s"] for each in peaks],
        "share": load["good_per_s"] / peak if peak else 0.0,
        "cpu_share": load["good_per_s"] / max(load["server_cpu"], 1e-3) / per_cpu_s if per_cpu_s else 0.0,
        "calm_share": by["calm"]["good_per_s"] / peak if peak else 0.0,
        "calm_p99": calm_p99,
        "p99": load["p99"],
        "p99_ratio": load["p99"] / calm_p99 if calm_p99 and load["p99"] else None,
        "n": [load["sent"], load["ok"], len(calm)],
        "by": load["by"],
        "server_cpu": load["server_cpu"],
        "held": max(each["held"] for each in (load, *peaks)),
        "generator_cpu": load["own_cpu"],
        "late_ms": load["late_ms"],
        "well_after_s": well_after_s,
    }


# ── results ──


def table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Medians of the runs: goodput as a share of the peak, p99 of the served in ms, seconds until all is well again."""
    lines, rows = [], sound(rows)
    for who in [*_names(rows), *([ANEW] if any(row["who"] == ANEW for row in rows) else [])]:
        peaks = [peak for row in rows if row["who"] == who for peak in row["peaks"]]
        calm = _spread(_values(rows, who, None, "calm_share"))
        calm_p99 = _spread(_values(rows, who, None, "calm_p99"))
        cells = [
            who,
            f"{median(peaks):,.0f} ({min(peaks):,.0f}–{max(peaks):,.0f})",
            f"{calm.middle:.2f}; {calm_p99.middle:,.0f}" if calm and calm_p99 else "–",
        ]
        for factor in FACTORS:
            share = _spread(_values(rows, who, factor, "share"))
            p99 = _spread(_values(rows, who, factor, "p99"))
            cells.append(f"{share.middle:.2f}; {p99.middle:,.0f}" if share and p99 else "–")
        ill = [row["well_after_s"] for row in rows if row["who"] == who and row["factor"] == 10]
        cells.append(_after(ill))
        lines.append(cells)
    return [
        "",
        "peak /s (of runs)",
        "0.5×: share; p99",
        *(f"{f:g}×: share; p99" for f in FACTORS),
        "well after s",
    ], lines


def priorities(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """At 5 times the peak: share served in each priority."""
    lines, rows = [], sound(rows)
    for name, share, *_ in PRIORITIES:
        of = [row["by"][name] for row in rows if row["who"] == MIXED]
        if of:
            served = median([one["ok"] / max(one["sent"], 1) for one in of])
            p99 = median([one["p99"] or 0.0 for one in of])
            n = sum(one["sent"] for one in of)
            lines.append([name, f"{share:.0%}", f"{n:,}", f"{served:.1%}", f"{p99:,.0f}" if served else "–"])
    return ["priority", "of the load", "N", "served", "p99 ms"], lines


def verdicts(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """What Tenfold has to reach: medians of the ratios, each formed within a run; the lowest and the highest."""
    lines, rows = [], sound(rows)
    for factor, goal in GOALS.items():
        of = [row for row in rows if row["who"] == OURS and row["factor"] == factor]
        if not of:
            continue
        share, p99 = _spread([row["share"] for row in of]), _spread(_values(rows, OURS, factor, "p99_ratio"))
        by_cpu = _spread([row["cpu_share"] for row in of])
        served, calm = sum(row["n"][1] for row in of), sum(row["n"][2] for row in of)
        if share and by_cpu:
            lines.append(
                [share.mark(goal, 1), f"goodput at {factor}×", f"≥ {goal}", str(share), f"{served:,}"]
            )
            lines.append(["", "the same for each second of the server's CPU", "", str(by_cpu), f"{served:,}"])
        if p99:
            n = f"{served:,} and {calm:,}"
            lines.append([p99.mark(2, -1), f"p99 at {factor}×, of that at 0.5×", "≤ 2", str(p99), n])
        ill = [row["well_after_s"] for row in of]
        well = all(each is not None and each <= 5 for each in ill)
        lines.append(
            ["✓" if well else "✗", f"well again after {factor}×", "≤ 5 s", _after(ill), f"{len(of)} runs"]
        )
    return ["", "what", "target", "measured: median (lowest–highest run)", "N"], lines


def soundness(rows: list[dict[str, Any]]) -> str:
    """What the figures of ours stand on."""
    of = [row for row in sound(rows) if row["who"] == OURS]
    left_out = len(rows) - len(sound(rows))
    told = f"{left_out} of {len(rows)} runs were left out, because the machine held the server up.\n"
    if not of:
        return told
    drift = [_drift(row) for row in of]
    far = [row for row in of if row["factor"] == max(FACTORS)]
    told += (
        f"In the others of ours the peak after lay {median(drift):.0%} from the peak before (at most {max(drift):.0%}), and the "
        f"server's core did other work for {max(row['held'] for row in of):.1%} of the time at most.\n"
    )
    return told + (
        f"At {max(FACTORS)}× the generator took {median(row['generator_cpu'] for row in far):.0%} of its core and was late by "
        f"{max(row['late_ms'] for row in far):.0f} ms at most; the server took {median(row['server_cpu'] for row in far):.0%} "
        "of its own.\n"
        if far
        else ""
    )


def sound(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the runs that tell of the machine."""
    return [row for row in rows if row["held"] <= HELD_MAX]


def _drift(row: dict[str, Any]) -> float:
    before, after = row["peaks"][0], row["peaks"][-1]
    return abs(after / before - 1) if before else 1.0


class Spread(NamedTuple):
    """Of a figure over the runs."""

    middle: float
    quartiles: tuple[float, float]
    low: float
    high: float

    def mark(self, goal: float, sign: int) -> str:
        """✓ or ✗ where the middle half of the runs is on one side of the goal, else "?": undecided. ``sign``: -1 where
        less is better."""
        worst, best = sorted(self.quartiles, key=lambda each: sign * each)
        return "✓" if sign * worst >= sign * goal else "✗" if sign * best < sign * goal else "?"

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.low:.2f}–{self.high:.2f})"


def _spread(values: list[float]) -> Spread | None:
    if not values:
        return None
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return Spread(median(values), (low, high), min(values), max(values))


def _values(rows: list[dict[str, Any]], who: str, factor: float | None, key: str) -> list[float]:
    return [
        row[key]
        for row in rows
        if row["who"] == who and factor in (None, row["factor"]) and row[key] is not None
    ]


def _names(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["who"] for row in rows if row["who"] not in (MIXED, ANEW)))


def _after(values: list[float | None]) -> str:
    """The latest of all runs."""
    return "not in 6" if None in values else f"{max(value or 0.0 for value in values):g} s" if values else "–"


COLOURS = ("#0b6e4f", "#c1121f", "#e07a5f", "#3d5a80", "#8d99ae")


def plot(rows: list[dict[str, Any]], to: Path) -> None:
    """Goodput as a share of the peak over the load: a small SVG by hand."""
    x = {factor: 70 + at * 120 for at, factor in enumerate((0.5, *FACTORS))}
    rows = sound(rows)
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
    for number, (name, colour) in enumerate(zip(_names(rows), COLOURS, strict=False)):
        shares = {0.5: _values(rows, name, None, "calm_share")}
        shares |= {factor: _values(rows, name, factor, "share") for factor in FACTORS}
        points = [(x[factor], _y(median(share))) for factor, share in shares.items() if share]
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
